"""Numbers of sampled steps on their way from a device to the record."""

from defib.capture.border import Numbers, Transfer
from defib.capture.clock import Clock
from defib.capture.objective import ObjectiveReading
from defib.capture.reading import Collected
from defib.capture.summary import Summary
from defib.core.ports import Sink
from defib.core.site import Signal, Site
from defib.core.tally import Tally


class Arrivals:
    """What was read and has not reached the host yet; nobody waits for it.

    Args:
        summary: Takes readings and objectives.
        sink: Takes norms.
    """

    def __init__(self, summary: Summary, sink: Sink) -> None:
        self._summary = summary
        self._sink = sink
        self._readings: list[tuple[int, Clock, Collected, Numbers]] = []
        self._objectives: list[tuple[int, ObjectiveReading, Numbers]] = []
        self._norms: list[tuple[int, tuple[str, ...], Transfer]] = []

    def reading(self, step: int, clock: Clock, part: Collected, scales: Numbers) -> None:
        """A backward was read; the optimiser of ``clock`` took step ``step`` with it."""
        self._readings.append((step, clock, part, scales))

    def objective(self, step: int, objective: ObjectiveReading, scales: Numbers) -> None:
        """What the loss compared was read."""
        self._objectives.append((step, objective, scales))

    def norms(self, step: int, parameters: tuple[str, ...], values: Transfer) -> None:
        """Sizes of gradients, weights and updates were taken."""
        self._norms.append((step, parameters, values))

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
            self._sink.norms(step, names, transfer.array().astype("float32"))
        self._norms = [n for n in self._norms if not (wait or n[2].ready)]


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
