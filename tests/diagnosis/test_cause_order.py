"""Several faults at once: the one that is the root of the others comes first and holds them."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from defib.core.cause import Cause
from defib.core.finding import Finding, Severity
from defib.core.run import Event, RunView
from defib.core.series import Series
from defib.diagnosis.case_parts import CLASSES, REGRESSION, objective_of, shaped, sizes_of, stepped
from defib.diagnosis.cases import Plan, broken_loss, falling_loss, flat_loss, run_of
from defib.diagnosis.engine import diagnose

ALL = dict.fromkeys(range(8), 0)
SATURATED = dict.fromkeys(range(8), 1.0)


def alarms(run: RunView) -> list[Finding]:
    diagnosis = diagnose(run)
    assert diagnosis.not_run == ()
    return [f for f in diagnosis.findings if f.severity is not Severity.INFO]


def inside(finding: Finding) -> set[str]:
    return {f.rule for f in finding.explains} | {r for f in finding.explains for r in inside(f)}


def regression(*plans: Plan, loss: np.ndarray, **columns: float) -> RunView:
    run = run_of(*plans, loss=loss, loss_operations=("MseLossBackward0",))
    return replace(run, objective=objective_of({**REGRESSION, **columns}, "MseLossBackward0"))


def test_unscaled_inputs_hold_the_saturation_that_they_cause() -> None:
    plan = Plan(path="fc1", activation="tanh", saturated=SATURATED)
    run = regression(
        plan, Plan(path="fc2"), loss=flat_loss(level=1.0), input_std=500.0, prediction_spread=1e-6
    )
    (root,) = alarms(run)
    assert (root.rule, root.layer) == ("unscaled-data", "fc1")
    assert inside(root) >= {"saturated-unit", "constant-predictor"}


def test_saturation_with_inputs_of_unit_scale_is_its_own_root() -> None:
    plan = Plan(path="fc1", activation="tanh", saturated=SATURATED)
    run = regression(plan, Plan(path="fc2"), loss=flat_loss(level=1.0), prediction_spread=1e-6)
    (root,) = alarms(run)
    assert root.rule == "saturated-unit"
    assert inside(root) == {"constant-predictor"}


def test_a_divergence_on_unscaled_inputs_is_the_datas_and_on_scaled_ones_the_steps() -> None:
    loss = broken_loss(200, at=40)
    loss[:40] = 3.0 ** np.arange(40)
    roots = [alarms(regression(Plan(path="fc1"), loss=loss, input_std=scale))[0] for scale in (500.0, 1.0)]
    assert [r.rule for r in roots] == ["unscaled-data", "lr-too-high"]
    assert inside(roots[0]) >= {"lr-too-high", "non-finite"}
    assert inside(roots[1]) == {"non-finite"}


def test_an_output_that_cannot_fit_comes_before_the_scale_of_the_data() -> None:
    run = run_of(
        Plan(path="fc1", activation="tanh", saturated=SATURATED),
        Plan(path="head", activation="sigmoid"),
        output="other",
        loss=flat_loss(level=2000.0),
        loss_operations=("MseLossBackward0", "SigmoidBackward0"),
    )
    columns = {"target_mean": 40.0, "target_high": 99.0, "target_spread": 30.0, "input_std": 500.0}
    objective = objective_of({**REGRESSION, **columns, "constant_loss": 900.0}, "MseLossBackward0")
    (root,) = alarms(shaped(replace(run, objective=objective)))
    assert (root.rule, root.cause) == ("output-activation", Cause.TARGETS_OUT_OF_RANGE)
    assert inside(root) >= {"unscaled-data", "saturated-unit"}


def classifier(plans: Iterable[Plan], norms: dict[str, tuple[float, float]], spread: float = 1e-6) -> RunView:
    run = run_of(*plans, loss=flat_loss(), norms=sizes_of(norms))
    objective = objective_of({**CLASSES, "output_spread": spread})
    objective.columns["output_spread"][0] = 0.3
    return replace(run, objective=objective)


def test_units_that_died_after_the_answers_were_all_the_same_are_a_consequence() -> None:
    plans = (Plan(path="fc1"), Plan(path="fc2", dies={**dict.fromkeys(range(8), 40), 0: 0, 1: 0}))
    run = classifier(plans, {f"{p}.weight": (4.0, 0.01) for p in ("fc1", "fc2", "head")})
    assert alarms(run)[0].rule == "dead-unit"
    assert run.objective is not None
    run.objective.columns["output_spread"][0] = 1e-6
    (root,) = alarms(run)
    assert (root.rule, root.cause) == ("constant-predictor", Cause.INPUT_IGNORED)
    assert inside(root) >= {"dead-unit"}


def test_a_layer_that_was_born_dead_explains_answers_that_never_differed() -> None:
    run = classifier((Plan(path="fc1"), Plan(path="fc2", dies=ALL)), {"fc1.weight": (4.0, 0.01)})
    assert run.objective is not None
    run.objective.columns["output_spread"][0] = 1e-6
    assert alarms(run)[0].rule == "dead-unit"


def test_large_steps_hold_the_units_that_they_kill() -> None:
    plans = (Plan(path="fc1"), Plan(path="fc2", dies=dict.fromkeys(range(8), 1)))
    sizes = {f"{p}.weight": (4.0, 40.0) for p in ("fc1", "fc2", "head")}
    (root,) = alarms(classifier(plans, sizes))
    assert (root.rule, root.since_step) == ("lr-too-high", 0)
    assert inside(root) >= {"dead-unit", "constant-predictor"}


def test_deaths_under_small_steps_are_their_own_root() -> None:
    plans = (Plan(path="fc1"), Plan(path="fc2", dies=dict.fromkeys(range(8), 1)))
    sizes = {f"{p}.weight": (4.0, 0.01) for p in ("fc1", "fc2", "head")}
    (root,) = alarms(classifier(plans, sizes))
    assert root.rule == "dead-unit"


def test_tiny_first_weights_hold_the_small_steps_that_follow() -> None:
    plans = tuple(Plan(path=f"fc{i}") for i in range(4))
    sizes = {f"fc{i}.weight": (0.1, 1e-8) for i in range(4)} | {"head.weight": (4.0, 1e-6)}
    (root,) = alarms(classifier(plans, sizes))
    assert (root.rule, root.cause) == ("initialisation", Cause.WEIGHTS_TOO_SMALL)
    assert inside(root) >= {"lr-too-low", "constant-predictor"}


def test_the_rounding_of_eps_holds_the_nan_that_it_makes() -> None:
    event = Event(step=0, kind="non-finite", data={"stage": "update", "where": "fc1", "step": 0})
    sizes = {"fc1.weight": (1.0, 1e-3)}
    run = replace(run_of(Plan(path="fc1"), loss=broken_loss(at=1), norms=sizes_of(sizes)), events=(event,))
    (root,) = alarms(stepped(run, "Adam", eps=1e-8))
    assert root.rule == "update-lost"
    assert inside(root) == {"non-finite"}


@pytest.mark.parametrize(("kind", "eps"), [("SGD", 1e-8), ("Adam", 1e-4)])
def test_nan_weights_are_not_laid_on_an_eps_that_is_no_zero_or_is_not_there(kind: str, eps: float) -> None:
    event = Event(step=0, kind="non-finite", data={"stage": "update", "where": "fc1", "step": 0})
    sizes = {"fc1.weight": (1.0, 1e-3)}
    run = replace(run_of(Plan(path="fc1"), loss=broken_loss(at=1), norms=sizes_of(sizes)), events=(event,))
    (root,) = alarms(stepped(run, kind, eps=eps))
    assert root.rule == "non-finite"


def test_a_slip_of_the_rate_that_kills_a_layer_is_told_by_the_dead_units():
    """One event, one finding, whether or not the large step itself was sampled."""
    loss = np.concatenate([falling_loss(100), flat_loss(100)])
    sizes = {"fc1.weight": (1.0, 5.0), "head.weight": (1.0, 5.0)}
    dead = run_of(Plan(path="fc1", dies=dict.fromkeys(range(8), 100)), loss=loss)
    rate = Series(steps=np.arange(200), values=np.where(np.arange(200) < 100, 0.1, 3.0))
    slipped = replace(dead, optimizers=(replace(dead.optimizers[0], lr=rate),))
    for run in (slipped, replace(slipped, norms=sizes_of(sizes))):
        assert diagnose(run).findings[0].rule == "dead-unit"
    steady = replace(dead, norms=sizes_of(sizes))
    assert diagnose(steady).findings[0].rule == "lr-too-high"
