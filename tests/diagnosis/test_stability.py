"""Rate x curvature over what the optimiser can follow: its interval, and what a real run's finding says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import defib
from defib.core.cause import Cause
from defib.core.coverage import Overhead
from defib.core.evidence import Unseen
from defib.core.finding import Severity
from defib.diagnosis.case_steps import measured
from defib.diagnosis.cases import flat_loss
from defib.diagnosis.coverage import coverage
from defib.diagnosis.measures.stability import how_to_measure, load


def test_with_the_same_data_each_measurement_counts_with_its_own_bound():
    found = load(measured(flat_loss(), 2.6))
    assert found is not None
    assert found.value == pytest.approx(1.3)
    assert (found.interval.low, found.interval.high) == pytest.approx((1.2995, 1.3005))
    assert (found.count, found.first) == (5, 6)


def test_with_other_data_the_interval_reaches_from_fixed_directions_to_the_batches_own():
    rng = np.random.default_rng(0)
    outside = 0
    for _ in range(200):
        run = measured(flat_loss(), 3.0, wobble=0.1)
        # Batches whose curvature along a fixed direction is 2 on average, with an own largest of 3.
        along = 2.0 + 0.3 * rng.standard_normal(10)
        run = replace(run, sharpness={0: replace(run.sharpness[0], along=along)})
        found = load(run)
        assert found is not None
        outside += not found.interval.low <= 1.0 <= found.interval.high
    assert outside <= 20  # 2.5 % of 200 in the mean: only the lower end can be wrong here


def test_a_clipped_gradient_makes_a_shorter_step():
    run = measured(flat_loss(), 2.6)
    half = replace(run.sharpness[0], reached=np.full(10, 0.5))
    found = load(replace(run, sharpness={0: half}))
    assert found is not None
    assert found.value == pytest.approx(0.65)
    assert any("clipping" in e.name and e.value == 0.5 for e in found.evidence)


def test_one_measurement_of_mixed_batches_is_no_interval():
    run = measured(flat_loss(), 2.6, wobble=0.1)
    one = {name: values[:1] for name, values in vars(run.sharpness[0]).items()}
    assert load(replace(run, sharpness={0: replace(run.sharpness[0], **one)})) is None
    assert load(replace(run, sharpness={})) is None


def test_what_could_not_be_measured_is_not_observed_and_what_was_not_asked_for_has_a_command():
    run = replace(
        measured(flat_loss(), 2.6), sharpness={}, overhead=Overhead(ratio=0, seconds=0, budget=0, period=0)
    )
    assert "defib run --curvature" in how_to_measure(run)[0]
    assert not [u for u in coverage(run).not_observed if u.what == "curvature"]
    refused = replace(run, facts={**run.facts, "curvature": {"why_off": "hooks on tensors", "measured": 0}})
    assert Unseen(what="curvature", why="hooks on tensors") in coverage(refused).not_observed
    assert how_to_measure(refused) == ("curvature could not be measured: hooks on tensors",)


# -- in real runs -----------------------------------------------------------------


def descend(rate: float, momentum: float, folder: Path, *, nesterov: bool = False, batch: int = 0, **options):
    """Least squares whose largest curvature is 1 up to rounding; ``rate`` is thus rate x curvature."""
    torch.manual_seed(0)
    x = torch.randn(64, 12)
    turned, _, back = torch.linalg.svd(x, full_matrices=False)
    x = turned @ torch.diag(torch.linspace(0.3, 1.0, 12)) @ back * (64 / 2) ** 0.5
    y = x @ torch.randn(12, 1)
    model = nn.Linear(12, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum, nesterov=nesterov)
    with defib.watch(model, optimizer, output=folder / "run.rec", curvature=True, **options) as run:
        for _ in range(400):
            chosen = torch.randint(64, (batch,)) if batch else slice(None)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
    return run


def harmful(run) -> list:
    return [f for f in run.diagnose().findings if f.severity is not Severity.INFO]


@pytest.mark.parametrize(
    ("momentum", "nesterov", "bound"), [(0.0, False, 2.0), (0.9, False, 3.8), (0.9, True, 3.8 / 2.8)]
)
def test_right_above_the_bound_the_finding_says_so_and_right_below_there_is_none(
    momentum, nesterov, bound, tmp_path
):
    (found,) = harmful(descend(1.02 * bound, momentum, tmp_path / "a", nesterov=nesterov))
    assert (found.rule, found.cause) == ("lr-too-high", Cause.STEPS_BEYOND_STABILITY)
    numbers = {e.name: e.value for e in found.evidence}
    assert numbers["rate x largest curvature"] == pytest.approx(1.02 * bound, rel=1e-5)
    assert numbers["the most that the optimiser can follow"] == pytest.approx(bound, rel=1e-5)
    assert found.try_next == ()
    below = descend(0.98 * bound, momentum, tmp_path / "b", nesterov=nesterov)
    assert harmful(below) == []
    assert float(below.view.loss.values[-1]) < 0.01 * float(below.view.loss.values[0])


def test_the_dose_that_the_finding_asks_for_makes_the_same_run_learn(tmp_path):
    (found, *_) = descend(2.1, 0.0, tmp_path / "a").prescribe()
    assert found.treatment == "scale-lr"
    # Nine tenths of the way to the bound, or the overshoot's smaller one where that was measured too.
    assert 0.4 < found.dose["factor"] <= 0.9 * 2 / 2.1 * 1.01
    assert harmful(descend(2.1 * found.dose["factor"], 0.0, tmp_path / "b")) == []


def test_large_batches_far_beyond_are_named_and_batches_that_only_seem_so_are_not(tmp_path):
    far = harmful(descend(5.0, 0.0, tmp_path / "a", batch=48))
    assert [f.cause for f in far] == [Cause.STEPS_BEYOND_STABILITY]
    calm = descend(0.5, 0.0, tmp_path / "b", batch=4)
    assert harmful(calm) == []
    batches = calm.view.sharpness[0]
    assert batches.product.max() > 0.6  # single batches are steeper than the whole
    assert np.nanmean(batches.along) < 0.55


def test_without_the_option_the_finding_says_how_to_measure(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=3.0)
    with defib.watch(model, optimizer, output=tmp_path / "run.rec") as run:
        for _ in range(200):
            x = torch.randn(32, 4)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), x[:, :1]).backward()
            optimizer.step()
    found = [f for f in harmful(run) if f.rule == "lr-too-high"]
    assert any("defib run --curvature" in word for word in found[0].try_next)
    assert run.view.sharpness == {}
