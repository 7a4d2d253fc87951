"""For an autopsy: during which of the kept steps a unit's last sample of a batch went out.

With small batches a unit may get its last gradient on one step, and still fire for some sample of that
batch until momentum has pushed it further a few steps later.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from defib.capture.album import Album, Frame
from defib.core.kill import Inquest, Prober

Asked = dict[str, NDArray[np.int64]]
"""Units by layer: a module's path within its model."""


class Scene:
    """The frames from a unit's last living step on.

    Args:
        album: Where they come from.
        frames: All its frames, oldest first.
        first: Which of them is that step's: its passes are made again under all later parameters.
        inquire: Looks into a step.

    Attributes:
        unseen: Layers that cannot be looked at, and why.
    """

    def __init__(self, album: Album, frames: list[Frame], first: int, inquire: Prober) -> None:
        self.unseen: dict[str, str] = {}
        self.frames = frames
        self._album, self._first, self._inquire = album, first, inquire

    def crossings(self, asked: Asked) -> dict[int, Asked]:
        """For each frame the units whose last sample went out with the step that ended it.

        Units that fire to this day are left out: they are blocked by what stands above them, or the
        batch was a rare one.

        Args:
            asked: Units that have been silent since.

        Returns:
            By the frame's number.
        """
        first, last = self._first, len(self.frames) - 1
        found = {first: self._dead(first + 1, asked)}
        rest = {p: u for p, u in _without(asked, found[first]).items() if p not in self.unseen}
        if "run" in self.unseen:
            return {}
        if rest and last > first + 1:
            rest = self._dead(last, rest)
            for after in range(first + 2, last + 1):
                found[after - 1] = rest if after == last else self._dead(after, rest)
                rest = _without(rest, found[after - 1])
                if not rest:
                    break
        return {place: units for place, units in found.items() if units}

    def inquest(self, before: int, after: int, asked: Asked, seconds: float) -> Inquest:
        """The question what happened between two frames on the first one's passes."""
        states = self.frames
        next_own = states[after].own
        steps = {
            name: replace(own, after=next_own[name].before if name in next_own else None)
            for name, own in states[before].own.items()
        }
        calls = tuple(states[self._first].calls)
        if before != self._first:  # under other parameters the passes give something else
            calls = tuple(replace(call, witness=None) for call in calls)
        return Inquest(
            model=self._album.module,
            before=self._album.state(states[before]),
            after=self._album.state(states[after]),
            calls=calls,
            suspects=asked,
            steps=steps,
            seconds=seconds,
        )

    def _dead(self, after: int, asked: Asked) -> Asked:
        """Those units that no sample of the first frame's passes fires under a later one's parameters."""
        kills = self._inquire(self.inquest(self._first, after, asked, 0.0))
        self.unseen |= {unseen.what: unseen.why for unseen in kills.unseen}
        dead = {layer.path: layer.units[layer.dead & (layer.before > 0)] for layer in kills.layers}
        return {path: units for path, units in dead.items() if len(units)}


def _without(units: Asked, others: Asked) -> Asked:
    rest = {p: np.setdiff1d(u, others[p]) if p in others else u for p, u in units.items()}
    return {path: left for path, left in rest.items() if len(left)}
