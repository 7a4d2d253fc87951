"""A treated run is ended early exactly where it does no better than the control on the same batches."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import defib
from defib.core.prescription import Prescription, Safety
from defib.core.series import Series
from defib.core.trial import Goal, Outcome
from defib.trials.design import Arm, Job, Measure, Script
from defib.trials.race import CLEARLY, Mark, from_file, gain, marks_of, to_text
from defib.trials.runner import Request, conduct
from defib.trials.search import Tried, search


def series(values: "np.ndarray") -> Series:
    return Series(steps=np.arange(len(values)), values=np.asarray(values, dtype=np.float64))


def noisy(level: float, steps: int = 200, seed: int = 0) -> Series:
    """A loss around a level; the same batches make the same noise."""
    return series(level * np.exp(0.2 * np.random.default_rng(seed).standard_normal(steps)))


def the_mark(control: Series) -> Mark:
    return marks_of(control)[0]


def test_marks_lie_at_a_quarter_and_a_half_of_the_control() -> None:
    assert [m.step for m in marks_of(noisy(1.0))] == [50, 100]


def test_a_loss_that_is_lower_on_the_same_batches_goes_on() -> None:
    found = gain(the_mark(noisy(1.0)), noisy(0.8))
    assert found.is_clear
    assert found.mean == pytest.approx(math.log10(1 / 0.8))


@pytest.mark.parametrize("level", [1.0, 1.3, 1 - CLEARLY / 2])
def test_what_is_not_clearly_lower_is_ended(level: float) -> None:
    assert not gain(the_mark(noisy(1.0)), noisy(level)).is_clear


def test_a_gain_within_the_noise_of_other_batches_is_ended() -> None:
    assert not gain(the_mark(noisy(1.0)), noisy(0.97, seed=1)).is_clear


def test_any_number_beats_a_control_that_is_none_and_nan_beats_nothing() -> None:
    lost = series(np.full(200, math.nan))
    assert gain(the_mark(lost), noisy(5.0)).is_clear
    assert not gain(the_mark(lost), lost).is_clear
    assert not gain(the_mark(noisy(1.0)), lost).is_clear


def test_losses_below_zero_are_compared_as_they_are() -> None:
    control = series(-1 - 0.01 * np.arange(200.0))
    assert gain(the_mark(control), series(control.values - 0.5)).is_clear
    assert not gain(the_mark(control), control).is_clear


def test_a_run_too_short_to_compare_has_no_marks() -> None:
    assert marks_of(noisy(1.0, steps=8)) == ()


def test_marks_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "race.json").write_text(to_text(marks_of(noisy(1.0))))
    assert from_file(tmp_path / "race.json") == marks_of(noisy(1.0))


def test_a_file_without_marks_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "race.json").write_text('[{"step": 1}]')
    (tmp_path / "train.py").write_text("")
    command = [sys.executable, "-m", "defib", "run", "--race", "race.json", "train.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 64
    assert done.stderr.count("\n") == 1
    assert "not a control run's losses" in done.stderr


# What runs come to, by the arm's name: (steps of 100, loss, errors in its diagnosis, gain on the way).
WORLD = {
    "hopeless": (25, 1.0, 1, 0.0),
    "halting": (25, 0.9, 1, 0.001),
    "slow": (25, 0.4, 0, -0.01),
    "eases": (100, 0.5, 1, 0.1),
    "cures": (100, 0.1, 0, 0.5),
    "refused": (1, 1.0, 1, None),
}
CONTROL = Outcome(
    arm="control", seed=0, score=1.0, loss=1.0, first_loss=1.0, steps=100, seconds=1, code=0, wrong=1,
    findings=("lr-too-high",),
)  # fmt: skip


def arm_of(name: str) -> Arm:
    given = Prescription(
        treatment=name, rule="", cause=None, layer="", safety=Safety.SETTINGS, reason="", strength=0.5
    )
    return Arm(name=name, given=(given,))


def searched(*names: str, budget: float = 2.0) -> tuple[str, list[str]]:
    """The arm that was chosen, and the jobs that were run for it."""
    jobs: list[str] = []

    def run(job: Job) -> Outcome:
        jobs.append(job.name)
        steps, loss, wrong, ahead = WORLD[job.arm.name]
        steps = 100 if not job.raced else steps
        return Outcome(
            arm=job.arm.name, seed=0, score=loss, loss=loss, first_loss=1.0, steps=steps, seconds=1, code=0,
            stop_at=None if steps == 100 else steps, wrong=wrong, gain=ahead,
            treated=() if job.arm.name == "refused" else (job.arm.name,),
            refused="it cannot be" if job.arm.name == "refused" else "",
            findings=("lr-too-high",) if wrong else (),
        )  # fmt: skip

    def propose(tried: Tried | None) -> list[Arm]:
        return [arm_of(n) for n in names] if tried is None else []

    found = search(propose, CONTROL, Measure(goal=Goal.LOWER), budget, run)
    return "" if found.arm is None else found.arm.name, jobs


def test_the_first_that_cures_ends_the_search() -> None:
    assert searched("cures", "eases") == ("cures", ["cures-seed0-raced"])


def test_the_hopeless_costs_a_part_of_a_run_and_the_next_is_tried() -> None:
    assert searched("hopeless", "cures")[0] == "cures"


def test_what_leaves_an_error_is_not_enough_while_there_is_budget() -> None:
    assert searched("eases", "cures")[0] == "cures"
    assert searched("eases", "cures", budget=1.0) == ("eases", ["eases-seed0-raced"])


def test_where_none_came_to_its_end_the_one_furthest_ahead_runs_in_full() -> None:
    chosen, jobs = searched("hopeless", "halting")
    assert chosen == "halting"
    assert jobs[-1] == "halting-seed0"


def test_refusals_do_not_use_up_the_budget() -> None:
    assert searched("refused", "refused", "cures", budget=0.5)[0] == "cures"
    assert searched("refused") == ("", ["refused-seed0-raced"])


def test_the_last_turn_is_for_what_was_ended_early_with_nothing_wrong_left() -> None:
    chosen, jobs = searched("hopeless", "slow", "cures", budget=0.75)
    assert chosen == "slow"
    assert jobs == ["hopeless-seed0-raced", "slow-seed0-raced", "slow-seed0"]
    assert searched("slow", "cures")[0] == "cures"


SCRIPT = """
import torch
from torch import nn
torch.manual_seed(3)
x = torch.randn(128, 4)
y = x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
for step in range(120):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trial of treatments of which the first is refused, the second does nothing, the third helps."""
    place = tmp_path_factory.mktemp("race")
    (place / "train.py").write_text(SCRIPT)
    control = place / "t" / "runs" / "control-seed0"
    script = Script(target="train.py", is_module=False, arguments=(), folder=str(place))
    conduct(Request(script=script, measure=Measure(), arms=(), seeds=1, random=False), place / "t")
    losses = defib.open_run(control / "run.rec").view.loss
    (place / "race.json").write_text(to_text(marks_of(losses)))
    return place


@pytest.mark.parametrize(
    ("word", "steps", "stage"),
    [
        ("necro-relu", 1, "stopped"),  # refused: there is no ReLU
        ("scale-lr:factor=1.5", 30, "stopped"),
        ("scale-lr:factor=10000", 120, "ahead"),
    ],
)
def test_a_script_is_ended_where_its_treatment_does_no_better(
    folder: Path, word: str, steps: int, stage: str
) -> None:
    command = [sys.executable, "-m", "defib", "run", "-q", "-f", "-o", "r.rec", "--race", "race.json"]
    command += ["--treat", word, "train.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    view = defib.open_run(folder / "r.rec").view
    assert (view.steps, view.of_kind("trial")[-1].data["stage"]) == (steps, stage)


def test_a_trial_finds_the_treatment_at_the_cost_of_about_one_run(folder: Path) -> None:
    verdict = json.loads((folder / "t" / "verdict.json").read_text())
    arms = {o["arm"]: o for o in verdict["outcomes"]}
    assert arms["scale-lr"]["treated"] == ["scale-lr"]
    assert arms["scale-lr"]["loss"] < 0.5 * arms["control"]["loss"]
    assert verdict["extra_steps"] == 1.0
    assert 0 < verdict["extra_cpu"] < 3
    assert all(o["cpu"] > 0 for o in verdict["outcomes"])
