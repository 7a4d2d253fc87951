"""`defib run --autopsy`: the unmodified script, its deaths explained, and what a kill leaves of that."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from launching import TRAIN, Script, both, defib, environment, kill, until_line

import defib as api
from defib.core.kill import EXHIBIT, Culprit, LayerKill

DYING = (
    TRAIN
    + """
train(40)
optimizer.zero_grad()
model(torch.randn(16, 4)).pow(2).mean().backward()
model[0].bias.grad[:6] = 50.0
optimizer.step()
train(150)
print("dead", flush=True)
print(sum(float(p.detach().sum()) for p in model.parameters()))
"""
)


def kills(record: Path) -> list[LayerKill]:
    view = api.open_run(record).view
    return [LayerKill.from_exhibit(e.facts, e.arrays) for e in view.exhibits if e.kind == EXHIBIT]


def test_the_script_runs_as_ever_and_its_record_says_what_the_units_died_of(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    bare, watched = both(Script(text=DYING), tmp_path / "here", "--autopsy")
    assert (watched.code, watched.out) == (bare.code, bare.out)
    assert "cause of death: own update" in " ".join(watched.err.split())
    (kill_,) = kills(tmp_path / "watched.rec")
    assert 4 <= len(kill_.units) <= 6
    assert set(kill_.units) <= set(range(6))
    assert set(kill_.culprits) == {Culprit.OWN}
    assert (kill_.crossing == 40).all()
    facts = api.open_run(tmp_path / "watched.rec").view.facts["autopsy"]
    assert facts["on"]
    assert facts["steps"] == 1


def test_a_setting_does_the_same_as_the_option_and_without_either_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(DYING)
    defib("run", "-q", "-o", "a.rec", "script.py", folder=tmp_path)
    defib("run", "-q", "-o", "b.rec", "script.py", folder=tmp_path, extra={"DEFIB_AUTOPSY": "1"})
    assert kills(tmp_path / "a.rec") == []
    assert len(kills(tmp_path / "b.rec")) == 1
    small = {"DEFIB_AUTOPSY": "1", "DEFIB_AUTOPSY_MEMORY": "0"}
    refused = defib("run", "-q", "-o", "c.rec", "script.py", folder=tmp_path, extra=small)
    assert refused.code == 64
    assert refused.err.strip().endswith("memory is a whole number of MiB, at least 1, not '0'")


@pytest.mark.slow
def test_a_killed_run_keeps_the_autopsies_that_were_flushed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(DYING + "while True: train(1)\n")
    command = [sys.executable, "-m", "defib", "run", "-q", "--autopsy", "-o", "run.rec", "script.py"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE) as process:
        until_line(process, b"dead")
        time.sleep(3.0)  # a flush comes every two seconds at the latest
        kill(process)
    (kill_,) = kills(tmp_path / "run.rec")
    assert (kill_.crossing == 40).all()
