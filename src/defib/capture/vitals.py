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
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from defib.capture.border import Numbers, Transfer
from defib.capture.kernels import row_liveness
from defib.capture.liveness import UnitState
from defib.core.reading import EPISODE_STEPS

_GONE = torch.empty(0, device="cpu")
_cat = torch.cat  # a look into the torch module's large dict costs a cold step more than the call itself
SILENCE = EPISODE_STEPS
"""Steps without a gradient that are taken for an event."""

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
        self._streams = _Streams([], [], [], [])
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
            known = self.states.get(target.path)
            if known is None or len(known.last_alive) != target.units:  # exchanged for one of another size
                self.states[target.path] = UnitState.unborn(target.units)

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
    def settled(self) -> bool:
        """Nothing waits to be drained or is on its way to the host."""
        return not self.waiting and not self._under_way

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
        losses, lrs, scales, skipped = self._streams
        losses.append(loss)
        lrs.append(lr)
        scales.append(scale)
        skipped.append(skips)
        self.step += 1
        gradients = [p.grad for p in self._parameters]
        if not gradients:
            return
        if self._by_row:
            self._reduce(gradients)
        try:
            row = _cat(gradients)  # type: ignore[arg-type]
            self._rows.append(row.detach() if row.requires_grad else row)
        except (TypeError, RuntimeError):  # a gradient is missing, sharded, or carries a graph
            self._rows.append(self._patched(gradients))

    def _reduce(self, gradients: list[torch.Tensor | None]) -> None:
        """Weight gradients that are read become one number a unit; a sparse one is taken for missing."""
        for i in self._by_row:
            gradient = gradients[i]
            if gradient is not None:
                columns = self.targets[i].units if self.targets[i].transposed else None
                dense = not gradient.is_sparse
                gradients[i] = row_liveness(_local(gradient.detach()), columns) if dense else None

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
                rows = torch.stack(self._rows).float() if self._rows else None
                stretch = _Stretch(
                    first_step=self._start,
                    targets=self.targets,
                    bounds=self._bounds,
                    missing=self._missing,
                    streams={name: Numbers(values) for name, values in self._streams._asdict().items()},
                    rows=Transfer(rows) if rows is not None else None,
                )
            self._under_way.append(stretch)
            self._rows, self._missing, self._start = [], {}, self.step
            self._streams = _Streams([], [], [], [])
        arrived = []
        while self._under_way and (wait or self._under_way[0].ready):
            arrived.append(self._judge(self._under_way.pop(0)))
        return arrived

    def _judge(self, stretch: "_Stretch") -> Drained:
        streams = {name: numbers.array() for name, numbers in stretch.streams.items()}
        skipped = streams.pop("skips")
        skips = {stretch.first_step + i: int(skipped[i]) for i in np.flatnonzero(skipped > 0).tolist()}
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


class _Streams(NamedTuple):
    """Numbers of the waiting steps; all but the last go into the record.

    Attributes:
        loss: Loss.
        lr: Learning rate.
        scale: Loss scale.
        skips: Steps that a GradScaler skipped since the one before.
    """

    loss: list[float | torch.Tensor]
    lr: list[float | torch.Tensor]
    scale: list[float | torch.Tensor]
    skips: list[float | torch.Tensor]


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
