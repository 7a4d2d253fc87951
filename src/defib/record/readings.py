"""Readings: out of a rank's rows, and of several ranks together."""

from collections.abc import Mapping, Sequence

from defib.core.evidence import Unseen
from defib.core.reading import Reading
from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.record.codec import AlteredError
from defib.record.rows import Row
from defib.record.shelf import Shelf, Shelved

Spot = tuple[Site, Signal]
"""Where something is read, and what."""


def decoded(row: Row, spots: Mapping[int, Spot], shelf: Shelf) -> list[Reading]:
    """The reading that a row of table ``reading`` holds, its tally put on the shelf.

    Args:
        row: Whole, without its checksum.
        spots: The rank's places, by their number.
        shelf: Where tallies go.

    Returns:
        It; nothing for a window that became one with another.

    Raises:
        AlteredError: If it has another number of statistics, or cannot hold what it says.
    """
    _, place, first, last, samples, units, layout, body = row
    if not layout:
        return []
    site, signal = spots[place]
    if len(layout) != len(Tally.rows()):
        raise AlteredError("another number of statistics")
    packed = shelf.put(layout.decode(), int(samples), int(units), body)
    return [Shelved(site=site, signal=signal, first=int(first), last=int(last), shelf=shelf, packed=[packed])]


def unpacked(
    packed: Sequence[Reading], at_once: int, wrong: tuple[type[Exception], ...]
) -> tuple[list[Reading], int]:
    """The readings of a record that is not large, unpacked, so that bytes that are none of ours show now.

    Args:
        packed: A rank's readings.
        at_once: Bytes of unpacked readings up to which that is done.
        wrong: What is raised for bytes that are none of ours.

    Returns:
        The readings, and how many could not be unpacked.
    """
    if sum(8 * len(Tally.rows()) * reading.units for reading in packed) > at_once:
        return list(packed), 0
    found: list[Reading] = []
    for reading in packed:
        try:
            found.append(reading.unpacked() if isinstance(reading, Shelved) else reading)
        except wrong:
            continue
    return found, len(packed) - len(found)


def merged(ranks: Sequence[Sequence[Reading]], unseen: list[Unseen]) -> tuple[Reading, ...]:
    """By site, signal and time; those of the same window on several ranks are merged.

    Args:
        ranks: What each rank recorded.
        unseen: Readings that do not fit the others are told here.

    Returns:
        The readings of the run.
    """
    units: dict[Spot, int] = {}
    found: dict[tuple[Site, Signal, int, int], list[Reading]] = {}
    for index, readings in enumerate(ranks):
        for reading in readings:
            spot = reading.site, reading.signal
            if units.setdefault(spot, reading.units) != reading.units:
                why = f"a reading of {reading.units} units where others have {units[spot]}"
                unseen.append(Unseen(what=str(reading.site), why=why))
                continue
            same = found.setdefault((*spot, reading.first, reading.last), [])
            if index and same:
                same[0] = _both(same[0], reading)
            else:
                same.append(reading)
    ordered = sorted(found, key=lambda key: (key[0], key[1], key[2], key[3]))
    return tuple(reading for key in ordered for reading in found[key])


def _both(one: Reading, other: Reading) -> Reading:
    """The same window of two ranks; packed ones stay packed."""
    if isinstance(one, Shelved) and isinstance(other, Shelved):
        return one.beside(other)
    tally = one.tally.merge(other.tally)
    return Reading(site=one.site, signal=one.signal, first=one.first, last=one.last, tally=tally)
