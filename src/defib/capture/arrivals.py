"""Numbers of sampled steps on their way from a device to the record."""

import numpy as np
from numpy.typing import NDArray

from defib.capture.border import Numbers, Transfer
from defib.capture.clock import Clock
from defib.capture.objective import ObjectiveReading
from defib.capture.reading import Collected
from defib.capture.summary import Summary
from defib.core.optimizer import PAIR_COLUMNS
from defib.core.ports import Sink
from defib.core.precision import single
from defib.core.site import Signal, Site
from defib.core.tally import Tally


class Arrivals:
    """What was read and has not reached the host yet; nobody waits for it.

    Args:
        summary: Takes readings and objectives.
        sink: Takes norms and pairs of steps.
    """

    def __init__(self, summary: Summary, sink: Sink) -> None:
        self._summary = summary
        self._sink = sink
        self._readings: list[tuple[int, Clock, Collected, Numbers]] = []
        self._objectives: list[tuple[int, ObjectiveReading, Numbers]] = []
        self._norms: list[tuple[int, tuple[str, ...], Transfer]] = []
        self._pairs: list[tuple[int, int, Transfer]] = []
        self._displacements: list[tuple[int, int, Transfer]] = []

    def reading(self, step: int, clock: Clock, part: Collected, scales: Numbers) -> None:
        """A backward was read; the optimiser of ``clock`` took step ``step`` with it."""
        self._readings.append((step, clock, part, scales))

    def objective(self, step: int, objective: ObjectiveReading, scales: Numbers) -> None:
        """What the loss compared was read."""
        self._objectives.append((step, objective, scales))

    def norms(self, step: int, parameters: tuple[str, ...], values: Transfer) -> None:
        """Sizes of gradients, weights and updates were taken."""
        self._norms.append((step, parameters, values))

    def displacement(self, optimizer: int, step: int, ratio: Transfer) -> None:
        """How far the weights were, before this step, from where they began."""
        self._displacements.append((optimizer, step, ratio))

    def pair(self, optimizer: int, step: int, products: Transfer) -> None:
        """A step was compared with the next one; see :meth:`defib.capture.secant.Secants.meet`."""
        self._pairs.append((optimizer, step, products))

    def settle(self, wait: bool) -> None:
        """Take in readings whose numbers are on the host by now."""
        ready = [w for w in self._readings if wait or (w[2].ready and w[3].ready)]
        self._readings = [w for w in self._readings if w not in ready]
        merged: dict[tuple[int, Site, Signal], Tally] = {}
        for step, clock, part, scale in ready:
            at_backward, divisor = scale.array().tolist()
            if at_backward > divisor:  # its step was skipped
                continue
            for site, signal, tally in part.tallies():
                if not _owned(site, clock) or (site, signal) in part.taken:
                    continue
                part.taken.add((site, signal))  # two optimisers may share a layer
                values = _unscaled(tally, divisor) if signal.value.endswith("grad") else tally
                key = (step, site, signal)
                known = merged.get(key)
                same = known is not None and known.units == values.units
                merged[key] = known.merge(values) if same and known is not None else values
        self._summary.readings(merged)
        self._objectives = self._summary.objectives(self._objectives, wait)
        for step, names, transfer in [n for n in self._norms if wait or n[2].ready]:
            self._sink.norms(step, names, single(transfer.array()))
        self._norms = [n for n in self._norms if not (wait or n[2].ready)]
        for optimizer, step, transfer in [d for d in self._displacements if wait or d[2].ready]:
            self._sink.stream(optimizer, step, {"displacement": single(transfer.array())})
        self._displacements = [d for d in self._displacements if not (wait or d[2].ready)]
        for optimizer, step, transfer in [p for p in self._pairs if wait or p[2].ready]:
            self._sink.stream(optimizer, step, _of_pair(transfer.array()))
        self._pairs = [p for p in self._pairs if not (wait or p[2].ready)]


def _of_pair(products: NDArray[np.generic]) -> dict[str, NDArray[np.float32]]:
    """``PAIR_COLUMNS`` of the products of g, g' and d; a cosine with a vector of zeros is NaN."""
    gram = np.asarray(products, dtype=np.float64)
    sizes = np.sqrt(np.diag(gram))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        cosine = gram / sizes[:, None] / sizes
        numbers = [*sizes, cosine[0, 2], cosine[1, 2], cosine[0, 1]]
        return {f"pair.{name}": single([number]) for name, number in zip(PAIR_COLUMNS, numbers, strict=True)}


def _owned(site: Site, clock: Clock) -> bool:
    """Whether a reading belongs to the optimiser that stepped; a site without parameters to any."""
    return site.path in clock.paths or site.path.startswith("(")


def _unscaled(tally: Tally, scale: float) -> Tally:
    """The tally of a gradient without the loss scale."""
    if scale == 1.0:
        return tally
    values = tally.to_array()
    for row, power in (("total", 1), ("squares", 2), ("low", 1), ("high", 1)):
        values[Tally.rows().index(row)] /= scale**power
    return Tally.from_array(tally.samples, values)
