"""Units whose activation is a small fraction of their layer's mean.

## What it measures

The score of a unit by Sokar et al.: the mean of |h| over the samples, divided by the mean of that
over the layer's units. A unit with a score of at most tau is dormant. Where activations can be
negative the root mean square stands for the mean of |h|. Units that are exactly zero throughout are
left to the rule on dead units.

## Why it hurts

It does not by itself. A dormant unit still gets gradient and may wake up; it is capacity that the
layer does not use. In reinforcement learning, where targets keep moving, a share that grows over
the run goes with a network that learns new things ever more slowly.

## Causes

- `relatively-silent`: the unit's activation is small against that of the units beside it, since it
  fires seldom, or weakly.

## Prognosis

Dormant is not dead: the gradient is small but not zero.

## Example

A layer of 512 units in a value network: after a million steps 230 of them have a score below 0.025.

## False alarms

This is information only. A few units that dominate their layer make all others look dormant; the
evidence gives the largest unit's share. The score depends on the data seen.

## References

- Sokar, Agarwal, Castro, Evci: The Dormant Neuron Phenomenon in Deep Reinforcement Learning (2023).
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import RunView
from defib.core.site import Signal
from defib.core.tally import Tally
from defib.diagnosis.case_parts import scaled
from defib.diagnosis.cases import Plan, run_of
from defib.diagnosis.measures.late import Late, late
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.rule import Case, Expected, Limit, Rule


class DormantUnit(Rule):
    """Nearly silent against its neighbours."""

    slug = "dormant-unit"
    fault = Fault.DEAD_UNITS
    title = "units whose activation is a small fraction of their layer's mean"
    rank = 80
    causes = (Cause.RELATIVELY_SILENT,)
    limits = (
        Limit(
            name="tau",
            default=0.025,
            unit="1",
            meaning="activation of a unit over the layer's mean, at most",
            reason="the value of Sokar et al. for networks of this kind",
        ),
        Limit(
            name="samples",
            default=1500,
            unit="samples",
            meaning="fewest samples that the score is taken over",
            reason="a unit that fires strongly on 0.2 % of the samples is rare, not dormant",
        ),
        Limit(
            name="share",
            default=0.1,
            unit="1",
            meaning="share of a layer that must be dormant to be worth a line",
            reason="a tenth of a layer's width is less than what people choose between when they choose it",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """One finding for each layer."""
        for layer in late(run, Wires(run), self.limit("samples")):
            tally = layer.tallies.get(Signal.ACTIVATION)
            if tally is None or tally.units < 2:
                continue
            size = _size(tally)
            mean = float(size.mean())
            if not (np.isfinite(mean) and mean > 0):
                continue
            dormant = (size > 0) & (size <= self.limit("tau") * mean)
            if dormant.mean() >= self.limit("share"):
                yield self._finding(layer, size / mean, dormant)

    def _finding(self, layer: Late, score: NDArray[np.float64], dormant: NDArray[np.bool_]) -> Finding:
        """The finding for one layer."""
        units = tuple(int(u) for u in np.flatnonzero(dormant))
        return Finding(
            rule=self.slug,
            fault=self.fault,
            severity=Severity.INFO,
            confidence=Confidence.MEASURED,
            layer=layer.path,
            call=layer.wiring.site.call,
            units=units,
            units_total=len(score),
            cause=Cause.RELATIVELY_SILENT,
            message=f"{len(units)} of {len(score)} units of {layer.path} are dormant: alive, with an "
            f"activation of at most {self.limit('tau'):.3g} of the layer's mean",
            evidence=(
                Evidence(name="dormant share of the layer", value=float(dormant.mean())),
                Evidence(name="median score of the dormant units", value=float(np.median(score[dormant]))),
                Evidence(name="largest unit's share of the layer", value=float(score.max() / len(score))),
            ),
            modules=layer.wiring.modules,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="two of eight units give a hundredth of the others",
            build=lambda: scaled(_ready(), "fc1", {2: 0.01, 5: 0.01}),
            expect=(
                Expected(cause=Cause.RELATIVELY_SILENT, severity=Severity.INFO, layer="fc1", units=(2, 5)),
            ),
        ),
        Case(name="units that are three times apart", build=lambda: scaled(_ready(), "fc1", {2: 0.3})),
        Case(name="a dead unit is not dormant", build=lambda: scaled(_ready(), "fc1", {2: 0.0})),
        Case(
            name="too few samples",
            build=lambda: scaled(run_of(Plan(path="fc1"), every=100), "fc1", {2: 0.01}),
        ),
    )


def _ready() -> RunView:
    """A healthy layer read on 1,500 samples and more."""
    return run_of(Plan(path="fc1"), batch=256)


def _size(tally: Tally) -> NDArray[np.float64]:
    """Mean of |h| for each unit, shape (U,); the root mean square where h may be negative."""
    finite = np.where(tally.finite > 0, tally.finite, np.nan)
    if float(tally.low.min(initial=0.0)) >= 0:
        return np.nan_to_num(np.asarray(tally.total / finite))
    return np.nan_to_num(np.sqrt(tally.squares / finite))
