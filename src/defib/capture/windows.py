"""Readings merged over time: many windows early in a run, few per unit of time later."""

from dataclasses import dataclass
from time import monotonic

from defib.core.ports import Sink
from defib.core.site import Signal, Site
from defib.core.tally import Tally

GROWTH = 1.25
"""A window that began at step s is closed when it is older than s x (GROWTH - 1) + 4 steps."""


@dataclass
class _Window:
    first: int
    last: int
    tally: Tally
    dirty: bool = True


BYTES_A_SECOND = 128 << 10
"""Windows are written again no faster than this: compressing them takes time from training."""


class Windows:
    """Open windows by site and signal. An open window is written again whenever it has grown."""

    def __init__(self) -> None:
        self._next_write = 0.0
        self._open: dict[tuple[Site, Signal], _Window] = {}

    def add(self, step: int, site: Site, signal: Signal, tally: Tally) -> None:
        """Take in the tally of one sampled step. A change of shape begins a new window."""
        window = self._open.get((site, signal))
        grown = window is not None and step > window.first * GROWTH + 4
        if window is None or grown or window.tally.units != tally.units:
            self._open[site, signal] = _Window(step, step, tally)
        else:
            window.last, window.tally, window.dirty = step, window.tally.merge(tally), True

    def due_before(self, step: int) -> bool:
        """Whether a reading of step ``step`` would push out an open window that is not written yet."""
        return any(w.dirty and step > w.first * GROWTH + 4 for w in self._open.values())

    def cut(self, sink: Sink) -> None:
        """Close every window: what is read from now on must not be merged with what was."""
        self.write(sink, even_if_early=True)
        self._open.clear()

    def write(self, sink: Sink, even_if_early: bool) -> None:
        """Hand every window that changed since the last time to the sink.

        Args:
            sink: Takes them.
            even_if_early: Also if that exceeds ``BYTES_A_SECOND``.
        """
        now = monotonic()
        if now < self._next_write and not even_if_early:
            return
        written = sum(8 * len(Tally.rows()) * w.tally.units for w in self._open.values() if w.dirty)
        self._next_write = now + written / BYTES_A_SECOND
        for (site, signal), window in self._open.items():
            if window.dirty:
                sink.reading(site, signal, window.first, window.last, window.tally)
                window.dirty = False
