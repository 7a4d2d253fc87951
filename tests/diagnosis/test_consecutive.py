"""What pairs of steps are made to say is what theory says, noise included."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import defib
from defib.core.cause import Cause
from defib.core.finding import Severity
from defib.core.optimizer import Pairs
from defib.core.run import RunView
from defib.diagnosis.case_parts import CLASSES, objective_of
from defib.diagnosis.cases import Plan, run_of
from defib.diagnosis.measures.consecutive import consecutive


def descent(rate: float, noise: float, *, steps: int = 4000, signal: float = 0.0, seed: int = 0) -> RunView:
    """Gradient descent on a bowl of curvature 1 in ten dimensions, with gradient noise of that size.

    With ``signal`` there is a constant slope instead of the bowl.
    """
    rng = np.random.default_rng(seed)
    w, found = rng.normal(size=10), []
    slope = np.zeros(10)
    slope[0] = signal

    def gradient() -> np.ndarray:
        return (slope if signal else w) + noise * rng.normal(size=10)

    g = gradient()
    for _ in range(steps):
        d = -rate * g
        w = w + d
        following = gradient()
        sizes = [np.linalg.norm(v) for v in (g, following, d)]
        cosines = [g @ d / sizes[0] / sizes[2], following @ d / sizes[1] / sizes[2]]
        found.append([*sizes, *cosines, g @ following / sizes[0] / sizes[1]])
        g = following
    names = ("gradient", "next_gradient", "update", "before", "after", "again")
    columns = dict(zip(names, np.array(found).T, strict=True))
    pairs = Pairs(steps=np.arange(steps, dtype=np.int64), **columns)
    return replace(run_of(Plan(path="fc1")), pairs={0: pairs})


@pytest.mark.parametrize("rate", [0.5, 0.99, 1.9, 2.1])
def test_without_noise_the_overshoot_is_rate_times_curvature(rate):
    found = consecutive(descent(rate, noise=0.0, steps=40))
    assert found is not None
    assert found.overshoot == pytest.approx(rate)


@pytest.mark.parametrize("rate", [0.2, 0.6, 1.2, 1.8])
def test_at_rest_in_noise_the_overshoot_is_one_and_half_of_rate_times_curvature(rate):
    found = consecutive(descent(rate, noise=1.0))
    assert found is not None
    assert found.overshoot == pytest.approx(1 + rate / 2, abs=0.05)
    assert 0 < found.overshoot_interval.high - found.overshoot_interval.low < 0.1
    assert found.overshoot - 1 <= rate <= found.overshoot + 0.05, "the true product lies in the stated range"


@pytest.mark.parametrize("signal", [0.0, 1.0, 3.0])
def test_the_mean_cosine_is_the_share_of_the_signal(signal):
    runs = [consecutive(descent(1e-6, 1.0, steps=200, signal=signal or 1e-12, seed=s)) for s in range(60)]
    share = signal**2 / (signal**2 + 10)
    covered = [r is not None and r.signal_interval.low <= share <= r.signal_interval.high for r in runs]
    # cos is not linear in the gradients, so its mean is off by a few percent of itself for large signals
    assert np.mean([r.signal for r in runs if r is not None]) == pytest.approx(share, abs=0.03)
    assert signal > 1 or np.mean(covered) >= 0.85


def test_few_pairs_and_several_optimisers_say_nothing():
    run = descent(0.5, 1.0, steps=200)
    few = replace(run.pairs[0], **{n: v[:12] for n, v in vars(run.pairs[0]).items()})
    assert consecutive(run) is not None
    assert consecutive(replace(run, pairs={0: few})) is None
    assert consecutive(replace(run, pairs={})) is None
    assert consecutive(replace(run, optimizers=run.optimizers * 2)) is None


@pytest.mark.parametrize("sizes", [(1.0, 1.0), (10.0, 1.0)])
def test_batches_that_take_turns_cannot_feign_an_overshoot_beyond_two(sizes):
    """Two halves of the data whose gradients are opposite, and steps that change nothing."""
    run, turn = descent(0.5, 1.0, steps=100), np.arange(100) % 2
    first, second = np.array(sizes)[turn], np.array(sizes)[1 - turn]
    ones = np.ones(100)
    columns = {"gradient": first, "next_gradient": second, "update": 1e-6 * first}
    pairs = replace(run.pairs[0], **columns, before=-ones, after=ones, again=-ones)
    found = consecutive(replace(run, pairs={0: pairs}))
    assert found is not None
    assert found.overshoot_interval.low <= 2


def test_the_same_data_on_every_step_is_known_from_its_statistics():
    run = replace(descent(0.5, 1.0, steps=100), objective=objective_of(CLASSES))
    assert run.objective is not None
    turns = {**run.objective.columns, "input_high": np.arange(10) % 2 + 1.0}
    mixed = replace(run, objective=replace(run.objective, columns=turns))
    found = [consecutive(r) for r in (run, mixed, replace(run, objective=None))]
    assert [f.same_data for f in found if f is not None] == [True, False, False]


def test_pairs_that_overflowed_are_left_out():
    run = descent(0.5, 1.0, steps=200)
    after = run.pairs[0].after.copy()
    after[-5:] = np.nan
    found = consecutive(replace(run, pairs={0: replace(run.pairs[0], after=after)}))
    assert found is not None
    assert found.pairs == 98
    assert np.isfinite(found.overshoot)


def regression(rate: float, folder) -> defib.LiveRun:
    """Full batches, all of the error along the steepest direction; ``rate`` is in units of 1 / curvature."""
    torch.manual_seed(0)
    x = torch.randn(64, 16)
    curvatures, directions = torch.linalg.eigh(2 * x.T @ x / len(x))
    best = 3 * directions[:, 0]
    model = nn.Linear(16, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(best + 0.1 * directions[:, -1])
    optimizer = torch.optim.SGD(model.parameters(), lr=rate / float(curvatures[-1]))
    with defib.watch(model, optimizer, output=folder / "run.rec", every=1) as run:
        for _ in range(120):
            optimizer.zero_grad()
            ((model(x).squeeze(1) - x @ best) ** 2).mean().backward()
            optimizer.step()
    return run


def test_steps_from_side_to_side_are_found_and_named_in_a_real_run(tmp_path):
    found = [f for f in regression(2.0, tmp_path).diagnose().findings if f.severity is not Severity.INFO]
    assert [(f.rule, f.cause) for f in found] == [("lr-too-high", Cause.STEPS_OVERSHOOT)]
    assert found[0].evidence[0].value == pytest.approx(2, abs=0.01)


def test_the_same_run_at_a_twentieth_of_the_rate_is_healthy(tmp_path):
    assert [f for f in regression(0.1, tmp_path).diagnose().findings if f.severity is not Severity.INFO] == []
