"""Silence about a run that was seen not to learn is no health, and no cause is named without proof."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import defib
from defib.core.cause import Cause
from defib.core.diagnosis import Verdict
from defib.core.finding import Severity
from defib.core.run import Event, Exhibit, RunView
from defib.diagnosis.case_parts import CLASSES, REGRESSION, objective_of, sizes_of, stepped
from defib.diagnosis.cases import Plan, broken_loss, falling_loss, flat_loss, run_of
from defib.diagnosis.engine import diagnose
from defib.diagnosis.measures.answer import answer
from defib.diagnosis.measures.constant import constant_level
from defib.diagnosis.measures.learning import Outcome, learning
from defib.diagnosis.rules.unscaled_data import UnscaledData, drowning
from defib.diagnosis.rules.update_lost import UpdateLost


def classified(loss: np.ndarray[tuple[int], np.dtype[np.float64]], **columns: float) -> RunView:
    run = run_of(Plan(path="fc1"), loss=loss)
    return replace(run, objective=objective_of({**CLASSES, "loss": 2.2, **columns}))


def regression(loss: np.ndarray[tuple[int], np.dtype[np.float64]], **columns: float) -> RunView:
    run = run_of(Plan(path="fc1"), loss=loss, loss_operations=("MeanBackward0", "PowBackward0"))
    return replace(run, objective=objective_of({**REGRESSION, **columns}, "PowBackward0"))


def alarms(run: RunView) -> list[Cause]:
    return [f.cause for f in diagnose(run).findings if f.severity is not Severity.INFO]


def test_a_run_at_the_constants_level_without_any_other_finding_is_sick() -> None:
    run = replace(classified(flat_loss()), norms=sizes_of({"fc1.weight": (1.0, 1e-3)}))
    found = diagnose(run)
    assert found.verdict is Verdict.SICK
    assert [f.cause for f in found.findings] == [Cause.CAUSE_NOT_FOUND]


def test_another_alarm_takes_the_place_of_the_last_resort() -> None:
    run = replace(classified(flat_loss()), norms=sizes_of({"fc1.weight": (1.0, 1e-5)}))
    assert alarms(run) == [Cause.STEPS_TOO_SMALL]


def test_a_flat_loss_of_unknown_level_is_neither_sick_nor_healthy() -> None:
    found = diagnose(run_of(Plan(path="fc1"), loss=flat_loss(), loss_operations=("NegBackward0",)))
    assert found.verdict is Verdict.NOT_OBSERVED
    assert [(f.cause, f.severity) for f in found.findings] == [(Cause.CAUSE_NOT_FOUND, Severity.INFO)]


def test_a_run_that_learns_is_healthy() -> None:
    assert diagnose(classified(falling_loss())).verdict is Verdict.HEALTHY


def test_a_loss_that_fell_far_and_ends_far_above_the_constants_is_not_learning() -> None:
    fallen = np.concatenate([np.geomspace(1e6, 50, 100), flat_loss(200, 40.0)])
    assert learning(regression(fallen)).outcome is Outcome.NOT_LEARNING


def test_a_loss_above_the_constants_that_will_be_there_soon_is_learning() -> None:
    assert learning(regression(np.geomspace(1000, 2.0, 300))).outcome is Outcome.LEARNING


def test_a_loss_of_noisy_small_batches_is_not_called_a_tie() -> None:
    rng = np.random.default_rng(0)
    loss = 0.85 * rng.chisquare(4, 1000) / 4
    run = regression(loss, samples=4.0, compared=4.0)
    assert not answer(run).tied
    assert Cause.NO_RELATION not in alarms(run)


def test_batches_of_one_scene_each_leave_the_difference_of_their_means_out() -> None:
    run = regression(falling_loss(end=0.9), constant_loss=0.1, compared=32.0)
    assert run.objective is not None
    columns = {**run.objective.columns, "target_mean": np.array([-1.0, 1.0] * 5)}
    pooled = replace(run, objective=replace(run.objective, columns=columns))
    assert constant_level(run).value == pytest.approx(0.1)
    assert constant_level(pooled).value == pytest.approx(0.1 + 10 / 9 - 0.1 / 32)


def test_batches_of_one_class_each_are_compared_with_the_labels_of_all() -> None:
    run = classified(flat_loss(), classes=1.0, constant_loss=0.0)
    assert np.isnan(constant_level(run).value)
    table = Exhibit(kind="confusion", path="head", step=0, arrays={"matrix": 5 * np.eye(10, dtype=np.int64)})
    assert constant_level(replace(run, exhibits=(table,))).value == pytest.approx(np.log(10))


def test_inputs_of_a_hundredth_that_are_told_apart_are_not_blamed() -> None:
    assert list(UnscaledData().check(drowning(0.3))) == []
    assert [f.cause for f in UnscaledData().check(drowning(0.001))] == [Cause.SMALL_INPUTS]


def test_weights_that_a_nan_gradient_broke_are_not_blamed_on_eps() -> None:
    data = {"stage": "update", "where": "pool.p", "operation": "", "step": 0}
    norms = sizes_of({"fc1.weight": (1.0, 1e-3), "pool.p": (1.0, 1e-3)})
    run = run_of(
        Plan(path="fc1"), loss=broken_loss(at=1), events=(Event(step=0, kind="non-finite", data=data),)
    )
    run = stepped(replace(run, norms=norms), "Adam", eps=1e-8)
    assert [f.cause for f in UpdateLost().check(run)] == [Cause.EPSILON_LOST]
    gradient = norms.gradient.copy()
    gradient[:, 1] = np.nan
    broken = replace(run, norms=replace(norms, gradient=gradient))
    assert list(UpdateLost().check(broken)) == []
    assert alarms(broken) == [Cause.NON_FINITE_BACKWARD]


def test_a_cut_graph_explains_that_nothing_was_seen() -> None:
    run = run_of(Plan(path="fc1"), loss=flat_loss())
    blind = RunView(facts={"overhead": {"readings": 20}}, layers=run.layers, optimizers=run.optimizers)
    (found,) = diagnose(blind).findings
    assert found.cause is Cause.UNREACHED
    assert [f.cause for f in found.explains] == [Cause.NO_DATA]


def test_a_loss_far_above_the_constants_that_would_need_many_times_the_steps_is_not_learning() -> None:
    assert learning(regression(np.geomspace(1000, 300, 300))).outcome is Outcome.NOT_LEARNING


def test_a_tie_needs_more_than_a_mean_at_that_level() -> None:
    wave = np.tile([0.2, -1.0, 0.3, 1.0, -0.1], 40)
    assert answer(regression(1.05 + 0.01 * wave)).tied
    assert not answer(regression(1.05 + 0.9 * wave)).tied


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_no_relapse(seed: int) -> None:
    loss = 0.8 * np.random.default_rng(seed).lognormal(sigma=0.5, size=200)
    run = run_of(Plan(path="fc1"), loss=loss)
    assert not learning(run).relapsed


@pytest.mark.parametrize(("steps", "verdict"), [(1, "not-observed"), (19, "not-observed"), (20, "healthy")])
def test_a_run_of_too_few_steps_is_never_called_healthy(steps: int, verdict: str) -> None:
    found = diagnose(classified(falling_loss(steps)))
    assert found.verdict.value == verdict
    told = [f.cause for f in found.findings if f.rule == "not-observed"]
    assert told == ([Cause.TOO_SHORT] if steps < 20 else [])


def test_too_few_steps_with_a_loss_that_is_no_number_are_sick_all_the_same() -> None:
    loss = falling_loss(8)
    loss[5:] = float("nan")
    found = diagnose(classified(loss))
    assert found.verdict is Verdict.SICK
    assert Cause.TOO_SHORT not in [f.cause for f in found.findings]


def test_of_a_real_run_that_still_goes_on_nothing_is_said_of_its_steps_before_it_has_taken_many(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    x, y = torch.randn(64, 8), torch.randint(2, (64,))

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    with defib.watch(model, optimizer, output=tmp_path / "run.rec") as run:
        train(79)
        early = run.view
        train(171)
        late = run.view
    assert (early.facts["status"], early.steps) == ("running", 79)
    assert Cause.STEPS_TOO_SMALL not in alarms(early)
    assert Cause.STEPS_TOO_SMALL in alarms(replace(early, facts={**early.facts, "status": "finished"}))
    assert late.facts["status"] == "running"
    assert Cause.STEPS_TOO_SMALL in alarms(late)
