"""Which units are dead, since when, and how sure that is.

Dead means off on every sample seen, for long enough that neither chance nor a
low firing rate explains it; the readings then tell a unit that is off from one
that fires and is merely given no gradient by what stands above it.

Letters: ``U`` units of a layer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defib.core.activation_index import activation_named
from defib.core.cause import Cause
from defib.core.inference import chance_of_silence, rate_bound
from defib.core.reading import Liveness
from defib.core.run import RunView
from defib.core.site import Signal
from defib.core.wiring import Wiring
from defib.diagnosis.measures.wires import Wires

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Criterion:
    """When silence is death.

    Attributes:
        rate: The bound on the firing rate must lie below this.
        chance: The silence must be less likely than this, given the unit's own past.
        steps: Fewest silent readings of the gradient.
    """

    rate: float
    chance: float
    steps: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Deaths:
    """The dead units of one layer.

    Attributes:
        wiring: The layer's first use.
        liveness: What it was read from.
        dead: Judged dead, shape (U,).
        confirmed: A later reading shows it off, shape (U,).
        died: First step without gradient, shape (U,); 0 if there never was one.
    """

    wiring: Wiring
    liveness: Liveness
    dead: Mask
    confirmed: Mask
    died: NDArray[np.int64]

    @property
    def path(self) -> str:
        """The layer."""
        return self.wiring.site.path

    @property
    def born(self) -> Mask:
        """Never received a gradient, shape (U,)."""
        return np.asarray(self.liveness.first_alive < 0)

    @property
    def complete(self) -> bool:
        """The whole layer is dead."""
        return bool(self.dead.all())

    @property
    def samples(self) -> NDArray[np.float64]:
        """Samples seen in silence, shape (U,)."""
        return np.asarray(self.liveness.silent_steps * max(self.liveness.batch, 1.0), dtype=np.float64)


def deaths(run: RunView, wires: Wires, criterion: Criterion) -> dict[str, Deaths]:
    """The dead units of every layer that has any.

    Args:
        run: The run.
        wires: Its graph.
        criterion: When silence is death.

    Returns:
        By layer path, in order of data flow.
    """
    found = {path: _in_layer(run, wires, uses, criterion) for path, uses in wires.wirings.items()}
    return {path: judged for path, judged in found.items() if judged is not None and judged.dead.any()}


def _in_layer(run: RunView, wires: Wires, uses: tuple[Wiring, ...], criterion: Criterion) -> Deaths | None:
    """The dead units of one layer; None if it cannot be judged or cannot die."""
    path = uses[0].site.path
    live = run.liveness.get(path)
    layer = run.layer(path)
    if live is None or live.steps == 0 or len(live.last_alive) == 0 or (layer and layer.frozen):
        return None
    if not all(_may_die(use) for use in uses) or _without_gradient(run, live):
        return None
    silent = _silent_too_long(live, criterion)
    off, seen = _off_since(run, uses, live.last_alive)
    dead = silent & np.where(seen, off, not _blocked(run, wires, live, silent))
    return Deaths(
        wiring=uses[0],
        liveness=live,
        dead=np.asarray(dead, dtype=np.bool_),
        confirmed=off & seen,
        died=np.asarray(live.last_alive + 1, dtype=np.int64),
    )


def _may_die(wiring: Wiring) -> bool:
    """Whether this activation has a side on which it passes nothing."""
    activation = activation_named(wiring.activation)
    return activation is not None and activation.may_die(wiring.options)


def _without_gradient(run: RunView, live: Liveness) -> bool:
    """Whether the parameter that was read never received any gradient, not even zeros."""
    name = live.source.removeprefix("rows of ")
    if run.norms is None or name not in run.norms.parameters or len(run.norms.steps) == 0:
        return False
    return bool(np.isnan(run.norms.gradient[:, run.norms.parameters.index(name)]).all())


def _silent_too_long(live: Liveness, criterion: Criterion) -> Mask:
    """Units whose silence is longer than their firing rate and chance explain, shape (U,)."""
    period = max(live.period, 1)
    reads = np.minimum(live.silent_steps / period, live.steps)
    counts, places = np.unique(reads * max(live.batch, 1.0), return_inverse=True)
    bound = np.array([rate_bound(float(n)) for n in counts])[places]
    seen = np.maximum(live.last_alive + 1, 0) / period
    chance = chance_of_silence(live.alive_steps.astype(np.float64), seen, reads)
    unlikely = (live.first_alive < 0) | (chance < criterion.chance)
    return np.asarray((reads >= criterion.steps) & (bound < criterion.rate) & unlikely)


def _off_since(run: RunView, uses: Iterable[Wiring], last_alive: NDArray[np.int64]) -> tuple[Mask, Mask]:
    """For each unit: was it off in every later reading, and was there any; shapes (U,).

    Off is a derivative of exactly 0 on every entry, or for an activation that is 0
    on its whole left side, no positive value.

    Returns:
        Both masks; "off" is true, too, where there was no later reading.
    """
    off = np.ones(len(last_alive), dtype=np.bool_)
    seen = np.zeros(len(last_alive), dtype=np.bool_)
    for use in uses:
        silent_left = _zero_on_the_left(use)
        for signal in (Signal.ACTIVATION, Signal.PREACTIVATION):
            for reading in run.at(use.site, signal):
                after = reading.first > last_alive
                if reading.units != len(last_alive) or not after.any():
                    continue
                tally = reading.tally
                later = after & (tally.count > 0)
                quiet = tally.flat >= tally.count
                if silent_left:
                    quiet |= (tally.positive == 0) & (tally.nonfinite == 0)
                off &= quiet | ~later
                seen |= later
    return off, seen


def _zero_on_the_left(wiring: Wiring) -> bool:
    """Whether f is 0 for every negative input."""
    activation = activation_named(wiring.activation)
    if activation is None:
        return False
    return bool((activation.forward(np.array([-1e-3, -1.0, -10.0]), wiring.options) == 0).all())


def _blocked(run: RunView, wires: Wires, live: Liveness, silent: Mask) -> bool:
    """Whether nothing above this layer received gradient either, so that its silence says nothing."""
    above = wires.after(live.path) & set(run.liveness)
    others = above or {p for p in run.liveness if p not in wires.wirings}
    if not others or not silent.any():
        return False
    since = int(live.last_alive[silent].max())
    return all(int(run.liveness[p].last_alive.max(initial=-1)) <= since for p in others)


def by_cause(layer: Deaths, complete: set[str]) -> Iterable[tuple[Cause, Mask]]:
    """The dead units of a layer, parted by cause.

    Args:
        layer: Its deaths.
        complete: The layers that are dead as a whole.

    Yields:
        A cause and the units that it concerns, shape (U,).
    """
    inputs = {site.path for site in layer.wiring.inputs}
    if inputs and inputs <= complete - {layer.path} and not layer.wiring.skips:
        yield Cause.DEAD_INPUT, layer.dead
        return
    yield Cause.BORN_DEAD, layer.dead & layer.born
    yield Cause.DIED_AT_STEP, layer.dead & ~layer.born
