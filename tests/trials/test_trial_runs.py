"""Whole trials of a small script: paired, resumable, on this machine and on Ray."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import defib
from defib.core.errors import OutputError, UsageError
from defib.trials.book import OUTCOMES, Book
from defib.trials.design import Measure, Script
from defib.trials.runner import Request, conduct

SCRIPT = """
import numpy as np, random, torch
from torch import nn
torch.manual_seed(3)
np.random.seed(4)
x = torch.randn(128, 4)
y = x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for step in range(80):
    i = torch.from_numpy(np.random.choice(128, 16))
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x[i]), y[i])
    loss.backward()
    optimizer.step()
print("final loss", loss.item())
"""


@pytest.fixture
def script(tmp_path: Path) -> Script:
    (tmp_path / "train.py").write_text(SCRIPT)
    return Script(target="train.py", is_module=False, arguments=(), folder=str(tmp_path))


def request_of(script: Script, **more: object) -> Request:
    asked = {"arms": ("scale-lr:factor=30",), "seeds": 2, "random": False, **more}
    return Request(script=script, measure=Measure(), **asked)  # type: ignore[arg-type]


def losses(folder: Path, run: str) -> np.ndarray:
    return defib.open_run(folder / "runs" / run / "run.rec").view.loss.values


def test_a_trial_pairs_its_arms_and_goes_on_after_a_kill(tmp_path: Path, script: Script) -> None:
    folder = tmp_path / "t"
    verdict = conduct(request_of(script), folder)
    arm = "scale-lr-factor-30"
    assert verdict.comparisons[0].difference > 0  # type: ignore[operator]
    # The same seed gives the same first batch and weights, another seed gives others.
    assert losses(folder, "control-seed0")[0] == losses(folder, f"{arm}-seed0")[0]
    assert losses(folder, "control-seed1")[0] == losses(folder, f"{arm}-seed1")[0]
    assert losses(folder, "control-seed0")[0] != losses(folder, "control-seed1")[0]

    book = folder / OUTCOMES
    lines = book.read_text().splitlines(keepends=True)
    book.write_text("".join(lines[:-1]) + lines[-1][:20])  # killed while it wrote the last line
    times = {p: p.stat().st_mtime_ns for p in folder.glob("runs/*/stdout")}
    again = conduct(request_of(script), folder)
    rerun = [p.parent.name for p, t in times.items() if p.stat().st_mtime_ns != t]
    assert rerun == [json.loads(lines[-1])["job"]]
    assert again.comparisons == verdict.comparisons


def test_seed_shift_zero_is_the_script_as_it_is(tmp_path: Path, script: Script) -> None:
    plain = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    command = [sys.executable, "-m", "defib", "run", "-q", "-o", "r.rec", "--seed-shift", "0", "train.py"]
    shifted = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shifted.stdout == plain.stdout


def test_a_folder_of_another_trial_is_refused(tmp_path: Path, script: Script) -> None:
    Book(tmp_path / "t", request_of(script).plan())
    with pytest.raises(UsageError, match="another trial"):
        Book(tmp_path / "t", request_of(script, seeds=5).plan())


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, script: Script) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="no trial"):
        Book(tmp_path / "t", request_of(script).plan())
    assert [p.name for p in (tmp_path / "t").iterdir()] == ["thesis.txt"]


@pytest.mark.filterwarnings("default")
def test_the_same_trial_runs_on_a_real_ray(tmp_path: Path, script: Script) -> None:
    pytest.importorskip("ray")
    local = conduct(request_of(script, seeds=1), tmp_path / "local")
    on_ray = conduct(request_of(script, seeds=1), tmp_path / "ray", on="ray")
    assert [o.loss for o in on_ray.outcomes] == [o.loss for o in local.outcomes]
    assert on_ray.comparisons == local.comparisons


@pytest.mark.parametrize(
    "words",
    [
        ["--seeds", "0", "train.py"],
        ["--budget", "much", "train.py"],
        ["--on", "moon", "train.py"],
        ["--metric", "(", "train.py"],
        ["--arms", "no-such-thing", "train.py"],
        [],
        ["missing.py"],
    ],
)
def test_a_bad_request_is_one_line_and_an_exit_code(tmp_path: Path, script: Script, words: list[str]) -> None:
    command = [sys.executable, "-m", "defib", "trial", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in {64, 66}
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stdout == ""
