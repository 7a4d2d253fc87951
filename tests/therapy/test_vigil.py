"""``--treat auto``: at once when something breaks, from finite weights, and nothing harmful stays."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import defib
from defib import care
from defib.core.aftermath import Aftermath
from defib.core.prescription import Prescription, Safety
from defib.core.run import RunView
from defib.core.series import Series
from defib.live import LiveRun
from defib.therapy.aftercare import LOSSES, WINDOW, worse
from defib.therapy.alarm import Alarm
from defib.therapy.vault import Vault
from defib.vigil import FIRST_CHECK, Vigil

SCRIPT = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(64, 8)
y = x[:, :1] * 3
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr={lr})
for step in range({steps}):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
print("finite", all(bool(p.isfinite().all()) for p in model.parameters()), float(loss))
"""


def run(folder: Path, *words: str, lr: float, steps: int = 120) -> tuple[str, RunView]:
    """What a script printed, and its record."""
    (folder / "train.py").write_text(SCRIPT.format(lr=lr, steps=steps))
    command = [sys.executable, "-m", "defib", "run", "-q", "-f", "-o", "r.rec", *words, "train.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, defib.open_run(folder / "r.rec").view


def stages(view: RunView) -> list[tuple[int, str, str]]:
    events = view.of_kind("treatment")
    told = [(e.step, str(e.data.get("treatment")), str(e.data["stage"])) for e in events]
    return [each for each in told if each[2] != "planned"]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, RunView]:
    """A script whose weights are NaN long before the first scheduled look."""
    return run(tmp_path_factory.mktemp("auto"), "--treat", "auto", lr=50.0)


def test_the_script_breaks_without_treatment(tmp_path: Path) -> None:
    said, _ = run(tmp_path, lr=50.0)
    assert said.startswith("finite False")


def test_what_breaks_is_looked_at_at_once_and_learns_in_the_end(broken: tuple[str, RunView]) -> None:
    said, view = broken
    first = stages(view)[0]
    assert 0 < first[0] < FIRST_CHECK
    assert said.startswith("finite True")
    assert float(said.split()[-1]) < 0.5 * float(view.loss.values[0])


def test_weights_are_restored_before_anything_is_given(broken: tuple[str, RunView]) -> None:
    _, view = broken
    done = [each for each in stages(view) if each[2] == "done"]
    assert done[0][1] == "roll-back"
    assert done[1][0] == done[0][0]
    assert np.isfinite(view.loss.values[-1])


def test_a_second_break_is_in_the_record_too(broken: tuple[str, RunView]) -> None:
    _, view = broken
    breaks = [e.step for e in view.of_kind("non-finite")]
    first = stages(view)[0][0]
    assert breaks[0] < first
    assert all(step >= first for step in breaks[1:])


def test_a_healthy_script_is_left_alone(tmp_path: Path) -> None:
    said, view = run(tmp_path, "--treat", "auto", lr=0.05)
    bare = run(tmp_path, lr=0.05)[0]
    assert stages(view) == []
    assert said == bare


# Judging a treatment --------------------------------------------------------------------------


def losses(before: float, after: float, start: float = 2.0) -> Series:
    noise = 0.05 * np.random.default_rng(0).standard_normal(100)
    values = np.r_[np.full(LOSSES, start), np.full(40, before), np.full(50, after)] * np.exp(noise)
    return Series(steps=np.arange(100), values=values)


AT = LOSSES + 40


def test_a_loss_that_lies_clearly_above_what_it_was_is_harm() -> None:
    assert "was" in worse(losses(1.0, 1.5), AT, Safety.SETTINGS)


@pytest.mark.parametrize("after", [0.5, 1.0, 1.02])
def test_a_loss_within_its_noise_is_no_harm(after: float) -> None:
    assert worse(losses(1.0, after), AT, Safety.SETTINGS) == ""


def test_a_network_that_begins_again_may_have_the_loss_of_a_fresh_one() -> None:
    assert worse(losses(1.0, 1.9), AT, Safety.RESTART) == ""
    assert worse(losses(1.0, 1.9), AT, Safety.SETTINGS, restored=True) == ""
    assert worse(losses(1.0, 5.0), AT, Safety.RESTART)


def test_a_loss_that_became_no_number_is_harm_only_if_it_was_one() -> None:
    assert worse(losses(1.0, np.nan), AT, Safety.RESTART)
    assert worse(losses(np.nan, np.nan), AT, Safety.SETTINGS) == ""


def test_too_few_losses_tell_nothing() -> None:
    short = losses(1.0, 9.0)
    assert worse(Series(steps=short.steps[:55], values=short.values[:55]), AT, Safety.SETTINGS) == ""


def optimizer_of(*tensors: torch.Tensor) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(t) for t in tensors], lr=0.1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_alarm_rings_for_one_entry(bad: float) -> None:
    weights = torch.zeros(50)
    assert not Alarm().rings(optimizer_of(weights, torch.zeros(0)))
    weights[17] = bad
    assert Alarm().rings(optimizer_of(torch.ones(3), weights))


def test_the_alarm_does_not_ring_for_large_half_precision_weights() -> None:
    assert not Alarm().rings(optimizer_of(torch.full((1000,), 60000.0, dtype=torch.float16)))
    assert not Alarm().rings(optimizer_of(torch.full((1000,), 3e38)))
    assert not Alarm().rings(optimizer_of(torch.zeros(0)))


# Taking back -----------------------------------------------------------------------------------


class Training:
    """A small network under watch, which a vigil may treat."""

    def __init__(self, live: LiveRun, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.live, self.model, self.optimizer = live, model, optimizer
        self.vigil = Vigil()
        self.taken = 0
        self.vigil.begin(live, optimizer)

    def go(self, steps: int) -> None:
        x = torch.linspace(-1, 1, 32).reshape(8, 4)
        for _ in range(steps):
            self.optimizer.zero_grad()
            (self.model(x) - x[:, :1]).square().mean().backward()
            self.optimizer.step()
            self.taken += 1
            self.vigil.stepped(self.live, self.optimizer, self.taken)

    def treat(self, prescription: Prescription) -> None:
        assert self.vigil.treat(self.live, self.optimizer, self.taken, prescription)

    @property
    def weights(self) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Training]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    with defib.watch(model, optimizer, output=tmp_path / "r.rec", every=1) as live:
        yield Training(live, model, optimizer)
        assert live.faults == 0


def faster(factor: float) -> Prescription:
    return care.named("scale-lr", {"factor": factor})


def undone(training: Training) -> list[tuple[int, str]]:
    events = training.live.view.of_kind("treatment")
    return [(e.step, str(e.data["why"])) for e in events if e.data["stage"] == "undone"]


def test_a_treatment_after_which_weights_break_is_taken_back_and_never_given_again(
    training: Training,
) -> None:
    training.go(12)
    training.treat(faster(1e30))
    training.go(4)
    assert training.optimizer.param_groups[0]["lr"] == 0.02
    assert 13 <= undone(training)[0][0] <= 16
    assert "no numbers" in undone(training)[0][1]
    assert not training.vigil.may(faster(1e30))


def test_a_treatment_that_raises_the_loss_is_taken_back_with_the_weights(training: Training) -> None:
    training.go(20)
    before = training.weights
    training.treat(faster(40.0))
    training.go(WINDOW)
    assert [step for step, _ in undone(training)] == [20 + WINDOW]
    assert training.optimizer.param_groups[0]["lr"] == 0.02
    assert all(torch.equal(a, b) for a, b in zip(before, training.weights, strict=True))


def test_a_treatment_that_does_no_harm_stays(training: Training) -> None:
    training.go(20)
    training.treat(faster(2.0))
    training.go(WINDOW + 5)
    assert undone(training) == []
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(0.04)


def test_what_was_taken_back_is_told_by_the_diagnosis(training: Training) -> None:
    training.go(20)
    training.treat(faster(40.0))
    training.go(WINDOW)
    told = [t for t in training.live.diagnose().treated if t.treatment == "scale-lr"]
    assert [t.stage for t in told] == ["done", "undone"]
    assert told[0].steps_since == WINDOW
    assert told[0].aftermath is Aftermath.NOT_ASKED
    assert "the loss is" in told[1].why


def test_going_back_keeps_a_treatment_that_changed_the_weights(training: Training) -> None:
    training.go(26)
    training.treat(care.named("he-init", {}))
    drawn = training.weights
    training.vigil.treat(training.live, training.optimizer, training.taken, faster(0.9), broken=True)
    with torch.no_grad():
        training.model.get_submodule("0").weight.fill_(float("nan"))  # type: ignore[operator]
    training.go(1)
    done = [e.data for e in training.live.view.of_kind("treatment") if e.data["stage"] == "done"]
    assert "roll-back" in [d["treatment"] for d in done]
    assert all(torch.equal(a, b) for a, b in zip(drawn, training.weights, strict=True))


def test_what_was_kept_while_a_treatment_was_on_trial_is_let_go(training: Training) -> None:
    training.go(20)
    training.treat(faster(2.0))
    kept = [weakref.ref(t) for t in training.vigil._on_trial.before._kept[0][1].tensors.values()]  # type: ignore[union-attr]
    assert all(ref() is not None for ref in kept)
    training.go(WINDOW)
    gc.collect()
    assert [ref() for ref in kept] == [None] * len(kept)


def test_a_treatment_is_judged_by_steps_of_its_own_optimiser_only(training: Training) -> None:
    other = nn.Linear(4, 1)
    another = torch.optim.SGD(other.parameters(), lr=0.1)
    training.vigil.begin(training.live, another)
    training.go(20)
    training.treat(faster(40.0))
    training.go(WINDOW - 1)
    training.vigil.stepped(training.live, another, training.taken + 1)
    assert undone(training) == []
    training.go(1)
    assert [step for step, _ in undone(training)] == [20 + WINDOW]


def test_a_trial_whose_optimiser_steps_no_more_holds_up_nobody(training: Training) -> None:
    other = nn.Linear(4, 1)
    another = torch.optim.SGD(other.parameters(), lr=0.1)
    training.vigil.begin(training.live, another)
    training.go(20)
    training.treat(faster(2.0))
    training.vigil.stepped(training.live, another, 20 + WINDOW)
    assert training.vigil._on_trial is not None
    training.vigil.stepped(training.live, another, 20 + 2 * WINDOW)
    assert training.vigil._on_trial is None


def test_broken_weights_are_looked_at_again_soon_and_then_ever_more_rarely(training: Training) -> None:
    training.go(30)
    training.vigil._healthy = Vault()  # nothing to go back to, so that they stay broken
    with torch.no_grad():
        training.model.get_submodule("0").weight.fill_(float("nan"))  # type: ignore[operator]
    looks = []
    for _ in range(20):
        before = training.vigil._next_check
        training.go(1)
        if training.vigil._next_check != before:
            looks.append(training.taken)
    assert looks == [31, 32, 34, 38, 46]


def test_a_treatment_that_a_person_ordered_is_not_taken_away_by_going_back(tmp_path: Path) -> None:
    words = ("--treat", "he-init", "--treat", "auto")
    _, view = run(tmp_path, *words, lr=50.0, steps=12)
    events = [e for e in view.of_kind("treatment") if e.data["stage"] == "done"]
    assert [e.data["treatment"] for e in events[:2]] == ["he-init", "roll-back"]
    kept = view.of_kind("snapshot")[0]
    order = [e for e in view.events if e is kept or e is events[0]]
    assert order[0] is events[0]


def test_a_treatment_that_a_person_ordered_ends_the_trial_of_another(training: Training) -> None:
    training.go(20)
    training.treat(faster(40.0))
    training.vigil.ordered(training.live, training.optimizer, training.taken)
    training.go(WINDOW)
    assert undone(training) == []


def test_an_optimiser_in_the_memory_of_a_discarded_one_is_a_new_one(training: Training) -> None:
    wanted = replace(faster(0.5), at=1)
    carer = care.Care(care.Order(given=(wanted,)))
    try:
        carer.attend(training.live)
        rates = []
        for _ in range(4):
            model = nn.Linear(2, 1)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            rates.append(optimizer.param_groups[0]["lr"])
            del optimizer, model
            gc.collect()
    finally:
        carer.release()
    assert rates == [0.05] * 4
