"""Every step, nearly free: which units received a gradient, and the streams beside it.

For z = W h + b the gradient of b is the sum over the batch of dL/dz. A unit that
fired for no sample has *exactly* zero there, so the bias gradients, a few
kilobytes, tell of every unit on every sample of every step. Where a layer has
no bias, the largest entry of each row of its weight gradient tells the same.

On a step they are only concatenated (one call). What they say is worked out for
many steps at once, in :meth:`Vitals.drain`.

Letters: ``T`` steps since the last drain, ``U`` units of all targets together.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from defib.capture.border import Numbers, Transfer
from defib.capture.episodes import Episodes
from defib.capture.kernels import row_liveness
from defib.core.run import EPISODE_STEPS

_GONE = torch.empty(0)
SKIPS = "skips"
"""Steps that a GradScaler skipped since the last one; not a stream of the record."""

SILENCE = EPISODE_STEPS
"""Steps without a gradient that are taken for an event."""

MASS = 20
"""One in so many units of a layer makes a silence an event: single ones come and go all the time."""

_BYTES = 16 << 20
"""Memory for gradients that wait to be drained."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A parameter whose gradient tells of the units of a layer.

    Attributes:
        path: The layer.
        source: What is read ("fc1.bias", "rows of fc1.weight").
        parameter: The parameter.
        rows: Read the rows of a weight rather than a bias.
        units: Number of units.
        transposed: The units lie along axis 1 of the weight, group by group.
    """

    path: str
    source: str
    parameter: torch.Tensor
    rows: bool
    units: int
    transposed: bool = False


@dataclass
class UnitState:
    """Liveness of one target so far; arrays of shape (U,), -1 for never."""

    first_alive: NDArray[np.int32]
    last_alive: NDArray[np.int32]
    alive_steps: NDArray[np.int32]
    episodes: Episodes
    steps: int = 0
    last_step: int = -1

    @classmethod
    def unborn(cls, units: int) -> "UnitState":
        never, none = np.full(units, -1, np.int32), np.zeros(units, np.int32)
        return cls(never, never.copy(), alive_steps=none, episodes=Episodes.none(units))

    def see(self, alive: NDArray[np.bool_], first_step: int, known: NDArray[np.bool_]) -> int:
        """Take in the steps from ``first_step`` on.

        Args:
            alive: Non-zero gradient, shape (T, U).
            first_step: Step of row 0.
            known: Whether there was a gradient at all in that step, shape (T,).

        Returns:
            How many units fell silent together, if that is more than a few.
        """
        if not known.any():
            return 0
        alive = alive & known[:, None]
        count = alive.sum(0, dtype=np.int32)
        seen = count > 0
        rows = len(alive)
        was_alive = self.last_alive == self.last_step
        first = np.argmax(alive, axis=0)
        last = rows - 1 - np.argmax(alive[::-1], axis=0)
        if known.all():
            self.episodes.see(alive, count, first, last)
        else:  # a step without a gradient is unknown, not silent
            kept = alive[known]
            self.episodes.see(kept, count, kept.argmax(0), len(kept) - 1 - kept[::-1].argmax(0))
        born = seen & (self.first_alive < 0)
        self.first_alive[born] = first_step + first[born]
        self.last_alive[seen] = first_step + last[seen]
        self.alive_steps += count
        self.steps += int(known.sum())
        self.last_step = int(first_step + np.flatnonzero(known)[-1])
        fell = int((was_alive & ~seen).sum()) if rows >= SILENCE else 0
        return fell if fell * MASS >= len(seen) else 0


@dataclass(frozen=True, kw_only=True)
class Drained:
    """What the steps since the last drain said.

    Attributes:
        first_step: First of them.
        streams: "loss", "lr", "scale", each of shape (T,).
        skips: Steps right before which a GradScaler skipped others, and how many.
        bad: First step with a non-finite gradient, and the layers that had it then; None if all were finite.
        silenced: Units that fell silent.
    """

    first_step: int
    streams: dict[str, NDArray[np.float32]]
    skips: dict[int, int]
    bad: tuple[int, tuple[str, ...]] | None
    silenced: int


class Vitals:
    """Liveness and streams of one optimiser.

    Args:
        targets: What to read; may be replaced by :meth:`aim`.
    """

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self.step = 0
        self.aims = 0
        self.states: dict[str, UnitState] = {}
        self._rows: list[torch.Tensor] = []
        self._missing: dict[int, set[int]] = {}
        self._streams: dict[str, list[float | torch.Tensor]] = {"loss": [], "lr": [], "scale": [], SKIPS: []}
        self._start = 0
        self._under_way: list[_Stretch] = []
        self.aim(targets)

    def aim(self, targets: tuple[Target, ...]) -> None:
        """Read these from now on; what is known of targets that stay is kept. Drain first."""
        self.targets = targets
        self.aims += 1
        self._parameters = [t.parameter for t in targets]
        self._by_row = [i for i, t in enumerate(targets) if t.rows]
        self._bounds = np.cumsum([0, *(t.units for t in targets)])
        self._capacity = int(np.clip(_BYTES // max(4 * int(self._bounds[-1]), 1), 4, 2048))
        for target in targets:
            self.states.setdefault(target.path, UnitState.unborn(target.units))

    def release(self) -> None:
        """Let go of the parameters; steps that wait can still be drained."""
        self.targets = tuple(replace(t, parameter=_GONE) for t in self.targets)
        self._parameters = []

    @property
    def latest(self) -> torch.Tensor | None:
        """Gradients of all targets at the last tick, shape (U,); None if drained or without targets."""
        return self._rows[-1] if self._rows else None

    @property
    def missing(self) -> frozenset[int]:
        """Targets that had no gradient at the last tick, by their place; their part of ``latest`` is 0."""
        return frozenset(self._missing.get(len(self._rows) - 1, ()))

    @property
    def waiting(self) -> int:
        """Steps that wait to be drained."""
        return self.step - self._start

    @property
    def full(self) -> bool:
        """Time to drain, or memory grows."""
        return self.waiting >= self._capacity

    def tick(
        self,
        loss: float | torch.Tensor,
        lr: float | torch.Tensor,
        scale: float | torch.Tensor,
        skips: float | torch.Tensor = 0.0,
    ) -> None:
        """One optimiser step: keep the gradients of the targets and the streams' new values."""
        gradients = [p.grad for p in self._parameters]
        streams = self._streams
        streams["loss"].append(loss)
        streams["lr"].append(lr)
        streams["scale"].append(scale)
        streams[SKIPS].append(skips)
        if gradients:
            for i in self._by_row:
                gradient = gradients[i]
                if gradient is not None:
                    columns = self.targets[i].units if self.targets[i].transposed else None
                    dense = not gradient.is_sparse
                    gradients[i] = row_liveness(_local(gradient.detach()), columns) if dense else None
            try:
                row = torch.cat(gradients)  # type: ignore[arg-type]
                self._rows.append(row.detach() if row.requires_grad else row)
            except (TypeError, RuntimeError):  # a gradient is missing, sharded, or carries a graph
                self._rows.append(self._patched(gradients))
        self.step += 1

    def _patched(self, gradients: list[torch.Tensor | None]) -> torch.Tensor:
        """As ``torch.cat``, with zeros for missing gradients, which are noted as missing."""
        device = next((g.device for g in gradients if g is not None), torch.device("cpu"))
        parts = []
        for i, (target, gradient) in enumerate(zip(self.targets, gradients, strict=True)):
            part = None if gradient is None or gradient.is_sparse else _local(gradient.detach())
            if part is None or part.numel() != target.units:
                self._missing.setdefault(len(self._rows), set()).add(i)
                part = torch.zeros(target.units, device=device, dtype=torch.float32)
            parts.append(part.flatten().to(device=device, dtype=torch.float32))
        return torch.cat(parts)

    def drain(self, wait: bool) -> list[Drained]:
        """Work out what the waiting steps said, as far as their numbers are on the host.

        Args:
            wait: Wait for the device; otherwise what is still on its way is said by a later call.

        Returns:
            The steps in order, in one or several stretches.
        """
        if self.waiting:
            with torch.no_grad():
                rows = torch.stack([row.detach().float() for row in self._rows]) if self._rows else None
                stretch = _Stretch(
                    first_step=self._start,
                    targets=self.targets,
                    bounds=self._bounds,
                    missing=self._missing,
                    streams={name: Numbers(values) for name, values in self._streams.items()},
                    rows=Transfer(rows) if rows is not None else None,
                )
            self._under_way.append(stretch)
            self._rows, self._missing, self._start = [], {}, self.step
            self._streams = {name: [] for name in self._streams}
        arrived = []
        while self._under_way and (wait or self._under_way[0].ready):
            arrived.append(self._judge(self._under_way.pop(0)))
        return arrived

    def _judge(self, stretch: "_Stretch") -> Drained:
        streams = {name: numbers.array() for name, numbers in stretch.streams.items()}
        skips = {stretch.first_step + i: int(n) for i, n in enumerate(streams.pop(SKIPS)) if n > 0}
        if stretch.rows is None:
            return Drained(first_step=stretch.first_step, streams=streams, skips=skips, bad=None, silenced=0)
        values = stretch.rows.array()
        alive, silenced = values != 0, 0
        known = np.ones((len(values), len(stretch.targets)), bool)
        for row, missing in stretch.missing.items():
            known[row, list(missing)] = False
        for i, target in enumerate(stretch.targets):
            part = alive[:, stretch.bounds[i] : stretch.bounds[i + 1]]
            silenced += self.states[target.path].see(part, stretch.first_step, known[:, i])
        bad = stretch.first_bad(values)
        return Drained(
            first_step=stretch.first_step, streams=streams, skips=skips, bad=bad, silenced=silenced
        )


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """Some steps whose numbers are on their way to the host, and what they mean."""

    first_step: int
    targets: tuple[Target, ...]
    bounds: NDArray[np.int64]
    missing: dict[int, set[int]]
    streams: dict[str, Numbers]
    rows: Transfer | None

    @property
    def ready(self) -> bool:
        """Nothing has to be waited for."""
        streams_ready = all(numbers.ready for numbers in self.streams.values())
        return streams_ready and (self.rows is None or self.rows.ready)

    def first_bad(self, values: NDArray[np.generic]) -> tuple[int, tuple[str, ...]] | None:
        """First step with a non-finite gradient and the layers that had it; None if all were finite."""
        finite = np.isfinite(values)
        bad_rows = ~finite.all(1)
        if not bad_rows.any():
            return None
        row = int(np.argmax(bad_rows))
        spans = zip(self.targets, self.bounds, self.bounds[1:], strict=False)
        layers = tuple(target.path for target, start, end in spans if not finite[row, start:end].all())
        return self.first_step + row, layers


def _local(gradient: torch.Tensor) -> torch.Tensor:
    """This rank's part of a sharded tensor; the tensor itself if it is whole."""
    to_local = getattr(gradient, "to_local", None)
    return gradient if to_local is None else to_local()
