"""Some units of a layer compute the same, up to scale.

## What it measures

Over the last readings, the share of positive and of zero entries, the mean, the smallest and the
largest entry of each unit, for pre-activation, activation and the gradients on both sides, each
divided by the unit's own root mean square. Units that agree in all of them are clones: they answer
every sample alike, and get the same gradient, so they stay alike.

## Why it hurts

Clones count as one unit. A few are unused capacity. When all units of a hidden layer are clones, the
layer is one unit wide; that is judged by the rule on initialisation, by its harm.

## Causes

- `duplicate-units`: equal rows of weights (up to a positive scale) with proportional weights behind
  them: a symmetric initialisation, or copied units.

## Prognosis

Clones that get the same gradient never part, except by noise of their own (dropout).

## Example

A layer was widened by copying its 64 units without noise: defib finds 64 groups of two clones.

## False alarms

This is information only. Agreement to 1 in 10,000 in some twenty numbers does not come about by
chance. Units that are constant are not compared.

## References

- Chen, Goodfellow, Shlens: Net2Net (2016), on breaking the symmetry of copied units.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import RunView
from defib.core.site import Signal
from defib.core.tally import Tally
from defib.diagnosis.cases import Plan, run_of
from defib.diagnosis.measures.late import Late, late
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.rule import Case, Expected, Limit, Rule

Array = NDArray[np.float64]


class ClonedUnit(Rule):
    """Units that compute the same."""

    slug = "cloned-unit"
    fault = Fault.BAD_INIT
    title = "some units of a layer compute the same, up to scale"
    rank = 84
    causes = (Cause.DUPLICATE_UNITS,)
    limits = (
        Limit(
            name="tolerance",
            default=1e-4,
            unit="1",
            meaning="largest difference of any number of two clones, in units of their root mean square",
            reason="a thousand times the rounding of float32 sums",
        ),
        Limit(
            name="samples",
            default=64,
            unit="samples",
            meaning="fewest samples that they are compared on",
            reason="units that agree on fewer may have seen the same few inputs only",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """One finding for each layer."""
        for layer in late(run, Wires(run), self.limit("samples")):
            forward = {Signal.PREACTIVATION, Signal.ACTIVATION} & set(layer.tallies)
            units = layer.wiring.units
            if not forward or len(layer.tallies) < 2 or units < 2:
                continue
            signature = np.hstack([_shape(tally) for tally in layer.tallies.values()])
            vary = np.all([_varies(layer.tallies[s]) for s in forward], axis=0)
            groups = _groups(signature, self.limit("tolerance"), vary)
            if groups.max(initial=0):
                yield self._finding(layer, groups)

    def _finding(self, layer: Late, groups: NDArray[np.int64]) -> Finding:
        """The finding for one layer."""
        units = np.flatnonzero(groups)
        number = int(groups.max())
        total = len(groups)
        return Finding(
            rule=self.slug,
            fault=self.fault,
            severity=Severity.INFO,
            confidence=Confidence.MEASURED,
            layer=layer.path,
            call=layer.wiring.site.call,
            units=tuple(int(u) for u in units),
            units_total=total,
            cause=Cause.DUPLICATE_UNITS,
            message=f"{len(units)} of {total} units of {layer.path} are clones: they compute {number} "
            "different functions",
            evidence=(
                Evidence(name="groups of clones", value=number, unit="groups"),
                Evidence(name="different units", value=total - len(units) + number, unit="units"),
            ),
            modules=layer.wiring.modules,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="two pairs of copies, one of them scaled",
            build=lambda: _apart({0: 3, 4: 5}),
            expect=(
                Expected(
                    cause=Cause.DUPLICATE_UNITS, severity=Severity.INFO, layer="fc1", units=(0, 3, 4, 5)
                ),
            ),
        ),
        Case(name="all units differ", build=lambda: _apart({})),
        Case(
            name="constant units are not compared",
            build=lambda: _apart({}, constant=(1, 2)),
        ),
    )


def _apart(copies: dict[int, int], constant: tuple[int, ...] = ()) -> RunView:
    """A layer whose units all differ but for those that are copies of others, at twice their scale."""
    run = run_of(Plan(path="fc1"))
    return replace(
        run,
        readings=tuple(replace(r, tally=_told_apart(r.tally, copies, constant)) for r in run.readings),
    )


def _told_apart(tally: Tally, copies: dict[int, int], constant: tuple[int, ...]) -> Tally:
    """The tally with means and extremes that differ from unit to unit."""
    values = {name: getattr(tally, name).copy() for name in ("total", "squares", "low", "high")}
    values["total"] += np.arange(tally.units) * 2.0
    values["high"] += np.arange(tally.units) * 0.1
    for one, other in copies.items():
        for name, power in (("total", 1), ("squares", 2), ("low", 1), ("high", 1)):
            values[name][other] = values[name][one] * 2.0**power
    for unit in constant:
        values["total"][unit] = tally.count[unit]
        values["squares"][unit] = tally.count[unit]
        values["low"][unit] = values["high"][unit] = 1.0
    return replace(tally, **values)


def _shape(tally: Tally) -> Array:
    """Numbers of each unit that a positive scale leaves as they are, shape (U, 5)."""
    finite = np.where(tally.finite > 0, tally.finite, 1.0)
    size = np.sqrt(tally.squares / finite)
    size = np.where(size > 0, size, 1.0)
    columns = (
        tally.positive / finite,
        tally.zero / finite,
        tally.total / finite / size,
        np.nan_to_num(tally.low / size, posinf=0.0, neginf=0.0),
        np.nan_to_num(tally.high / size, posinf=0.0, neginf=0.0),
    )
    return np.asarray(np.stack(columns, axis=1))


def _varies(tally: Tally) -> NDArray[np.bool_]:
    """Units that do not answer all samples alike, shape (U,)."""
    return np.asarray((tally.high > tally.low) & (tally.nonfinite == 0))


def _groups(signature: Array, tolerance: float, vary: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The number of the group of clones that each unit belongs to, shape (U,); 0 for none.

    Units are sorted by one number, a fixed combination of all, and compared with the next three:
    clones are neighbours in that order, give or take a unit that falls between them by chance.

    Returns:
        The groups, counted from 1.
    """
    groups = np.zeros(len(signature), dtype=np.int64)
    weights = np.sqrt(np.arange(2, signature.shape[1] + 2))
    candidates = np.flatnonzero(vary)
    order = candidates[np.argsort(signature[candidates] @ weights, kind="stable")]
    number = 0
    for ahead in (1, 2, 3):
        near = np.abs(signature[order[ahead:]] - signature[order[:-ahead]]).max(axis=1, initial=0.0)
        for place in np.flatnonzero(near <= tolerance):
            one, other = order[place], order[place + ahead]
            number += not (groups[one] or groups[other])
            group = max(groups[one], groups[other]) or number
            for unit in (one, other):
                if groups[unit] and groups[unit] != group:
                    groups[groups == groups[unit]] = group
                groups[unit] = group
    _, ranks = np.unique(groups, return_inverse=True)
    return np.asarray(ranks + (1 if len(groups) and groups.min() > 0 else 0), dtype=np.int64)
