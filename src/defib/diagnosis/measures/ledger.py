"""Where along the depth the gradient is lost, or grows: measured, link by link.

With g_l = dL/dh_l and d_l = dL/dz_l at activation l, and R the root mean square
over samples of the norm of one sample's gradient, the ledger has a row

    D_l = log10 R(d_l) / R(g_l)         what the activation's derivative does
    M_l = log10 R(g_(l-1)) / R(d_l)     what the weights between two activations do

and the sum over all rows telescopes exactly to log10 R(d_1) / R(g_L). Paths that
go around an activation are in the numbers, because dL/dh_l is the whole gradient
at h_l, whichever way it came.

Letters: ``S`` activations on the path, ``W`` windows of readings.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.core.run import RunView, Wiring
from defib.core.site import Signal, Site
from defib.diagnosis.measures.wires import Wires

Array = NDArray[np.float64]
Sizes = dict[int, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ledger:
    """The account of one signal along the depth.

    Attributes:
        path: The activations, nearest to the input first, length S.
        steps: First step of each window, shape (W,).
        total: Decades from one end to the other, shape (W,); negative is a loss.
        activations: The part of the activations, shape (W,).
        weights: The part of what stands between them, shape (W,).
    """

    path: tuple[Wiring, ...]
    steps: NDArray[np.int64]
    total: Array
    activations: Array
    weights: Array

    def worst(self, sign: int) -> int:
        """The window whose total is the largest in the direction of ``sign``."""
        return int(np.argmax(self.total * sign))

    @property
    def typical(self) -> tuple[float, float, float]:
        """Medians over the windows: total, activations, weights."""
        return (
            float(np.median(self.total)),
            float(np.median(self.activations)),
            float(np.median(self.weights)),
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
    entering = [_sizes(run, w.site, into) for w in order]
    leaving = [_sizes(run, w.site, out) for w in order]
    steps = sorted(set.intersection(*(set(s) for s in (*entering, *leaving))))
    if not steps:
        return None
    first = np.array([[sizes[s] for s in steps] for sizes in entering])
    last = np.array([[sizes[s] for s in steps] for sizes in leaving])
    some = (first[0] > 0) & np.isfinite(first).all(axis=0) & np.isfinite(last).all(axis=0)
    if not some.any():
        return None
    activations = _decades(first, last)[:, some].sum(axis=0)
    weights = _decades(last[:-1], first[1:])[:, some].sum(axis=0)
    return Ledger(
        path=path,
        steps=np.array(steps, dtype=np.int64)[some],
        total=activations + weights,
        activations=activations,
        weights=weights,
    )


def _decades(before: Array, after: Array) -> Array:
    """log10 of after / before; -inf where it becomes 0, and 0 where it was 0 already."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(before > 0, np.log10(after / np.where(before > 0, before, 1.0)), 0.0)


def _sizes(run: RunView, site: Site, signal: Signal) -> Sizes:
    """Size of a signal by step: norm per sample from the readings, else the RMS over entries."""
    readings = run.at(site, signal)
    if readings:
        kept = [(r.first, r.tally) for r in readings if r.tally.samples > 0 and r.tally.finite.sum() > 0]
        return {first: tally.norm / tally.samples**0.5 for first, tally in kept}
    flow = run.flow.get((site, signal))
    return {} if flow is None else {int(s): float(v) for s, v in zip(run.flow_steps, flow, strict=True)}
