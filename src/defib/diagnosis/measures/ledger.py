"""Where along the depth the gradient is lost, or grows: measured, link by link.

With g_l = dL/dh_l and d_l = dL/dz_l at activation l, and |.| the norm over the whole batch, the ledger
has for each activation and for each link between two of them

    D_l = log10 |d_l| / |g_l|           what the activation's derivative does
    M_l = log10 |g_(l-1)| / |d_l|       what stands between two activations does

and the sum over all of them telescopes exactly to log10 |d_1| / |g_L|. Paths that go around an
activation are in the numbers, because dL/dh_l is the whole gradient at h_l, whichever way it came.

A record says between which activations a gradient crosses more than weights. So M_l is put into a
column by what the link crosses: weights alone; a normalisation beside them; several ways (a skip, a
branch, more than one layer that takes h); or something within which its ways cannot be told apart
(attention, a product of signals, a fused or compiled region, a checkpoint), which is unattributed.

Letters: ``S`` activations on the path, ``W`` windows of readings.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from defib.core.cause import Cause
from defib.core.evidence import Evidence
from defib.core.run import RunView
from defib.core.site import Signal, Site
from defib.core.wiring import Crossing, Wiring
from defib.diagnosis.measures.blame import blame
from defib.diagnosis.measures.wires import Wires

Array = NDArray[np.float64]
Window = tuple[int, int]
Sizes = Mapping[Window, float]

_DARK = (
    Crossing.COMPILED,
    Crossing.CHECKPOINT,
    Crossing.RECURRENCE,
    Crossing.ATTENTION,
    Crossing.PRODUCT,
)
"""What cannot be parted from outside; of several, the first named hides the most."""
COLUMNS = ("weights", "norms", "skips", "unattributed")
_MOST_BLIND = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Link:
    """What stands between two activations that follow each other on the path.

    Attributes:
        below: The activation nearer to the input.
        above: The one nearer to the loss.
        column: One of ``COLUMNS``.
        why: What cannot be parted, in a word; "" if it is attributed.
        decades: Change of the signal over it, shape (W,).
    """

    below: Wiring
    above: Wiring
    column: str
    why: str
    decades: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Ledger:
    """The account of one signal along the depth.

    Attributes:
        path: The activations, nearest to the input first, length S.
        steps: First step of each window, shape (W,).
        total: Decades from one end to the other, shape (W,); negative is a loss.
        activations: The part of the activations, shape (W,).
        weights: The part of all that stands between them, shape (W,).
        links: That part link by link, nearest to the input first, length S - 1.
        derivatives: The part of each activation, nearest to the input first, shape (S, W).
    """

    path: tuple[Wiring, ...]
    steps: NDArray[np.int64]
    total: Array
    activations: Array
    weights: Array
    links: tuple[Link, ...] = field(default=())
    derivatives: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def worst(self, sign: int) -> int:
        """The window whose total is the largest in the direction of ``sign``."""
        return int(np.argmax(self.total * sign))

    def column(self, name: str) -> Array:
        """The part of the links in one of ``COLUMNS``, shape (W,); all four add up to ``weights``."""
        return sum((x.decades for x in self.links if x.column == name), np.zeros_like(self.total))

    @property
    def typical(self) -> tuple[float, float, float]:
        """Medians over the windows: total, activations, weights."""
        return (
            float(np.median(self.total)),
            float(np.median(self.activations)),
            float(np.median(self.weights)),
        )

    def blamed(self, sign: int, window: int | None = None) -> Cause:
        """What a loss (-1) or a gain (+1) is due to; both, if most of it lies where nothing can be parted.

        Args:
            sign: Which of the two is to be explained.
            window: In which window; None for medians.

        Returns:
            The cause.
        """
        of = np.median if window is None else (lambda decades: decades[window])
        total, activations, weights, dark = (
            float(of(x)) for x in (self.total, self.activations, self.weights, self.column("unattributed"))
        )
        if np.isfinite(total) and dark * sign > 0.5 * total * sign > 0:
            return Cause.DERIVATIVE_AND_WEIGHTS
        return blame(activations, weights, sign)

    def evidence(self, window: int | None = None) -> tuple[Evidence, ...]:
        """The columns between the activations that are not weights alone, and what could not be parted.

        Args:
            window: Which window; None for medians.

        Returns:
            One number for each column in use, and one for each kind of thing that hides its ways.
        """

        def value(decades: Array) -> float:
            return float(np.median(decades) if window is None else decades[window])

        names = {"norms": "of it across normalisations", "skips": "of it where several ways meet"}
        found = [
            Evidence(name=text, value=value(self.column(column)), unit="decades")
            for column, text in names.items()
            if any(link.column == column for link in self.links)
        ]
        for why in dict.fromkeys(link.why for link in self.links if link.why):
            dark = [link for link in self.links if link.why == why]
            size = value(np.sum([link.decades for link in dark], axis=0))
            name = f"of it not attributed: {why} before {_names(link.above for link in dark)}"
            found.append(Evidence(name=name, value=size, unit="decades"))
        steps = len(self.path) - len({w.site.path for w in self.path})
        if steps:
            found.append(Evidence(name="of the activations, further uses of the same layer", value=steps))
        return tuple(found)


def _names(wirings: Iterable[Wiring]) -> str:
    """Up to three paths."""
    paths = list(dict.fromkeys(str(w.site) for w in wirings))
    return ", ".join(paths[:_MOST_BLIND]) + (", ..." if len(paths) > _MOST_BLIND else "")


def blind_spots(run: RunView) -> tuple[Evidence, ...]:
    """Layers within which the gradient could not be followed, each with the reason."""
    hidden = ("fused", "compile", "checkpoint", "recomputed")
    spots = [u for u in run.unseen if any(word in u.why for word in hidden)]
    return tuple(
        Evidence(name=f"not attributed: {u.what}", value=u.why, unit="") for u in spots[:_MOST_BLIND]
    )


def main_path(run: RunView, wires: Wires) -> tuple[Wiring, ...]:
    """The hidden activations along one way through the model, nearest to the input first.

    Args:
        run: The run.
        wires: Its graph.

    Returns:
        From the last hidden activation, always the feeder nearest to it; an activation that
        makes the output belongs to the loss and is left out.
    """
    known = {w.site: w for w in run.wirings}
    hidden = [w for w in run.wirings if not wires.is_output(w)]
    if not hidden:
        return ()
    path = [max(hidden, key=lambda w: w.order)]
    while True:
        feeders = [known[s] for s in path[-1].inputs if s in known and known[s].order < path[-1].order]
        if not feeders:
            return tuple(reversed(path))
        path.append(max(feeders, key=lambda w: w.order))


def is_recurrence(path: tuple[Wiring, ...]) -> bool:
    """Whether half of a way or more is through layers that are used again and again on it."""
    places = [w.site.path for w in path]
    return len(path) > 2 and 2 * sum(places.count(place) > 2 for place in places) >= len(places)


def backward_ledger(run: RunView, path: tuple[Wiring, ...]) -> Ledger | None:
    """The account of the gradient along ``path``, from its last activation to its first.

    Returns:
        The ledger; None with fewer than two activations or no window in which all were read.
    """
    return _ledger(run, path, Signal.ACTIVATION_GRAD, Signal.PREACTIVATION_GRAD, backward=True)


def forward_ledger(run: RunView, path: tuple[Wiring, ...]) -> Ledger | None:
    """The account of the signal itself along ``path``, from the first z to the last h.

    Returns:
        The ledger; None with fewer than two activations or no window in which all were read.
    """
    return _ledger(run, path, Signal.PREACTIVATION, Signal.ACTIVATION, backward=False)


def _ledger(
    run: RunView, path: tuple[Wiring, ...], into: Signal, out: Signal, *, backward: bool
) -> Ledger | None:
    """The account of a signal that enters each activation as ``into`` and leaves it as ``out``."""
    if len(path) < 2:
        return None
    order = tuple(reversed(path)) if backward else path
    entering = [_sizes(run, w.site, into, per_sample=not backward) for w in order]
    leaving = [_sizes(run, w.site, out, per_sample=not backward) for w in order]
    windows = sorted(set.intersection(*(set(s) for s in (*entering, *leaving))))
    if not windows:
        return None
    first = np.array([[sizes[w] for w in windows] for sizes in entering])
    last = np.array([[sizes[w] for w in windows] for sizes in leaving])
    some = (first[0] > 0) & np.isfinite(first).all(axis=0) & np.isfinite(last).all(axis=0)
    if not some.any():
        return None
    within = _decades(first, last)[:, some]
    activations = within.sum(axis=0)
    between = _decades(last[:-1], first[1:])[:, some]
    rows = between[::-1] if backward else between
    weights = between.sum(axis=0)
    return Ledger(
        path=path,
        steps=np.array([w[0] for w in windows], dtype=np.int64)[some],
        total=activations + weights,
        activations=activations,
        weights=weights,
        links=tuple(_link(run, path, i, row) for i, row in enumerate(rows)),
        derivatives=within[::-1] if backward else within,
    )


def _link(run: RunView, path: tuple[Wiring, ...], index: int, decades: Array) -> Link:
    """What stands between the activation at ``index`` and the next, by what the record says of it."""
    below, above = path[index], path[index + 1]
    why = next((str(dark) for dark in _DARK if dark in above.crosses), "")
    takers = [w for w in run.wirings if below.site in w.inputs or below.site in w.skips]
    if why:
        column = "unattributed"
    elif Crossing.WAYS in above.crosses or below.site in above.skips or len(takers) > 1:
        column = "skips"
    elif Crossing.NORMALISATION in above.crosses or above.normalised:
        column = "norms"
    else:
        column = "weights"
    return Link(below=below, above=above, column=column, why=why, decades=decades)


def _decades(before: Array, after: Array) -> Array:
    """log10 of after / before; -inf where it becomes 0, and 0 where it was 0 already."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(before > 0, np.log10(after / np.where(before > 0, before, 1.0)), 0.0)


def _sizes(run: RunView, site: Site, signal: Signal, *, per_sample: bool) -> Sizes:
    """Size of a signal by window: its norm from the readings, else the RMS over entries.

    A window is the same steps at every site and gradients are read on the whole batch, so that their
    norms are comparable whatever is folded into the batch between two sites. Of pre-activations only
    the first rows are computed again: those need the norm per sample. The RMS over entries is not a
    norm where the number of entries changes; it is all that a record has whose readings are lost.

    Returns:
        The sizes; none if the signal was not read there.
    """
    kept = [r for r in run.at(site, signal) if r.samples > 0 and r.entries > 0]
    if kept and per_sample:
        return {(r.first, r.first): r.norm / r.samples**0.5 for r in kept}
    if kept:
        return {(r.first, r.last): r.norm for r in kept}
    flow = run.flow.get((site, signal))
    if flow is None:
        return {}
    return {(int(s), int(s)): float(v) for s, v in zip(run.flow_steps, flow, strict=True)}
