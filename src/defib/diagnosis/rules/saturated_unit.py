"""Units of a bounded activation that sit where it is flat.

## What it measures

For every unit behind a bounded activation (tanh, sigmoid, hard tanh, ...): the share of samples on
which the activation's derivative is below 1 % of its largest value, and the share on which it is
exactly zero in the tensor's own data type. A unit counts as saturated if that share is at least 95
%. The off side of ReLU6 and hard sigmoid is no saturation: that is what they switch with.

## Why it hurts

The gradient through a saturated unit is multiplied by almost nothing, on every sample. To leave
takes a time that grows exponentially with the size of the pre-activation. Beyond a point the
derivative is exactly zero in floating point (for tanh in float16 already at 4.5), and the unit is
dead by rounding.

## Causes

- `large-preactivation`: the pre-activations are large: inputs were not scaled, weights were drawn
  too large, or large steps drove them there.

## Prognosis

Slow: about e^|z| / (learning rate x error x squared input norm) steps to leave. Units whose
derivative is exactly zero do not leave by themselves.

## Example

A tanh network on breast-cancer data without scaling: features up to 4,000 give pre-activations in
the hundreds, all 32 units of `fc1` are saturated on every sample, and the loss does not fall.

## False alarms

The saturated sigmoid at the output of a well-trained classifier is what training asks for; it is
reported only where nothing is learned. Hidden saturation in a network that learns (gates, binary
codes) is information. Softmax is not judged, since its derivative belongs to a row, not to a unit.
ReLU, GELU and other one-sided activations do not saturate.

## References

- Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks (2010).
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from defib.core.activation_index import activation_named
from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.inference import rate_bound
from defib.core.reading import Reading
from defib.core.run import RunView
from defib.core.site import Signal
from defib.core.tally import Tally, merge
from defib.core.wiring import Wiring
from defib.diagnosis.cases import Plan, flat_loss, run_of
from defib.diagnosis.measures.learning import Learning, learning
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Place, Rule


def _all_saturated(path: str, share: float = 1.0, activation: str = "tanh") -> Plan:
    """A layer all units of which are saturated on that share of the samples."""
    return Plan(path=path, activation=activation, saturated=dict.fromkeys(range(8), share))


class SaturatedUnit(Rule):
    """A derivative next to nothing on both ends of a bounded activation."""

    slug = "saturated-unit"
    fault = Fault.SATURATION
    title = "units of a bounded activation that sit where its derivative is next to nothing"
    rank = 44
    causes = (Cause.LARGE_PREACTIVATION,)
    limits = (
        Limit(
            name="samples",
            default=0.95,
            unit="1",
            meaning="share of the samples on which a unit must be saturated",
            reason="one sample in twenty still moves it",
        ),
        Limit(
            name="units",
            default=0.5,
            unit="1",
            meaning="share of a layer's units that must be saturated before it is blamed",
            reason="a layer keeps learning with the units it has left",
        ),
    )
    consequences = (
        Consequence(
            rule="zero-gradient",
            causes=(Cause.BLOCKED, Cause.DEAD_LAYER),
            harmful=True,
            delay=-1,
            why="a derivative that rounds to zero passes nothing back",
        ),
        Consequence(
            rule="vanishing-gradient",
            causes=(Cause.ACTIVATION_DERIVATIVE, Cause.DERIVATIVE_AND_WEIGHTS),
            place=Place.UPSTREAM,
            why="a small derivative is how saturation shows in the gradient; the forward pass comes first, "
            "and no lack of gradient makes a pre-activation large",
        ),
        Consequence(
            rule="saturated-unit",
            place=Place.DOWNSTREAM,
            why="a saturated layer sends numbers near its bounds to the next; the first is the root",
        ),
        Consequence(
            rule="constant-predictor",
            harmful=True,
            delay=-1,
            why="what does not get through the layers cannot tell samples apart",
        ),
        Consequence(
            rule="lr-too-low",
            harmful=True,
            delay=-1,
            why="weights that get next to no gradient move next to nowhere",
        ),
        Consequence(
            rule="update-lost",
            harmful=True,
            delay=-1,
            why="gradients this small fall below the optimiser's eps",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """One finding for each use of a layer."""
        wires = Wires(run)
        state = learning(run)
        for wiring in run.wirings:
            activation = activation_named(wiring.activation)
            if activation is None or not activation.is_bounded(wiring.options):
                continue
            if wires.is_output(wiring) and not state.stuck:
                continue
            readings = run.at(wiring.site, Signal.ACTIVATION)
            late = merge(r.tally for r in readings[len(readings) // 2 :])
            if late is None:
                continue
            units = self._saturated(late, activation.can_die)
            if units.mean() >= self.limit("units"):
                since = self._since(readings, activation.can_die)
                yield self._finding(wiring, late, units, since, state)

    def _saturated(self, tally: Tally, switches: bool) -> NDArray[np.bool_]:
        """Which units are saturated on enough samples, shape (U,)."""
        stuck = np.maximum(tally.saturated - (tally.zero if switches else 0.0), 0.0)
        share = np.divide(stuck, tally.finite, out=np.zeros_like(stuck), where=tally.finite > 0)
        return np.asarray(share >= self.limit("samples"))

    def _since(self, readings: tuple[Reading, ...], switches: bool) -> int | None:
        """First reading from which on enough units were saturated without a break."""
        since = None
        for reading in reversed(readings):
            if self._saturated(reading.tally, switches).mean() < self.limit("units"):
                break
            since = reading.first
        return since

    def _finding(
        self, wiring: Wiring, tally: Tally, units: NDArray[np.bool_], since: int | None, state: Learning
    ) -> Finding:
        """The finding for one layer."""
        number, total = int(units.sum()), len(units)
        count = tally.count[units]
        return Finding(
            rule=self.slug,
            fault=self.fault,
            severity=Severity.ERROR if state.stuck else Severity.INFO,
            confidence=Confidence.MEASURED,
            layer=wiring.site.path,
            call=wiring.site.call,
            units=tuple(int(u) for u in np.flatnonzero(units)),
            units_total=total,
            since_step=since,
            cause=Cause.LARGE_PREACTIVATION,
            message=f"{number} of {total} units of {wiring.site} are saturated on nearly every sample",
            evidence=(
                Evidence(
                    name="saturated share of the entries",
                    value=float(tally.saturated[units].sum() / count.sum()),
                ),
                Evidence(
                    name="share with a derivative of exactly 0",
                    value=float(tally.flat[units].sum() / count.sum()),
                ),
                Evidence(name="samples read", value=tally.samples, unit="samples"),
                Evidence(name="resolution of the shares (95 %)", value=rate_bound(tally.samples)),
                *state.evidence,
            ),
            modules=wiring.modules,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a hidden tanh layer is saturated and nothing is learned",
            build=lambda: run_of(_all_saturated("fc1"), Plan(path="fc2"), loss=flat_loss()),
            expect=(
                Expected(
                    cause=Cause.LARGE_PREACTIVATION,
                    severity=Severity.ERROR,
                    layer="fc1",
                    units=tuple(range(8)),
                    since_step=0,
                ),
            ),
        ),
        Case(
            name="hidden saturation in a network that learns is information",
            build=lambda: run_of(_all_saturated("fc1"), Plan(path="fc2")),
            expect=(Expected(cause=Cause.LARGE_PREACTIVATION, severity=Severity.INFO),),
        ),
        Case(
            name="the output sigmoid of a trained classifier",
            build=lambda: run_of(
                Plan(path="fc1"),
                _all_saturated("head", activation="sigmoid"),
                output="other",
                loss_operations=("BinaryCrossEntropyBackward0", "SigmoidBackward0"),
            ),
        ),
        Case(
            name="a saturated output tanh that stops all learning",
            build=lambda: run_of(
                Plan(path="fc1"),
                _all_saturated("head"),
                output="other",
                loss=flat_loss(),
                loss_operations=("MseLossBackward0", "TanhBackward0"),
            ),
            expect=(Expected(cause=Cause.LARGE_PREACTIVATION, severity=Severity.ERROR, layer="head"),),
        ),
        Case(
            name="the off side of a ReLU6",
            build=lambda: run_of(
                Plan(path="fc1", activation="hardtanh", fires=0.02), Plan(path="fc2"), loss=flat_loss()
            ),
        ),
        Case(
            name="a few saturated units",
            build=lambda: run_of(
                Plan(path="fc1", activation="tanh", saturated={0: 1.0, 1: 1.0, 2: 0.6}), loss=flat_loss()
            ),
        ),
        Case(
            name="a ReLU is not bounded",
            build=lambda: run_of(_all_saturated("fc1", activation="relu"), loss=flat_loss()),
        ),
    )
