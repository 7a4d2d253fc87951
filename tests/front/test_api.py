"""The verbs: open a record, judge it, watch a run, conclude a script."""

import io
import json
import shutil
import subprocess
import sys

import pytest

import defib
from defib import api, live, script
from defib.core.cause import Fault
from defib.core.config import Settings
from defib.core.diagnosis import Diagnosis, Verdict
from defib.core.errors import NotFound, OutputError, UsageError
from defib.core.finding import Severity
from defib.core.run import RunView
from defib.report.json import to_json


def foldable(text):
    """The lines that may be folded: one with a path stays in one piece, to be pasted."""
    return [line for line in text.splitlines() if not line.startswith(("record ", "next "))]


def test_a_record_is_opened_and_judged(record):
    with defib.open_run(record) as run:
        assert run.path == record
        assert isinstance(run.view, RunView)
        diagnosis = run.diagnose()
    assert isinstance(diagnosis, Diagnosis)
    assert diagnosis.verdict == Verdict.SICK
    assert diagnosis.findings[0].fault == Fault.DEAD_UNITS
    assert diagnosis.findings[0].layer == "fc1"
    assert diagnosis.findings[0].units == tuple(range(8))


def test_a_path_a_run_and_its_data_give_the_same_answer(record):
    answers = [defib.diagnose(given) for given in (record, str(record), defib.open_run(record))]
    answers.append(defib.diagnose(defib.open_run(record).view))
    assert len({to_json(answer) for answer in answers}) == 1


def test_reading_is_put_off_until_needed_and_forgotten_on_close(record):
    run = defib.open_run(record)
    assert "view" not in vars(run)
    first = run.view
    assert run.view is first
    run.close()
    assert run.view is not first


@pytest.mark.parametrize("path", ["nothing.rec", "", "a\0b", "x" * 5000])
def test_opening_nothing_is_not_found(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if path:
        with pytest.raises(NotFound, match="no such record"):
            defib.open_run(path)


def test_json_on_the_command_line_is_the_api_s_answer(record, defib):
    done = defib("diagnose", str(record), "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout == to_json(api.diagnose(record, Settings())) + "\n"


def test_text_on_the_command_line_names_fault_place_and_record(record, defib):
    done = defib("diagnose", str(record))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("defib: sick: ")
    assert "all 8 units" in done.stdout
    assert "defib explain dead-unit" in done.stdout
    assert "small.rec" in done.stdout
    assert max(map(len, foldable(done.stdout))) <= 80
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(("limit", "code"), [("error", 1), ("warning", 1), ("info", 1)])
def test_a_gate_fails_on_a_sick_run(record, defib, limit, code):
    assert defib("diagnose", str(record), "--fail-on", limit).returncode == code


def test_a_gate_lets_a_healthy_run_pass(healthy_record, defib):
    done = defib("diagnose", str(healthy_record), "--fail-on", "warning")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("defib: healthy")


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.7, 0.9])
def test_a_record_that_lost_a_part_is_never_called_healthy(healthy_record, tmp_path, defib, kept):
    damaged = tmp_path / "damaged.rec"
    shutil.copytree(healthy_record, damaged)
    for file in damaged.glob("rank-*.db"):
        file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    assert json.loads(defib("diagnose", str(healthy_record), "--json").stdout)["verdict"] == "healthy"
    done = defib("diagnose", str(damaged), "--json")
    if done.returncode:  # too little is left of it to be read
        assert (done.returncode, done.stderr.count("\n")) == (65, 1)
    else:
        assert json.loads(done.stdout)["verdict"] == "not-observed"
        assert "damaged or lost" in defib("diagnose", str(damaged)).stdout
    assert defib("diagnose", str(damaged), "--fail-on", "error").returncode != 0


def test_a_gate_stays_shut_for_a_run_that_nobody_saw(empty_record, defib):
    assert defib("diagnose", str(empty_record)).returncode == 0
    done = defib("diagnose", str(empty_record), "--fail-on", "error")
    assert done.returncode == 1
    assert done.stdout.startswith("defib: not observed")


def test_something_else_than_a_record_is_one_line(defib, tmp_path):
    (tmp_path / "text").write_text("hello")
    (tmp_path / "folder").mkdir()
    for name in ("text", "folder"):
        done = defib("diagnose", name)
        assert (done.returncode, done.stdout) == (65, "")
        assert done.stderr.count("\n") == 1


def test_limits_of_rules_come_from_the_settings(record, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("[tool.defib.rules.dead-unit]\nno_such_limit = 3\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no_such_limit"):
        defib.diagnose(record)


def test_limits_for_a_rule_that_nobody_knows_are_refused(record, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("[tool.defib.rules.dead-unitt]\nx = 3\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no rule 'dead-unitt'"):
        defib.diagnose(record)


def said(stream: str, monkeypatch, path, quiet: bool = False) -> str:
    caught = io.StringIO()
    monkeypatch.setattr(sys, stream, caught)
    script.conclude(path, quiet)
    return caught.getvalue()


def test_a_script_s_end_is_one_block_on_stderr(record, monkeypatch):
    text = said("stderr", monkeypatch, record)
    assert text.startswith("\ndefib: sick: ")
    assert text.endswith("\n")
    assert max(map(len, foldable(text))) <= 80


def test_nothing_is_said_when_asked_to_be_quiet(record, monkeypatch):
    assert said("stderr", monkeypatch, record, quiet=True) == ""


def test_only_the_first_rank_speaks(record, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    assert said("stderr", monkeypatch, record) == ""


def test_a_record_that_is_gone_is_one_line_at_the_end(tmp_path, monkeypatch):
    assert said("stderr", monkeypatch, tmp_path / "gone.rec").startswith("\ndefib: no such record: ")


def test_a_closed_stderr_harms_nobody_at_the_end(record, monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    script.conclude(record)
    monkeypatch.setattr(sys, "stderr", None)
    script.conclude(record)


def test_concluding_imports_no_torch(record, clean):
    code = f"""
import sys
from pathlib import Path
from defib.script import conclude
conclude(Path({str(record)!r}))
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean, timeout=60)
    assert done.stdout == "False\n"
    assert "defib: sick" in done.stderr


torch = pytest.importorskip("torch")


def trained(run: "live.LiveRun | None", net: "torch.nn.Module", steps: int = 12) -> None:
    """Trains a small classifier on noise."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    source = torch.Generator().manual_seed(0)
    for _ in range(steps):
        x = torch.randn(32, 4, generator=source)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()


def network(dead: bool = False) -> "torch.nn.Sequential":
    """4-8-2 with a ReLU; on request every hidden unit is born dead."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    if dead:
        torch.nn.init.constant_(net[0].bias, -100.0)
    return net


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder without settings."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_live_run_is_judged_while_it_trains_and_afterwards(here):
    net = network(dead=True)
    with defib.watch(net, output=here / "a.rec", every=1) as run:
        trained(run, net, 200)
        during = run.diagnose()
        assert run.is_open
    assert not run.is_open
    assert run.faults == 0
    assert run.record_fault is None
    assert run.readings > 0
    assert during.findings[0].fault == Fault.DEAD_UNITS
    assert during.findings[0].severity == Severity.ERROR
    assert run.diagnose().findings[0].units == tuple(range(8))
    assert run.diagnose().coverage.steps == 200
    assert defib.diagnose(here / "a.rec").run["status"] == "finished"


def test_watching_twice_gives_the_same_run(here):
    net, other = network(), network()
    run = defib.watch(net, output="a.rec")
    assert defib.watch(net) is run
    assert defib.watch([other, net]) is run
    assert defib.watch(net, output="b.rec") is run
    with defib.watch(other, output="c.rec") as second:
        assert second is not run
    run.close()
    run.close()
    again = defib.watch(net, output="d.rec")
    assert again is not run
    again.close()
    assert sorted(p.name for p in here.glob("*.rec")) == ["a.rec", "c.rec", "d.rec"]


def test_watching_everything_covers_any_model(here):
    with defib.watch(output="a.rec") as run:
        assert defib.watch(network()) is run


def test_a_record_gets_a_name_of_its_own(here):
    paths = []
    for _ in range(3):
        with defib.watch(network()) as run:
            paths.append(run.path)
    assert len(set(paths)) == 3
    assert all(path.parent == here and path.suffix == ".rec" for path in paths)


def test_the_output_folder_of_the_settings_is_used(here):
    (here / "pyproject.toml").write_text('[tool.defib]\noutput = "runs"\n')
    with defib.watch(network()) as run:
        assert run.path.parent == here / "runs"


def test_a_record_that_is_there_is_not_overwritten(here):
    net = network()
    defib.watch(net, output="a.rec").close()
    with pytest.raises(OutputError):
        defib.watch(net, output="a.rec")
    defib.watch(net, output="a.rec", force=True).close()


@pytest.mark.parametrize(("name", "value"), [("budget", 7), ("budget", "x"), ("every", 0), ("every", "x")])
def test_a_bad_argument_is_told_before_anything_is_made(here, name, value):
    with pytest.raises(UsageError):
        defib.watch(network(), output="a.rec", **{name: value})
    assert list(here.iterdir()) == []


def test_an_error_in_the_training_loop_marks_the_run_and_is_not_swallowed(here):
    with pytest.raises(ZeroDivisionError), defib.watch(network(), output="a.rec"):
        raise ZeroDivisionError
    assert defib.open_run("a.rec").view.facts["status"] == "interrupted"


def test_a_run_that_is_never_closed_is_complete_at_exit(here, clean):
    code = """
import torch, defib
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
run = defib.watch(net, output="a.rec")
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(7):
    optimizer.zero_grad()
    net(torch.randn(3, 4)).sum().backward()
    optimizer.step()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=clean, cwd=here, timeout=120)
    view = defib.open_run(here / "a.rec").view
    assert view.facts["status"] == "finished"
    assert view.steps == 7
