"""The model's last activation and the loss do not fit each other.

## What it measures

The operations between the last layer with parameters and the loss, read off the autograd graph; the
range that the last activation can reach, against the range of the targets; and what enters the loss
function.

## Why it hurts

Either the answer that would be right cannot be given at all, or it can be given only where the
activation is flat: then the output saturates, and the gradient that is left says nothing.

## Causes

- `softmax-over-one`: a softmax over a single output is 1 whatever enters it; every gradient is
  exactly zero.
- `targets-out-of-range`: targets lie outside what the last activation can reach (targets of 50
  behind a sigmoid): the loss drives it into its bound.
- `double-activation`: the loss applies its own sigmoid or softmax to outputs that already went
  through one. Scores between 0 and 1 make no probability above 1 / (1 + (C - 1) / e), so that the
  loss has a floor far above 0.
- `one-sided-output`: a ReLU makes the scores of a classifier: a score below 0 gets no gradient, and
  its logarithm does not exist. It is information while the network learns, and a warning where the score
  of a class is 0 for every sample: that class gets no gradient any more and is never answered.
- `not-log-probabilities`: the negative log-likelihood is given numbers above 0, which are no
  logarithms of probabilities; it has no minimum then.

## Prognosis

It does not pass: the function itself is wrong.

## Example

The function x^2 + 3 from -10 to 10 is fitted through a sigmoid at the output. Targets reach 103 and
the answer stays below 1; the loss ends at 2,138, the best constant would have cost 889.

## False alarms

Targets between 0 and 1 behind a sigmoid, tanh with targets from -1 to 1, ReLU with targets that are
never negative are as they should be. A few targets beyond the bound are information as long as the
network learns; if their mean lies next to the bound, a good part of them cannot be answered, and it
is a warning. A multiple-choice head with one output a choice is no softmax over one. An
activation that is scaled before the loss is not judged.

## References

- Zhang et al.: AUTOTRAINER (2021), improper activation and loss.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.objective import Objective
from defib.core.run import RunView
from defib.core.wiring import Wiring
from defib.diagnosis.case_outputs import (
    FAR,
    HALF,
    ONES,
    REACHED,
    absolute_error,
    classifier,
    regression_through,
    relu_scores,
    taken_out,
)
from defib.diagnosis.case_parts import REGRESSION, objective_of
from defib.diagnosis.cases import Plan, falling_loss, flat_loss, run_of
from defib.diagnosis.measures.answer import Answer, answer
from defib.diagnosis.measures.outputs import (
    always_one,
    functions_of,
    last_activation,
    name_of,
    never_moves,
    power_of,
    range_in_words,
    range_of,
    scores_off,
)
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Rule, harms

_HIDDEN = (
    "saturated-unit", "vanishing-gradient", "dead-unit", "constant-predictor", "unscaled-data",
    "initialisation", "lr-too-low", "lr-too-high", "update-lost", "exploding-gradient",
)  # fmt: skip
_UNFIT = (
    "an output that cannot fit drives units into their flat sides, and no scale of data or "
    "step would have made it fit"
)
_NORMALISERS = {"SoftmaxBackward0", "LogSoftmaxBackward0"}
_ONE_SIDED = {"ReluBackward0", "ThresholdBackward0"}
_LOGITS = {"BinaryCrossEntropyWithLogitsBackward0", "LogSoftmaxBackward0"}
_SQUASHED = {"SigmoidBackward0", "SoftmaxBackward0"}


class OutputActivation(Rule):
    """A last activation that the loss cannot use."""

    slug = "output-activation"
    fault = Fault.WRONG_LOSS_OR_OUTPUT_ACTIVATION
    title = "the model's last activation and the loss do not fit each other"
    rank = 12
    causes = (
        Cause.SOFTMAX_OVER_ONE,
        Cause.TARGETS_OUT_OF_RANGE,
        Cause.DOUBLE_ACTIVATION,
        Cause.ONE_SIDED_OUTPUT,
        Cause.NOT_LOG_PROBABILITIES,
    )
    limits = (
        Limit(
            name="beyond",
            default=0.5,
            unit="1",
            meaning="how far targets reach beyond the activation's bound, in standard deviations of the "
            "targets, before it is reported",
            reason="less than that is rounding and label noise; the nearest reachable answer is closer "
            "than the typical error of the best constant",
        ),
        Limit(
            name="samples",
            default=300,
            unit="samples",
            meaning="fewest samples for which the score of a class must be 0 for it to count as lost",
            reason="0 of 300: the score is above 0 for less than 1 % of the samples (95 %)",
        ),
        Limit(
            name="total",
            default=0.05,
            unit="1",
            meaning="how far the probabilities of one sample's classes may sum beside 1",
            reason="they sum to 1 by definition; sixteen bits round each of them by less than a hundredth",
        ),
    )
    consequences = (
        Consequence(
            rule="zero-gradient",
            causes=(Cause.BLOCKED, Cause.DEAD_LAYER),
            harmful=True,
            delay=-1,
            why="an output that cannot move passes nothing back",
        ),
        *harms(*((rule, _UNFIT) for rule in _HIDDEN)),
        Consequence(
            rule="non-finite",
            when=(Cause.ONE_SIDED_OUTPUT, Cause.NOT_LOG_PROBABILITIES),
            harmful=True,
            delay=-1,
            causes=(Cause.NON_FINITE_LOSS, Cause.NON_FINITE_FORWARD, Cause.NON_FINITE_BACKWARD),
            why="a score of 0 has no logarithm",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding: the first that holds."""
        state = answer(run)
        for found in (
            self._softmax_over_one(run, state),
            self._not_log_probabilities(run, state),
            self._double(run, state),
            self._out_of_range(run, state),
            self._one_sided(run, state),
        ):
            if found is not None:
                yield found
                return

    def _softmax_over_one(self, run: RunView, state: Answer) -> Finding | None:
        """A softmax over a single output, seen by its width and by its constant result."""
        uses = [w for w in run.wirings if w.output and w.operation in _NORMALISERS]
        narrow = any(w.units == 1 for w in uses)
        layer = run.layer(run.objective.output_layer) if run.objective is not None else None
        single = layer is not None and layer.units == 1 and bool(_NORMALISERS & set(run.loss_operations))
        # one output a row may be one of several rows that the softmax runs over (multiple choice)
        if not (narrow or single) or not (never_moves(run) or always_one(run)):
            return None
        where = layer.path if layer is not None else next(iter(uses)).site.path
        return self.found(
            Cause.SOFTMAX_OVER_ONE,
            Severity.ERROR,
            "a softmax over a single output is 1 for every input, so that every gradient is exactly zero",
            evidence=(Evidence(name="outputs", value=1, unit="outputs"), *state.evidence),
            confidence=Confidence.EXACT,
            layer=where,
            since_step=0,
        )

    def _not_log_probabilities(self, run: RunView, state: Answer) -> Finding | None:
        """A negative log-likelihood of numbers above 0."""
        objective = run.objective
        if objective is None or not objective.operation.startswith("NllLoss"):
            return None
        high = objective.last("prediction_high", len(objective.steps))
        total = objective.last("probability_total", len(objective.steps))
        if not high > 1e-3 and not abs(total - 1) > self.limit("total"):
            return None  # a logarithm of a probability is at most 0, give or take rounding
        if not high > 1e-3:
            return self._wrong_axis(objective, state, total)
        return self.found(
            Cause.NOT_LOG_PROBABILITIES,
            Severity.ERROR if state.failing else Severity.WARNING,
            f"the negative log-likelihood is given numbers up to {high:.3g}, and logarithms of "
            "probabilities are at most 0",
            evidence=(Evidence(name="largest number that enters the loss", value=high), *state.evidence),
            layer=objective.output_layer,
            since_step=int(objective.steps[0]),
        )

    def _wrong_axis(self, objective: Objective, state: Answer, total: float) -> Finding:
        """Logarithms of numbers that are no probabilities of the classes of one sample."""
        return self.found(
            Cause.NOT_LOG_PROBABILITIES,
            Severity.ERROR if state.failing else Severity.WARNING,
            f"the probabilities whose logarithms enter the loss sum to {total:.3g} over the classes of a "
            "sample, and not to 1: the softmax runs over another axis, or there is none",
            evidence=(Evidence(name="sum of the probabilities of a sample", value=total), *state.evidence),
            confidence=Confidence.EXACT,
            layer=objective.output_layer,
            since_step=int(objective.steps[0]),
        )

    def _double(self, run: RunView, state: Answer) -> Finding | None:
        """A sigmoid or softmax right below a loss that applies its own."""
        operations = functions_of(run.loss_operations)
        for upper, lower in pairwise(operations):
            if upper in _LOGITS and lower in _SQUASHED:
                break
        else:
            return None
        names = (name_of(lower), "its own sigmoid" if upper.startswith("Binary") else "its own softmax")
        return self.found(
            Cause.DOUBLE_ACTIVATION,
            Severity.ERROR if state.failing else Severity.WARNING,
            f"the loss applies {names[1]} to outputs that went through a {names[0]} already",
            evidence=state.evidence,
            confidence=Confidence.EXACT,
            layer=run.objective.output_layer if run.objective is not None else "",
            since_step=0,
        )

    def _out_of_range(self, run: RunView, state: Answer) -> Finding | None:
        """Targets that the last activation cannot reach."""
        objective, wiring = run.objective, last_activation(run)
        if objective is None or wiring is None:
            return None
        low, high = range_of(wiring)
        if not objective.operation:
            return self._distant(wiring, state, high - low, power_of(run.loss_operations))
        if objective.operation.startswith("Binary"):
            return None
        count = len(objective.steps)
        targets = objective.last("target_low", count), objective.last("target_high", count)
        spread, mean = objective.last("target_spread", count), objective.last("target_mean", count)
        beyond = max(targets[1] - high, low - targets[0])
        if not beyond > self.limit("beyond") * max(spread, 0.1):
            return None
        hopeless = mean > high or mean < low  # not even the targets' mean can be answered
        half = self.limit("beyond") * spread
        many = mean + half > high or mean - half < low
        bad = Severity.ERROR if hopeless or state.failing else Severity.WARNING if many else Severity.INFO
        return self.found(
            Cause.TARGETS_OUT_OF_RANGE,
            bad,
            f"targets reach from {targets[0]:.3g} to {targets[1]:.3g}, and {wiring.activation} gives "
            f"{range_in_words(low, high)}",
            evidence=(
                Evidence(name="smallest target", value=targets[0]),
                Evidence(name="largest target", value=targets[1]),
                Evidence(name="mean target", value=mean),
                Evidence(name="targets beyond the bound by at most", value=beyond),
                *state.evidence,
            ),
            layer=wiring.site.path,
            since_step=int(objective.steps[0]),
        )

    def _distant(self, wiring: Wiring, state: Answer, width: float, power: int) -> Finding | None:
        """Errors larger than the range of the outputs: some targets must lie outside it."""
        error = state.state.end ** (1 / power) if power and state.state.end >= 0 else np.nan
        if not error > (1 + self.limit("beyond")) * width or not np.isfinite(width):
            return None
        return self.found(
            Cause.TARGETS_OUT_OF_RANGE,
            Severity.ERROR,
            f"the mean error is {error:.3g}, and {wiring.activation} gives values over a range of "
            f"{width:.3g}: targets lie outside it",
            evidence=(
                Evidence(name="mean error at the end", value=error),
                Evidence(name="range of the output", value=width),
                *state.evidence,
            ),
            layer=wiring.site.path,
            since_step=0,
        )

    def _one_sided(self, run: RunView, state: Answer) -> Finding | None:
        """A ReLU as the score of a classifier."""
        objective = run.objective
        classifies = objective is not None and objective.operation.startswith(("NllLoss", "BinaryCross"))
        last = next((w for w in run.wirings if w.output and w.operation in _ONE_SIDED), None)
        if not classifies or last is None or last.operation not in run.loss_operations:
            return None
        share, off, samples = scores_off(run, last)
        lost = off if samples >= self.limit("samples") else []
        words = f"the scores of the classifier go through {last.activation}, which gives no score below 0 "
        words += "and no gradient there"
        if lost:
            words += f"; that of class {', '.join(map(str, lost))} is 0 for every sample"
        zeros = Evidence(name="share of the scores that are exactly 0", value=share)
        seen = Evidence(name="samples of them", value=samples, unit="samples")
        return self.found(
            Cause.ONE_SIDED_OUTPUT,
            Severity.ERROR if state.failing else Severity.WARNING if lost else Severity.INFO,
            words,
            evidence=(*state.evidence, *((zeros, seen) if samples else ())),
            layer=last.site.path,
            since_step=0,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a softmax over a single output",
            build=lambda: regression_through("softmax", flat_loss(), ONES, units=1),
            expect=(Expected(cause=Cause.SOFTMAX_OVER_ONE, severity=Severity.ERROR, layer="head"),),
        ),
        Case(
            name="a softmax over several choices with one output each",
            build=lambda: regression_through("softmax", falling_loss(), REACHED, units=1),
        ),
        Case(
            name="targets up to 103 behind a sigmoid",
            build=lambda: regression_through("sigmoid", flat_loss(), FAR),
            expect=(Expected(cause=Cause.TARGETS_OUT_OF_RANGE, severity=Severity.ERROR, layer="head"),),
        ),
        Case(
            name="a few targets beyond a tanh in a network that learns",
            build=lambda: regression_through(
                "tanh", falling_loss(), {"target_low": -2.5, "target_high": 2.5}
            ),
            expect=(Expected(cause=Cause.TARGETS_OUT_OF_RANGE, severity=Severity.INFO),),
        ),
        Case(
            name="targets about 0 behind a sigmoid in a network that learns what it can",
            build=lambda: regression_through("sigmoid", falling_loss()),
            expect=(Expected(cause=Cause.TARGETS_OUT_OF_RANGE, severity=Severity.WARNING),),
        ),
        Case(
            name="an absolute error of 50 behind a sigmoid",
            build=lambda: absolute_error(50.0),
            expect=(Expected(cause=Cause.TARGETS_OUT_OF_RANGE, severity=Severity.ERROR, layer="head"),),
        ),
        Case(name="an absolute error of 0.4 behind a sigmoid", build=lambda: absolute_error(0.4)),
        Case(
            name="targets from 0 to 1 behind a sigmoid",
            build=lambda: regression_through(
                "sigmoid", falling_loss(), {"target_low": 0.0, "target_high": 1.0, **HALF}
            ),
        ),
        Case(
            name="targets that are never negative behind a ReLU",
            build=lambda: regression_through(
                "relu", falling_loss(), {"target_low": 0.0, "target_high": 90.0, **HALF}
            ),
        ),
        Case(
            name="a linear output",
            build=lambda: replace(
                run_of(Plan(path="fc1"), loss_operations=("MseLossBackward0",)),
                objective=objective_of({**REGRESSION, **FAR}, "MseLossBackward0"),
            ),
        ),
        Case(
            name="softmax, then a cross-entropy with its own",
            build=lambda: classifier("LogSoftmaxBackward0", "SoftmaxBackward0", loss=falling_loss()),
            expect=(Expected(cause=Cause.DOUBLE_ACTIVATION, severity=Severity.WARNING),),
        ),
        Case(
            name="ReLU scores that are divided by their sum",
            build=lambda: relu_scores(flat_loss()),
            expect=(Expected(cause=Cause.ONE_SIDED_OUTPUT, severity=Severity.ERROR, layer="head"),),
        ),
        Case(
            name="ReLU scores that learn",
            build=lambda: relu_scores(falling_loss()),
            expect=(Expected(cause=Cause.ONE_SIDED_OUTPUT, severity=Severity.INFO, layer="head"),),
        ),
        Case(
            name="ReLU scores that learn, but for two classes that are off for good",
            build=lambda: relu_scores(falling_loss(), off=(3, 6)),
            expect=(Expected(cause=Cause.ONE_SIDED_OUTPUT, severity=Severity.WARNING, layer="head"),),
        ),
        Case(
            name="raw scores for a negative log-likelihood",
            build=lambda: classifier(loss=flat_loss(), prediction_high=3.0),
            expect=(Expected(cause=Cause.NOT_LOG_PROBABILITIES, severity=Severity.ERROR),),
        ),
        Case(
            name="a log_softmax over the batch instead of the classes, although the loss falls",
            build=lambda: classifier("LogSoftmaxBackward0", probability_total=0.31),
            expect=(Expected(cause=Cause.NOT_LOG_PROBABILITIES, severity=Severity.WARNING),),
        ),
        Case(
            name="probabilities that are rounded to sixteen bits",
            build=lambda: classifier("LogSoftmaxBackward0", probability_total=1.004),
        ),
        Case(
            name="targets up to 103 behind a tanh, of which a column is taken",
            build=lambda: taken_out("tanh", flat_loss(), FAR),
            expect=(Expected(cause=Cause.TARGETS_OUT_OF_RANGE, severity=Severity.ERROR, layer="head"),),
        ),
        Case(name="a cross-entropy on logits", build=lambda: classifier("LogSoftmaxBackward0")),
    )
