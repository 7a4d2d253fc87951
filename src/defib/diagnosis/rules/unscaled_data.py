"""Inputs or targets on a scale that the network and the step size are not made for.

## What it measures

The root mean square m of the data as it enters the first layer (feature by feature, offset
included), and that of the targets of a regression; and whether the run fails.

## Why it hurts

The curvature of the loss along the first layer's weights grows as m^2 (for a linear layer it is the
second moment of its input), and with it falls the largest step that does not diverge, 2 / curvature.
Pre-activations are m times as large as the initialisation means them to be: bounded activations
saturate, ReLUs are thrown off by the first update. Targets far above 1 make the first gradients as
many times larger, or take an optimiser of bounded steps as many steps to reach.

## Causes

- `large-inputs`: the inputs are large or far from zero (pixels from 0 to 255, amounts of money).
- `small-inputs`: the inputs are tiny, so that the first layer sees next to nothing: by their size, or
  because its first pre-activations are the same for every sample to two digits.
- `large-targets`: the targets of a regression are far above 1.
- `small-targets`: they are far below 1, and the answers still differ by more than they do.

## Prognosis

It does not pass: the data stays as it is. A smaller learning rate keeps it from diverging and makes
it as much slower.

## Example

A linear regression on inputs from -1,000 to 1,000: m is 580, the largest stable step 330,000 times
smaller than for data of unit scale, and with a learning rate of 0.01 the loss is infinite after 30
steps.

## False alarms

Only a run that fails, or has hardly beaten a constant after a hundred steps, is reported: features on
odd scales are learned all the same by many networks. Where a normalisation follows the first layer,
or is the first layer, the scale of the inputs is irrelevant, and nothing is said of it. That of the
targets is not: what the last layer has to give does not pass through that normalisation.

## References

- LeCun, Bottou, Orr, Mueller: Efficient BackProp (1998), section 4.3: the Hessian of a linear unit is
  the second moment of its input.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Finding, Severity
from defib.core.objective import Objective
from defib.core.run import RunView
from defib.core.site import Signal
from defib.core.tally import merge
from defib.diagnosis.case_parts import CLASSES, REGRESSION, objective_of
from defib.diagnosis.cases import Plan, broken_loss, falling_loss, flat_loss, run_of
from defib.diagnosis.measures.answer import Answer, answer
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Rule, harms


class UnscaledData(Rule):
    """Data far from unit scale in a run that fails."""

    slug = "unscaled-data"
    fault = Fault.UNSCALED_DATA
    title = "inputs or targets far from unit scale"
    rank = 14
    causes = (Cause.LARGE_INPUTS, Cause.SMALL_INPUTS, Cause.LARGE_TARGETS, Cause.SMALL_TARGETS)
    limits = (
        Limit(
            name="input_scale",
            default=10.0,
            unit="1",
            meaning="root mean square of the inputs",
            reason="the largest stable step falls with its square: beyond 10 by a factor of 100, more than "
            "the decade or two in which a learning rate usually works",
        ),
        Limit(
            name="input_scale_low",
            default=1e-3,
            unit="1",
            meaning="root mean square of the inputs below which the first layer sees nothing",
            reason="a bias of PyTorch's default size drowns it a hundredfold",
        ),
        Limit(
            name="drowned",
            default=0.01,
            unit="1",
            meaning="how far the first pre-activations differ from sample to sample over their size, median "
            "of the units, on the first reading, below which the bias drowns the inputs",
            reason="at a hundredth the layer gives the same for every sample to two digits; asked only "
            "of inputs below a tenth, so that an offset of the data is not meant",
        ),
        Limit(
            name="target_scale",
            default=100.0,
            unit="1",
            meaning="root mean square of the targets of a regression",
            reason="the output has to grow a hundredfold; the first gradients are a hundred times those for "
            "targets of unit scale",
        ),
    )
    consequences = (
        Consequence(
            rule="zero-gradient",
            causes=(Cause.BLOCKED, Cause.DEAD_LAYER),
            harmful=True,
            delay=-1,
            why="saturated and dead units pass nothing back",
        ),
        *harms(
            ("saturated-unit", "pre-activations grow with the inputs"),
            ("exploding-gradient", "the gradient of the first weights grows with the inputs"),
            ("vanishing-gradient", "what large inputs saturate passes no gradient"),
            ("dead-unit", "large inputs make updates that throw units off"),
            ("lr-too-high", "the largest stable step falls with the square of the inputs"),
            ("lr-too-low", "large data leaves only small steps stable"),
            ("constant-predictor", "saturated and dead units pass nothing on"),
        ),
        Consequence(
            rule="non-finite",
            harmful=True,
            delay=-1,
            causes=(
                Cause.NON_FINITE_FORWARD,
                Cause.NON_FINITE_LOSS,
                Cause.NON_FINITE_BACKWARD,
                Cause.NON_FINITE_UPDATE,
            ),
            why="steps beyond the stable size multiply the error until it overflows",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding, for inputs or for targets, whichever is further off."""
        objective = run.objective
        if objective is None or not len(objective.steps):
            return
        state = answer(run)
        if not (state.failing or state.late):
            return
        blind = _normalised(run, objective)  # to the scale of the inputs
        inputs = float(np.hypot(_typical(objective, "input_mean"), _typical(objective, "input_std")))
        targets = _typical(objective, "target_rms") if objective.operation in _REGRESSIONS else np.nan
        large, wide = inputs / self.limit("input_scale"), targets / self.limit("target_scale")
        small = 0 < inputs <= self.limit("input_scale_low") or self._drowned(run, objective, inputs)
        if blind:
            large, small = np.nan, False
        if large >= 1 or wide >= 1:
            worst = Cause.LARGE_TARGETS if np.nan_to_num(wide) > np.nan_to_num(large) else Cause.LARGE_INPUTS
            yield self._finding(worst, inputs, targets, objective, state)
        elif small:
            yield self._finding(Cause.SMALL_INPUTS, inputs, targets, objective, state)
        elif 0 < targets <= 1 / self.limit("target_scale") and self._wide(state):
            yield self._finding(Cause.SMALL_TARGETS, inputs, targets, objective, state)

    def _drowned(self, run: RunView, objective: Objective, inputs: float) -> bool:
        """Whether the first layer gives nearly the same for every sample, for its bias is all it sees."""
        if not 0 < inputs <= 0.1:
            return False
        found = [
            r
            for r in run.readings
            if r.site.path == objective.input_layer and r.signal is Signal.PREACTIVATION
        ]
        tally = merge(r.tally for r in sorted(found, key=lambda r: r.first)[:1])
        if tally is None or not tally.units or not (tally.count > 1).all():
            return False
        mean = tally.total / tally.count
        spread = np.sqrt(np.maximum(tally.squares / tally.count - mean**2, 0.0))
        size = np.sqrt(tally.squares / tally.count)
        return bool(np.median(spread) <= self.limit("drowned") * np.median(size))

    @staticmethod
    def _wide(state: Answer) -> bool:
        """Whether the answers still differ by far more than the targets do: their scale was never learned."""
        return bool(state.spread >= 1 or state.far_off)

    def _finding(
        self, cause: Cause, inputs: float, targets: float, objective: Objective, state: Answer
    ) -> Finding:
        """The finding, with what would be different on unit scale."""
        numbers = [
            Evidence(name="root mean square of the inputs", value=inputs),
            Evidence(name="smallest input", value=_typical(objective, "input_low")),
            Evidence(name="largest input", value=_typical(objective, "input_high")),
            Evidence(name="stable step, unit scale over this one (inputs squared)", value=inputs**2),
        ]
        if np.isfinite(targets):
            numbers.append(Evidence(name="root mean square of the targets", value=targets))
        if cause in {Cause.LARGE_TARGETS, Cause.SMALL_TARGETS}:
            message = f"the targets have a root mean square of {targets:.3g}"
        else:
            message = (
                f"the data enters the first layer with a root mean square of {inputs:.3g}: at unit scale "
                f"its pre-activations would be {inputs:.3g} times smaller"
                if cause is Cause.LARGE_INPUTS
                else f"the data enters the first layer with a root mean square of {inputs:.3g}"
            )
        return self.found(
            cause,
            Severity.ERROR if state.failing else Severity.WARNING,
            message,
            evidence=(*numbers, *state.evidence),
            layer=objective.input_layer
            if cause in {Cause.LARGE_INPUTS, Cause.SMALL_INPUTS}
            else objective.output_layer,
            since_step=0,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="inputs up to 1,000 and a loss that becomes infinite",
            build=lambda: _run(broken_loss(), input_std=580.0),
            expect=(Expected(cause=Cause.LARGE_INPUTS, severity=Severity.ERROR, layer="fc1", since_step=0),),
        ),
        Case(
            name="an offset of 100",
            build=lambda: _run(flat_loss(), input_mean=100.0),
            expect=(Expected(cause=Cause.LARGE_INPUTS, severity=Severity.ERROR),),
        ),
        Case(
            name="inputs of a millionth",
            build=lambda: _run(flat_loss(), input_std=1e-6, input_mean=0.0),
            expect=(Expected(cause=Cause.SMALL_INPUTS, severity=Severity.ERROR),),
        ),
        Case(
            name="targets of a million",
            build=lambda: _run(broken_loss(), target_rms=1e6, target_spread=1e5),
            expect=(Expected(cause=Cause.LARGE_TARGETS, severity=Severity.ERROR, layer="head"),),
        ),
        Case(
            name="targets of a billionth, and answers a hundred times as far apart",
            build=lambda: _run(
                flat_loss(level=1e-14),
                loss=1e-14,
                target_rms=1e-9,
                target_spread=1e-9,
                prediction_spread=1e-7,
                prediction_rms=1e-7,
                constant_loss=1e-18,
            ),
            expect=(Expected(cause=Cause.SMALL_TARGETS, severity=Severity.ERROR, layer="head"),),
        ),
        Case(
            name="targets of a thousandth that are learned",
            build=lambda: _run(
                falling_loss(1000, start=1e-6, end=1e-8), target_rms=1e-3, constant_loss=1e-6, loss=1e-8
            ),
        ),
        Case(
            name="inputs of a hundredth beside a bias that drowns them",
            build=lambda: drowning(0.001),
            expect=(Expected(cause=Cause.SMALL_INPUTS, severity=Severity.ERROR, layer="fc1"),),
        ),
        Case(
            name="targets of a million behind a normalisation of the inputs",
            build=lambda: _behind_a_norm(broken_loss(), target_rms=1e6, target_spread=1e5),
            expect=(Expected(cause=Cause.LARGE_TARGETS, severity=Severity.ERROR, layer="head"),),
        ),
        Case(
            name="inputs up to 1,000 behind a normalisation",
            build=lambda: _behind_a_norm(flat_loss(), input_std=580.0),
        ),
        Case(name="inputs up to 1,000 and it learns", build=lambda: _run(falling_loss(), input_std=580.0)),
        Case(
            name="data of unit scale",
            build=lambda: replace(run_of(Plan(path="fc1")), objective=objective_of(CLASSES)),
        ),
    )


_REGRESSIONS = {
    "MseLossBackward0", "SmoothL1LossBackward0", "HuberLossBackward0", "PowBackward0", "AbsBackward0",
}  # fmt: skip
_NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm")


def _run(loss: np.ndarray[tuple[int], np.dtype[np.float64]], /, **columns: float) -> RunView:
    """A regression on that data."""
    run = run_of(Plan(path="fc1"), loss=loss, loss_operations=("MseLossBackward0",))
    return replace(run, objective=objective_of({**REGRESSION, **columns}, "MseLossBackward0"))


def _behind_a_norm(loss: np.ndarray[tuple[int], np.dtype[np.float64]], /, **columns: float) -> RunView:
    """A regression whose first layer is a normalisation."""
    run = _run(loss, **columns)
    return replace(run, layers=tuple(replace(x, kind="LayerNorm") for x in run.layers[:1]) + run.layers[1:])


def drowning(spread: float) -> RunView:
    """A run on inputs of a hundredth that does not learn; pre-activations of 1 differ by that much."""
    run = _run(flat_loss(), input_std=0.005, input_mean=0.01)
    readings = []
    for reading in run.readings:
        tally = reading.tally
        if reading.site.path == "fc1" and reading.signal is Signal.PREACTIVATION:
            tally = replace(tally, total=tally.count * 1.0, squares=tally.count * (1 + spread**2))
        readings.append(replace(reading, tally=tally))
    return replace(run, readings=tuple(readings))


def _typical(objective: Objective, name: str) -> float:
    """Median of a column over all readings that are finite; NaN if there are none."""
    values = objective.columns[name]
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")


def _normalised(run: RunView, objective: Objective) -> bool:
    """Whether a normalisation makes the scale of the inputs irrelevant."""
    layer = run.layer(objective.input_layer)
    if layer is not None and layer.kind.startswith(_NORMS):
        return True
    return any(w.normalised and not w.inputs and objective.input_layer in w.modules for w in run.wirings)
