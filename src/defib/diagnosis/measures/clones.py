"""Whether all units of a layer compute the same."""

import numpy as np

from defib.core.run import RunView
from defib.core.site import Signal
from defib.core.tally import Tally
from defib.core.wiring import Wiring
from defib.diagnosis.measures.wires import Wires

_FEWEST_SAMPLES = 16
"""Two different units agree on a sample's sign by chance; on a mean to a thousandth they do not."""


def cloned(run: RunView, wiring: Wiring, wires: Wires) -> bool:
    """Whether all units of a hidden layer gave the same numbers on every late reading."""
    if wiring.units < 2 or wiring.output or wires.is_output(wiring):
        return False
    readings = run.at(wiring.site, Signal.PREACTIVATION)
    second = readings[len(readings) // 2 :]
    kept = [r for r in second if r.tally.units == wiring.units and r.tally.finite.all()]
    late = [r.tally for r in kept]
    steps = {step for r in kept for step in (r.first, r.last)}  # a reading may be merged over several
    if len(steps) < 2 or sum(t.samples for t in late) < _FEWEST_SAMPLES:
        return False
    return all(_all_alike(t) for t in late) and any(bool((t.high > t.low).any()) for t in late)


def _all_alike(tally: Tally) -> bool:
    """Whether all units have the same numbers, give or take the float32 rounding of their sums."""
    size = float(np.sqrt(np.max(tally.squares * tally.finite)))
    return (
        _same(tally.total, size)
        and _same(tally.squares, float(np.max(tally.squares)))
        and _same(tally.low, float(np.max(np.abs(tally.low))))
        and _same(tally.high, float(np.max(np.abs(tally.high))))
    )


def _same(values: np.ndarray[tuple[int], np.dtype[np.float64]], size: float) -> bool:
    """Whether all units have that number, measured against ``size``; all 0 is one number too."""
    return float(np.ptp(values)) <= 1e-3 * size
