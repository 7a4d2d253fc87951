"""What the last readings say of each layer's units, one layer after the other.

A large record holds a million units: what is merged for one layer is let go of
before the next.

Letters: ``U`` units of a layer.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from defib.core.reading import Reading
from defib.core.run import RunView
from defib.core.site import Signal
from defib.core.tally import Tally
from defib.core.wiring import Wiring
from defib.diagnosis.measures.wires import Wires


@dataclass(frozen=True, kw_only=True, eq=False)
class Late:
    """A hidden layer as it was at the end.

    Attributes:
        wiring: Its first use.
        tallies: By signal, over all of its uses, each of U units.
    """

    wiring: Wiring
    tallies: dict[Signal, Tally]

    @property
    def path(self) -> str:
        """The layer."""
        return self.wiring.site.path


def late(run: RunView, wires: Wires, samples: float) -> Iterator[Late]:
    """The hidden layers with what was last read of them.

    Args:
        run: The run.
        wires: Its graph.
        samples: From the last reading backwards, as many as it takes to see this many samples;
            a signal that never saw as many is left out.

    Yields:
        The layers of which any signal is left, in order of data flow.
    """
    readings: dict[str, list[Reading]] = {}
    for reading in sorted(run.readings, key=lambda r: -r.first):
        readings.setdefault(reading.site.path, []).append(reading)
    for path, uses in wires.wirings.items():
        if any(use.output or wires.is_output(use) for use in uses):
            continue
        found = _merged(readings.get(path, ()), uses[0].units, samples)
        if found:
            yield Late(wiring=uses[0], tallies=found)


def _merged(readings: Iterable[Reading], units: int, samples: float) -> dict[Signal, Tally]:
    """The tallies of one layer, from its readings, the last first."""
    found: dict[Signal, Tally] = {}
    for reading in readings:
        known = found.get(reading.signal)
        if reading.units == units and (known is None or known.samples < samples):
            found[reading.signal] = reading.tally if known is None else known.merge(reading.tally)
    return {
        signal: found[signal] for signal in Signal if signal in found and found[signal].samples >= samples
    }
