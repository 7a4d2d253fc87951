"""Units that are on the same side of their activation's kink for every sample.

## What it measures

The sign of the pre-activations of every unit behind a piecewise linear activation (ReLU, leaky ReLU,
PReLU; on the positive side also ELU and its kin), over the last readings. A unit that is positive
for every sample, or negative for every sample behind a leaky side, is a linear function of its
inputs. Many samples show that by their number; of fewer it is said where the unit's pre-activations lie
ten of their own standard deviations away from the kink: whatever their distribution, at most 1 in 101
lies on the other side (Cantelli's inequality).

## Why it hurts

A linear unit learns, but what it computes could be folded into the weights around it: a layer of
linear units adds no depth. A leaky unit that is off for every sample is alive, and slow: its
gradient is multiplied by the slope.

## Causes

- `always-on`: every sample lies on the positive side.
- `always-off`: every sample lies on the leaky side; with an ordinary ReLU the unit would be dead.

## Prognosis

Gradients flow, so a linear unit may bend again as its weights move.

## Example

A network with leaky ReLUs whose first layer has large negative biases: 32 of its 64 units are
negative on all data and act as a linear layer with a slope of 0.01.

## False alarms

This is information only. First layers on positive data often hold some units that are always on.

## References

- Lu, Shin, Su, Karniadakis: Dying ReLU and Initialization (2020).
- Maas, Hannun, Ng: Rectifier Nonlinearities Improve Neural Network Acoustic Models (2013).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from defib.core.activation_index import activation_named
from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.inference import rate_bound
from defib.core.run import RunView
from defib.core.site import Signal
from defib.core.tally import Tally
from defib.core.wiring import Wiring
from defib.diagnosis.cases import Plan, run_of
from defib.diagnosis.measures.late import Late, late
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.rule import Case, Expected, Limit, Rule

_FAR = np.array([1e-6, 1e-2, 1.0, 1e3])


class LinearUnit(Rule):
    """On one side of the kink for every sample."""

    slug = "linear-unit"
    fault = Fault.HEALTHY
    title = "units that are on one side of their activation's kink for every sample"
    rank = 82
    causes = (Cause.ALWAYS_ON, Cause.ALWAYS_OFF)
    limits = (
        Limit(
            name="samples",
            default=1500,
            unit="samples",
            meaning="fewest samples that must all lie on one side",
            reason="0 of 1,500 on the other side: that side is taken on less than 0.2 % (95 %)",
        ),
        Limit(
            name="few",
            default=100,
            unit="samples",
            meaning="fewest samples of a unit that is far from its kink",
            reason="a mean and a standard deviation of a hundred samples are known to a tenth",
        ),
        Limit(
            name="far",
            default=10.0,
            unit="standard deviations",
            meaning="distance of the mean pre-activation from the kink at which fewer samples will do",
            reason="Cantelli: at most 1 in 1 + 10^2 samples is further away than that on one side",
        ),
        Limit(
            name="share",
            default=0.25,
            unit="1",
            meaning="share of a layer that must be linear to be worth a line",
            reason="first layers on positive data hold some by chance: with d positive inputs of equal size "
            "and random weights about one unit in 2 sqrt(d) or more",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most two findings for each layer."""
        wires = Wires(run)
        many = late(run, wires, self.limit("samples"))  # the same layers in the same order, or fewer
        next_of_many = next(many, None)
        for few in late(run, wires, self.limit("few")):
            layer = few
            if next_of_many is not None and next_of_many.wiring.site == few.wiring.site:
                layer, next_of_many = next_of_many, next(many, None)
            tally = layer.tallies.get(Signal.PREACTIVATION) or layer.tallies.get(Signal.ACTIVATION)
            if tally is None:
                continue
            on_side, off_side = _straight(layer.wiring)
            whole = tally.finite == tally.count
            if layer is few:
                whole &= (Signal.PREACTIVATION in layer.tallies) & self._far(tally)
            for cause, side, units in (
                (Cause.ALWAYS_ON, on_side, whole & (tally.positive == tally.count)),
                (Cause.ALWAYS_OFF, off_side, whole & (tally.positive == 0)),
            ):
                if side and units.mean() >= self.limit("share"):
                    yield self._finding(layer, cause, units, tally.samples)

    def _far(self, tally: Tally) -> NDArray[np.bool_]:
        """Units whose pre-activations lie far from 0 for their own spread, shape (U,)."""
        return np.asarray(np.abs(tally.mean) > self.limit("far") * tally.std)

    def _finding(self, layer: Late, cause: Cause, units: NDArray[np.bool_], samples: int) -> Finding:
        """The finding for one side of one layer."""
        found = tuple(int(u) for u in np.flatnonzero(units))
        rate = rate_bound(samples)
        if samples < self.limit("samples"):
            rate = min(rate, 1 / (1 + self.limit("far") ** 2))
        side = "positive" if cause is Cause.ALWAYS_ON else "negative"
        return Finding(
            rule=self.slug,
            fault=self.fault,
            severity=Severity.INFO,
            confidence=Confidence.MEASURED,
            layer=layer.path,
            call=layer.wiring.site.call,
            units=found,
            units_total=len(units),
            cause=cause,
            message=f"{len(found)} of {len(units)} units of {layer.path} are {side} for every sample: "
            "they are linear, and alive",
            evidence=(
                Evidence(name="linear share of the layer", value=float(units.mean())),
                Evidence(name="samples, all on one side", value=samples, unit="samples"),
                Evidence(name="share of samples on the other side, below (95 %)", value=rate),
            ),
            modules=layer.wiring.modules,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="half of the units are always on",
            build=lambda: run_of(Plan(path="fc1", rates=dict.fromkeys(range(4), 1.0)), batch=256),
            expect=(
                Expected(cause=Cause.ALWAYS_ON, severity=Severity.INFO, layer="fc1", units=(0, 1, 2, 3)),
            ),
        ),
        Case(
            name="leaky units that are always off are linear and not dead",
            build=lambda: run_of(
                Plan(path="fc1", activation="leaky_relu", rates=dict.fromkeys(range(8), 0.0)), batch=256
            ),
            expect=(Expected(cause=Cause.ALWAYS_OFF, severity=Severity.INFO, units=tuple(range(8))),),
        ),
        Case(
            name="an ordinary ReLU that is always off is not linear",
            build=lambda: run_of(Plan(path="fc1", dies=dict.fromkeys(range(3), 0)), batch=256),
        ),
        Case(
            name="units of GELU bend everywhere",
            build=lambda: run_of(Plan(path="fc1", activation="gelu", fires=1.0), batch=256),
        ),
        Case(
            name="on for all of too few samples",
            build=lambda: run_of(Plan(path="fc1", fires=1.0), every=100),
        ),
        Case(
            name="far on the positive side for all of few samples",
            build=lambda: _pushed(run_of(Plan(path="fc1", fires=1.0), every=100), 30.0),
            expect=(Expected(cause=Cause.ALWAYS_ON, severity=Severity.INFO, units=tuple(range(8))),),
        ),
        Case(
            name="near the kink on the positive side for all of few samples",
            build=lambda: _pushed(run_of(Plan(path="fc1", fires=1.0), every=100), 2.0),
        ),
        Case(
            name="units that fire on half of the samples", build=lambda: run_of(Plan(path="fc1"), batch=256)
        ),
    )


def _pushed(run: RunView, mean: float) -> RunView:
    """The same run, every pre-activation with that mean and a standard deviation of 1."""
    readings = []
    for reading in run.readings:
        tally = reading.tally
        if reading.signal is Signal.PREACTIVATION:
            tally = replace(tally, total=tally.count * mean, squares=tally.count * (mean**2 + 1))
        readings.append(replace(reading, tally=tally))
    return replace(run, readings=tuple(readings))


def _straight(wiring: Wiring) -> tuple[bool, bool]:
    """Whether the activation has one slope, not 0, on the positive side, and on the negative side."""
    activation = activation_named(wiring.activation)
    if activation is None:
        return False, False
    with np.errstate(over="ignore", invalid="ignore"):
        slopes = [activation.derivative(side * _FAR, wiring.options) for side in (1.0, -1.0)]
    on, off = (bool((s == s[0]).all() and s[0] != 0) for s in slopes)
    return on, off
