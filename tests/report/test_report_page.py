"""The page as a file: self-contained, safe by construction, and never over somebody else's file."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import HOSTILE, trained, written

import defib
from defib.core.errors import OutputError
from defib.report.html import embedded, page, policy
from defib.report.output import refuse_unless_free
from defib.report.whole import write_text
from defib.views import portray, write_report

SCRIPT = re.compile(r"<script>(.*?)</script>", re.S)
DATA = re.compile(r'<script type="application/json" id="portrait">(.*?)</script>', re.S)


def run_defib(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "defib", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@given(st.recursive(st.text() | st.sampled_from(HOSTILE) | st.integers() | st.none(), st.lists, max_leaves=5))
def test_embedded_data_holds_nothing_that_could_be_markup_and_comes_back_exactly(data: object) -> None:
    text = embedded(data)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == data


def test_the_policy_names_every_script_and_style_of_the_page_and_nothing_else(tmp_path: Path) -> None:
    text = page(portray(written(tmp_path / "run.rec")), scripts=("window.more = 1;",))
    said = re.search(r'Content-Security-Policy" content="(.*?)"', text)
    assert said is not None
    assert said[1] == policy(scripts=("window.more = 1;",))

    def hashed(part: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"

    scripts = SCRIPT.findall(text)
    styles = re.findall(r"<style>(.*?)</style>", text, re.S)
    assert scripts[-1] == "window.more = 1;"
    assert re.search(r"script-src ([^;]*)", said[1])[1].split() == [hashed(s) for s in scripts]  # type: ignore[index]
    assert f"style-src {hashed(styles[0])};" in said[1]
    assert "unsafe" not in said[1]
    assert "default-src 'none'" in said[1]
    assert "connect-src 'none'" in said[1]
    assert "connect-src 'self'" in policy(live=True)


def test_the_page_asks_for_nothing_from_outside(tmp_path: Path) -> None:
    text = DATA.sub("", page(portray(written(tmp_path / "run.rec"))))
    assert not re.search(r"<(link|iframe|object|embed|img|base)\b", text)
    assert not re.search(r"\b(src|href)\s*=\s*[\"'](?!#)", text)
    assert not re.search(r"@import|url\(", text)


def test_no_script_of_ours_makes_markup_of_text() -> None:
    for script in SCRIPT.findall(page(None)):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", script
        )


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_title_and_sentence_are_text(name: str) -> None:
    text = page({"title": name, "verdict": {"sentence": name}})
    assert json.loads(DATA.search(text)[1])["title"] == name  # type: ignore[index]
    outside = DATA.sub("", text)
    assert len(SCRIPT.findall(outside)) == len(SCRIPT.findall(page(None)))
    assert "<img" not in outside
    assert "<svg" not in outside
    text.encode("utf-8")


def test_a_report_is_written_and_a_newer_one_replaces_it(tmp_path: Path) -> None:
    written(tmp_path / "run.rec")
    done = run_defib("report", "run.rec", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "report    report.html\n"
    first = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "defib report run.rec" in first
    assert run_defib("report", "run.rec", "-o", "report.html", cwd=tmp_path).returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "run.rec"]
    assert (tmp_path / "report.html").stat().st_size < 500_000


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["report", "run.rec", "-o", "mine.html"], 73, "mine.html is there and is no report of defib"),
        (["report", "run.rec", "-o", "folder"], 73, "folder is a folder"),
        (["report", "run.rec", "-o", "nowhere/r.html"], 73, "there is no folder nowhere"),
        (["report", "none.rec"], 66, "no such record: none.rec"),
        (["report", "folder"], 65, "is not a defib record"),
        (["report", "mine.html"], 65, "mine.html"),
        (["report"], 64, "RUN"),
    ],
)
def test_bad_input_is_one_clear_line_and_changes_nothing(
    tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    written(tmp_path / "run.rec")
    (tmp_path / "folder").mkdir()
    (tmp_path / "mine.html").write_text("<html>mine</html>")
    done = run_defib(*words, cwd=tmp_path)
    assert done.returncode == code
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "mine.html").read_text() == "<html>mine</html>"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "mine.html", "run.rec"]


def test_somebody_elses_file_is_replaced_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "mine.html"
    path.write_text("mine")
    with pytest.raises(OutputError):
        refuse_unless_free(path)
    refuse_unless_free(path, force=True)
    write_text(path, page(None), force=True)
    refuse_unless_free(path)
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full to fail on")
def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_text(tmp_path / ("n" * 300), "text", force=True)  # a name longer than the system takes
    assert list(tmp_path.iterdir()) == []


def test_a_finding_that_is_gone_after_its_treatment_is_told_as_gone(tmp_path: Path) -> None:
    shown = portray(trained(tmp_path / "treated.rec", treat_at=60))
    assert [t["aftermath"] for t in shown["treated"]] == ["gone"]
    assert shown["verdict"]["word"] == "healthy"
    assert shown["verdict"]["sentence"].startswith("Learning again: dead-unit in layer 2 is gone since")
    assert any(e["kind"] == "treatment" and e["step"] == 61 for e in shown["events"])


def test_a_sick_run_is_shown_with_its_prescription_and_the_command_to_type(tmp_path: Path) -> None:
    record = trained(tmp_path / "sick.rec")
    path = write_report(record, tmp_path / "sick.html")
    shown = json.loads(DATA.search(path.read_text(encoding="utf-8"))[1])  # type: ignore[index]
    assert shown["verdict"]["word"] == "sick"
    assert shown["verdict"]["sentence"].startswith("16 of 16 units of layer 2")
    card = shown["findings"][0]
    assert (card["rule"], card["layer"], card["row"]) == ("dead-unit", "2", 1)
    slugs = [p.treatment for p in defib.prescribe(record)]
    assert [p["treatment"] for p in card["prescriptions"]] == slugs[: len(card["prescriptions"])]
    assert card["prescriptions"]
    assert all(p["command"].startswith("defib ") for p in card["prescriptions"] if not p["patch"])
    assert {p["kind"] for p in card["plots"]} == {"row", "units", "loss"}
    assert shown["pages"]["dead-unit"]


def test_the_trial_that_a_record_was_made_for_is_shown_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    folder.mkdir()
    record = written(folder / "run.rec")
    assert portray(record)["trials"] is None
    verdict = {
        "schema": "defib.trial/1",
        "best": "scale-lr",
        "measure": "loss",
        "goal": "lower",
        "comparisons": [],
    }
    (folder / "verdict.json").write_text(json.dumps(verdict))
    assert portray(record)["trials"]["best"] == "scale-lr"
    (folder / "verdict.json").write_text('{"schema": "another"}')
    assert portray(record)["trials"] is None
