"""Readings of a large record stay packed and are unpacked when a rule asks for them.

A million units, of which four signals are read over many windows, are gigabytes as
float64 and two hundred megabytes as they are stored. So their compressed bytes are
kept, first in memory and beyond :data:`IN_MEMORY` in an unnamed temporary file, and
the first :data:`UNPACKED` bytes that were unpacked stay so. None of them makes way for
another: rules go over the layers in turn, and of a turn that is longer than what can be
kept, the last looked at is what is needed last. A run that was read does not need its
record's file any more: that may be written on, replaced or removed.

Letters: ``U`` units, ``R`` statistics of a tally.
"""

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from tempfile import SpooledTemporaryFile

from defib.core.reading import Reading
from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.record.codec import inflate, rows_of, size_of

IN_MEMORY = 256 << 20
"""Bytes of packed readings that are kept in memory: all that one rank writes."""

UNPACKED = 384 << 20
"""Bytes of unpacked readings that are kept, in the types that they are stored in."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Where a tally lies on the shelf.

    Attributes:
        at: Its first byte.
        length: Its bytes, compressed.
        layout: The type of each row, one letter each.
        samples: ``Tally.samples``.
        units: U.
    """

    at: int
    length: int
    layout: str
    samples: int
    units: int


class Shelf:
    """Packed tallies, and some of them unpacked. Any thread may use it.

    Args:
        in_memory: Bytes of packed tallies beyond which they go into a temporary file.
        unpacked: Bytes of unpacked tallies that are kept.
    """

    def __init__(self, in_memory: int = IN_MEMORY, unpacked: int = UNPACKED) -> None:
        self._most = unpacked
        self._file = SpooledTemporaryFile(max_size=in_memory)  # noqa: SIM115
        weakref.finalize(self, self._file.close)  # with the last reading that lies on it
        self._end = 0
        self._unpacked: dict[int, bytes] = {}
        self._held = 0
        self._lock = threading.Lock()

    def put(self, layout: str, samples: int, units: int, body: bytes) -> Packed:
        """Keeps a tally as :func:`defib.record.codec.pack_rows` packed it.

        Args:
            layout: One letter a row.
            samples: ``Tally.samples``.
            units: U.
            body: The compressed rows.

        Returns:
            Where it lies.

        Raises:
            AlteredError: If there cannot be such a tally in those bytes.
            OSError: If the temporary file has no room.
        """  # noqa: DOC502  raised by what it calls
        size_of(layout, units, body)
        with self._lock:
            self._file.seek(self._end)
            self._file.write(body)
            packed = Packed(at=self._end, length=len(body), layout=layout, samples=samples, units=units)
            self._end += len(body)
        return packed

    def take(self, packed: Packed) -> Tally:
        """Unpacks a tally.

        Returns:
            It, new on every call.

        Raises:
            AlteredError: If its sealed bytes are none of a writer's.
        """  # noqa: DOC502  raised by inflate
        with self._lock:
            data = self._unpacked.get(packed.at)
            if data is None:
                self._file.seek(packed.at)
                body = self._file.read(packed.length)
                data = inflate(body, size_of(packed.layout, packed.units, body))
                if self._held + len(data) <= self._most:
                    self._unpacked[packed.at] = data
                    self._held += len(data)
        return Tally.from_array(packed.samples, rows_of(packed.layout, packed.units, data))


class Shelved(Reading):
    """A reading whose tally is unpacked whenever it is asked for, never kept.

    Args:
        site: Where.
        signal: Which signal.
        first: First sampled step in the window.
        last: Last sampled step in the window.
        shelf: Where the tally lies.
        packed: Its place there; several (of several ranks) are merged.
    """

    def __init__(
        self, *, site: Site, signal: Signal, first: int, last: int, shelf: Shelf, packed: Sequence[Packed]
    ) -> None:
        known = {"site": site, "signal": signal, "first": first, "last": last}
        for name, value in {**known, "_shelf": shelf, "_packed": tuple(packed), "_sizes": None}.items():
            object.__setattr__(self, name, value)  # as a frozen dataclass does it

    _shelf: Shelf
    _packed: tuple[Packed, ...]
    _sizes: tuple[float, float] | None

    @property
    def tally(self) -> Tally:
        """The statistics, unpacked; hold on to them only as long as they are needed."""
        whole = reduce(Tally.merge, (self._shelf.take(packed) for packed in self._packed))
        if self._sizes is None:
            object.__setattr__(self, "_sizes", (float(whole.finite.sum()), whole.norm))
        return whole

    @property
    def samples(self) -> int:
        """``tally.samples``, without unpacking."""
        return sum(packed.samples for packed in self._packed)

    @property
    def units(self) -> int:
        """``tally.units``, without unpacking."""
        return self._packed[0].units

    @property
    def entries(self) -> float:
        """Finite entries of all units, remembered once the tally was unpacked."""
        return self._known()[0]

    @property
    def norm(self) -> float:
        """``tally.norm``, remembered once the tally was unpacked."""
        return self._known()[1]

    def _known(self) -> tuple[float, float]:
        if self._sizes is None:
            _ = self.tally
        assert self._sizes is not None
        return self._sizes

    def beside(self, other: "Shelved") -> "Shelved":
        """The same window of two ranks."""
        return Shelved(
            site=self.site,
            signal=self.signal,
            first=self.first,
            last=self.last,
            shelf=self._shelf,
            packed=(*self._packed, *other._packed),
        )

    def unpacked(self) -> Reading:
        """The same reading, with its tally unpacked for good."""
        return Reading(site=self.site, signal=self.signal, first=self.first, last=self.last, tally=self.tally)

    def __repr__(self) -> str:
        return f"Shelved({self.site}, {self.signal}, steps {self.first} to {self.last}, {self.units} units)"

    def __reduce__(self) -> tuple[object, ...]:
        # A copy in another process has no shelf: it takes its tally along.
        return (_reading, (self.site, self.signal, self.first, self.last, self.tally))


def _reading(site: Site, signal: Signal, first: int, last: int, tally: Tally) -> Reading:
    return Reading(site=site, signal=signal, first=first, last=last, tally=tally)
