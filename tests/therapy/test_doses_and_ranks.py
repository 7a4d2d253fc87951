"""Doses come from what was measured, what cannot be given is advice, and experience ranks."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import defib
from defib import care
from defib.core.cause import Cause, Fault
from defib.core.errors import NotFound, UsageError
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.optimizer import Norms
from defib.core.prescription import Prescription, Safety
from defib.core.run import Event, RunView
from defib.therapy.engine import treatment
from defib.therapy.experience import EXPERIENCE, WEIGHT, Tried, seasoned
from defib.therapy.swap import computes_alone


def finding(rule: str, cause: Cause, since: int | None = None, **evidence: float) -> Finding:
    return Finding(
        rule=rule,
        fault=Fault.LR_TOO_HIGH,
        severity=Severity.ERROR,
        confidence=Confidence.EXACT,
        layer="",
        cause=cause,
        message="It is so.",
        since_step=since,
        evidence=tuple(Evidence(name=k.replace("_", " "), value=v, unit="1") for k, v in evidence.items()),
    )


def norms(gradient: list[list[float]], weight: float = 100.0) -> Norms:
    sizes = np.array(gradient, dtype=np.float64)
    same = np.full_like(sizes, weight)
    names = tuple(f"p{i}" for i in range(sizes.shape[1]))
    steps = np.arange(len(sizes))
    return Norms(parameters=names, steps=steps, gradient=sizes, weight=same, update=same, swallowed=same * 0)


def dose(slug: str, of: Finding, run: RunView) -> dict[str, object] | None:
    found = treatment(slug).prescribe(of, run)
    return None if found is None else dict(found.dose)


LARGE = "update_over_weights,_largest"
OVERSHOOT = "length_of_a_step_over_the_way_to_the_lowest_point_ahead"


def test_of_several_measured_factors_the_smallest_is_the_dose() -> None:
    high = finding("lr-too-high", Cause.STEP_LARGER_THAN_WEIGHTS, **{LARGE: 5.0, OVERSHOOT: 1.25})
    assert dose("scale-lr", high, RunView(facts={})) == {"factor": 0.02}
    over = finding("lr-too-high", Cause.STEPS_OVERSHOOT, **{LARGE: 5.0, OVERSHOOT: 1.25})
    assert dose("scale-lr", over, RunView(facts={})) == {"factor": 0.8}


def test_a_clip_by_value_is_what_no_usual_entry_reaches() -> None:
    run = RunView(facts={}, norms=norms([[3.0, 1.0], [2.0, 4.0], [3.0, 2.0], [900.0, 1.0]]))
    sick = finding("exploding-gradient", Cause.WEIGHTS, since=3)
    assert dose("clip-value", sick, run) == {"limit": 3.0}


def test_a_gradient_that_was_too_large_from_the_start_is_no_measure() -> None:
    run = RunView(facts={}, norms=norms([[1e12, 1.0]] * 4))
    sick = finding("exploding-gradient", Cause.WEIGHTS)
    assert dose("clip-value", sick, run) == {"limit": 1.0}
    assert dose("clip-norm", sick, run) == {"max_norm": 1.0}


@pytest.mark.parametrize("slug", ["scale-lr", "clip-norm", "roll-back"])
def test_smaller_steps_are_not_prescribed_for_what_was_so_before_any_step(slug: str) -> None:
    first, later = (finding("non-finite", Cause.NON_FINITE_LOSS, since=s) for s in (0, 30))
    assert dose(slug, first, RunView(facts={})) is None
    assert dose(slug, later, RunView(facts={})) is not None


def test_going_back_without_a_snapshot_is_advice_and_says_how_to_keep_one() -> None:
    slug = "roll-back"
    dead = replace(finding("dead-unit", Cause.DIED_AT_STEP, since=5), layer="fc", units=(1,), units_total=4)
    kept = (Event(step=3, kind="snapshot", data={}),)
    ended = treatment(slug).prescribe(dead, RunView(facts={"status": "finished"}, events=kept))
    live = treatment(slug).prescribe(dead, RunView(facts={"status": "running"}, events=kept))
    without = treatment(slug).prescribe(dead, RunView(facts={"status": "running"}))
    assert ended is not None
    assert live is not None
    assert without is not None
    assert live.safety is not Safety.SOURCE
    for advice in (ended, without):
        assert advice.safety is Safety.SOURCE
        assert advice.strength < live.strength
        assert "run.snapshot()" in advice.patch


class Exp(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(x)


class Swish(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(x)


class Sorted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sort(dim=-1).values


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(self.scale * x)


class Picky(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise TypeError("numbers of this kind are not for me")


class Loud(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(x) + 1


@pytest.mark.parametrize(
    ("module", "alone"),
    [(Exp(), True), (Swish(), True), (nn.ReLU(), True)]
    + [(m, False) for m in (Sorted(), Scaled(), Picky(), Loud(), nn.Linear(16, 16), nn.Dropout())],
)
def test_a_module_of_ones_own_is_an_activation_if_it_computes_one_and_no_more(
    module: nn.Module, alone: bool
) -> None:
    before = torch.get_rng_state()
    assert computes_alone(module) is alone
    assert torch.equal(torch.get_rng_state(), before)


def prescribed(strength: float, patch: str = "") -> Prescription:
    return Prescription(
        treatment="elu",
        rule="dead-unit",
        cause=Cause.BORN_DEAD,
        layer="",
        safety=Safety.CHANGES,
        reason="",
        strength=strength,
        patch=patch,
    )


def test_experience_moves_a_strength_as_far_as_its_programs_weigh() -> None:
    known = (
        Tried(rule="dead-unit", cause="born-dead", treatment="elu", tried=2, closed=0.5),
        Tried(rule="dead-unit", cause="died-at-step", treatment="elu", tried=9, closed=9.0),
        Tried(rule="dead-unit", cause="born-dead", treatment="gelu", tried=9, closed=9.0),
    )
    assert seasoned(prescribed(0.8), known).strength == round((WEIGHT * 0.8 + 0.5) / (WEIGHT + 2), 2)
    assert seasoned(prescribed(0.8), known[1:]).strength == round((WEIGHT * 0.8 + 9) / (WEIGHT + 9), 2)
    assert seasoned(prescribed(0.8), known[2:]).strength == 0.8
    assert seasoned(prescribed(0.8, patch="in the source"), known).strength == 0.8


def test_the_experience_that_is_shipped_names_treatments_that_exist_and_shares_that_can_be() -> None:
    entries = json.loads(EXPERIENCE.read_text())["entries"]
    assert len(entries) > 20
    for each in entries:
        treatment(each["treatment"])
        assert 0 <= each["closed"] <= each["tried"]


def test_an_order_is_checked_without_torch() -> None:
    code = "import sys; from defib.orders import check_order; check_order(['he-init', 'auto'])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("word", "error"), [("no-such", NotFound), ("scale-data", UsageError)])
def test_both_checks_refuse_the_same(word: str, error: type[Exception]) -> None:
    from defib.orders import check_order

    for check in (check_order, care.parse_order):
        with pytest.raises(error):
            check([word])


TWO_MODELS = """
import torch
from torch import nn
torch.manual_seed(0)
encoder = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
head = nn.Linear(8, 1)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    head(encoder(torch.ones(2, 4))).square().mean().backward()
    optimizer.step()
print(type(encoder[1]).__name__, optimizer.param_groups[0]["lr"])
"""


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"treatment": "scale-lr", "dose": {"factor": 0.5}, "layer": "encoder.0"}, "ReLU 0.05"),
        ({"treatment": "leaky-relu", "dose": {"activations": ["encoder.1"]}}, "LeakyReLU 0.1"),
        ({"treatment": "he-init", "dose": {"layer": "head"}}, "ReLU 0.1"),
        ({"treatment": "he-init", "dose": {"layer": "nowhere"}}, "ReLU 0.1"),
    ],
)
def test_models_side_by_side_are_treated_under_the_names_of_their_record(
    tmp_path: Path, entry: dict[str, object], said: str
) -> None:
    (tmp_path / "train.py").write_text(TWO_MODELS)
    (tmp_path / "plan.json").write_text(json.dumps([entry]))
    command = [sys.executable, "-m", "defib", "run", "-q", "-o", "r.rec", "--treat", "@plan.json", "train.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == said, done.stderr
    stages = [e.data["stage"] for e in defib.open_run(tmp_path / "r.rec").view.of_kind("treatment")]
    assert stages == ["planned", "refused" if "nowhere" in str(entry) else "done"]
