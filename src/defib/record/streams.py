"""Series that only some steps have: consecutive steps compared, and what the user logged."""

from collections.abc import Sequence

from defib.core.run import PAIR_COLUMNS, Pairs, Series
from defib.record.part import Part

_PAIR = "pair."
_LOG = "log."


def pairs(parts: Sequence[Part]) -> dict[int, Pairs]:
    """Consecutive steps compared, by optimiser; gradients are reduced over the ranks, so one rank tells."""
    found: dict[int, Pairs] = {}
    for part in parts:
        for index in sorted({index for index, name in part.streams if name.startswith(_PAIR)}):
            columns = [part.streams.get((index, _PAIR + name)) for name in PAIR_COLUMNS]
            whole = [column for column in columns if column is not None]
            lengths = {len(column) for column in whole}
            # A chunk that is damaged is lost in one column only: then the rows no longer fit together.
            if index not in found and len(whole) == len(PAIR_COLUMNS) and len(lengths) == 1:
                values = {name: c.values for name, c in zip(PAIR_COLUMNS, whole, strict=True)}
                found[index] = Pairs(steps=whole[0].steps, **values)
    return found


def logged(parts: Sequence[Part]) -> dict[str, Series]:
    """What was logged, by name; of several ranks that logged the same name, the lowest one's."""
    found: dict[str, Series] = {}
    for part in parts:
        for (_, name), series in part.streams.items():
            if name.startswith(_LOG):
                found.setdefault(name.removeprefix(_LOG), series)
    return dict(sorted(found.items()))
