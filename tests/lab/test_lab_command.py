"""``defib lab`` as a user types it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

SLUG = "dead-unit-gradients"


def lab(*words, cwd, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "defib", "lab", *words], cwd=cwd, capture_output=True, text=True, **kwargs
    )


def test_it_lists_experiments_as_text_and_as_json(tmp_path):
    text = lab(cwd=tmp_path)
    assert text.returncode == 0
    assert SLUG in text.stdout
    assert max(map(len, text.stdout.splitlines())) <= 80
    listed = json.loads(lab("--json", cwd=tmp_path).stdout)["experiments"]
    assert {"name", "topic", "question", "rows", "dials"} == set(listed[0])
    assert SLUG in [experiment["name"] for experiment in listed]


def test_a_run_prints_parts_and_verdicts_and_keeps_its_result(tmp_path):
    done = lab("run", SLUG, "--scale", "quick", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "S0-1" in done.stdout
    assert "-> true" in done.stdout
    kept = list((tmp_path / "defib-lab").glob("*.json"))
    assert len(kept) == 1
    stamp = kept[0].stat().st_mtime_ns
    assert lab("run", SLUG, "--scale", "quick", cwd=tmp_path).stdout == done.stdout
    assert kept[0].stat().st_mtime_ns == stamp, "a kept result must not be measured again"


def test_a_dial_changes_the_verdict(tmp_path):
    done = lab("run", SLUG, "--scale", "quick", "--set", "slope=0.1", "--json", cwd=tmp_path)
    result = json.loads(done.stdout)["results"][0]
    assert result["verdicts"]["S0-1"] == "false"
    assert result["dials"]["slope"] == 0.1


def test_show_prints_claim_and_prediction(tmp_path):
    text = lab("show", SLUG, cwd=tmp_path).stdout
    for word in ("Prediction", "Method", "slope = 0.0", f"defib lab run {SLUG}"):
        assert word in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("run",), 64, "takes experiments"),
        (("run", "dead-unit-gradient"), 66, "did you mean"),
        (("run", SLUG, "--set", "slop=1"), 64, "no dial 'slop'"),
        (("run", SLUG, "--set", "slope"), 64, "KEY=VALUE"),
        (("run", SLUG, "--set", "slope=steep"), 64, "not a number"),
        (("run", SLUG, "--set", "networks=1.5"), 64, "not a whole number"),
        (("run", SLUG, "--scale", "huge"), 64, "quick, small or paper"),
        (("run", SLUG, "--seed", "-1"), 64, "--seed"),
        (("run", SLUG, "--seeds", "0"), 64, "--seeds takes a whole number from 1"),
        (("run", SLUG, "--jobs", "two"), 64, "--jobs"),
        (("show",), 64, "takes one experiment"),
        (("show", "nothing"), 66, "no experiment"),
        (("dance",), 64, "there are run, show"),
    ],
)
def test_what_cannot_be_understood_is_one_clear_line(words, code, said, tmp_path):
    done = lab(*words, cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "defib-lab").exists(), "nothing may be run before every word is understood"


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = lab("run", SLUG, "--scale", "quick", "-o", "file/inside", cwd=tmp_path)
    assert done.returncode == 73
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_damaged_result_is_measured_again(tmp_path):
    first = lab("run", SLUG, "--scale", "quick", cwd=tmp_path)
    kept = next((tmp_path / "defib-lab").glob("*.json"))
    kept.write_text(kept.read_text()[:100])
    again = lab("run", SLUG, "--scale", "quick", cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout.splitlines()[4:] == first.stdout.splitlines()[4:]
    json.loads(kept.read_text())


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_lab_that_was_stopped_goes_on_where_it_was(tmp_path):
    words = [sys.executable, "-m", "defib", "lab", "run", SLUG, "--seeds", "40", "--jobs", "1"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = tmp_path / "defib-lab"
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*.json")) if folder.exists() else []) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert 2 <= len(kept) < 40
    assert not list(folder.glob("*.part"))
    assert lab("run", SLUG, "--seeds", "40", cwd=tmp_path).returncode == 0
    assert len(list(folder.glob("*.json"))) == 40
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())
