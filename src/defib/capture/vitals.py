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

from defib.capture.border import scalars
from defib.capture.kernels import row_liveness

_GONE = torch.empty(0)

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
    steps: int = 0
    last_step: int = -1

    @classmethod
    def unborn(cls, units: int) -> "UnitState":
        never = np.full(units, -1, np.int32)
        return cls(first_alive=never, last_alive=never.copy(), alive_steps=np.zeros(units, np.int32))

    def see(self, alive: NDArray[np.bool_], first_step: int, known: NDArray[np.bool_]) -> int:
        """Take in steps ``first_step`` on; returns how many units newly fell silent.

        Args:
            alive: Non-zero gradient, shape (T, U).
            first_step: Step of row 0.
            known: Whether there was a gradient at all in that step, shape (T,).
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
        born = seen & (self.first_alive < 0)
        self.first_alive[born] = first_step + first[born]
        self.last_alive[seen] = first_step + last[seen]
        self.alive_steps += count
        self.steps += int(known.sum())
        self.last_step = int(first_step + np.flatnonzero(known)[-1])
        return int((was_alive & ~seen & (rows > 1)).sum())


@dataclass(frozen=True, kw_only=True)
class Drained:
    """What the steps since the last drain said.

    Attributes:
        first_step: First of them.
        streams: "loss", "lr", "scale", each of shape (T,).
        bad: First step with a non-finite gradient, and the layers that had it then; None if all were finite.
        silenced: Units that fell silent.
    """

    first_step: int
    streams: dict[str, NDArray[np.float32]]
    bad: tuple[int, tuple[str, ...]] | None
    silenced: int


class Vitals:
    """Liveness and streams of one optimiser.

    Args:
        targets: What to read; may be replaced by :meth:`aim`.
    """

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self.step = 0
        self.states: dict[str, UnitState] = {}
        self._rows: list[torch.Tensor] = []
        self._missing: dict[int, set[int]] = {}
        self._streams: dict[str, list[float | torch.Tensor]] = {"loss": [], "lr": [], "scale": []}
        self._start = 0
        self.aim(targets)

    def aim(self, targets: tuple[Target, ...]) -> None:
        """Read these from now on; what is known of targets that stay is kept. Drain first."""
        self.targets = targets
        self._parameters = [t.parameter for t in targets]
        self._by_row = [i for i, t in enumerate(targets) if t.rows]
        self._bounds = np.cumsum([0, *(t.units for t in targets)])
        self._capacity = int(np.clip(_BYTES // max(4 * int(self._bounds[-1]), 1), 4, 256))
        for target in targets:
            self.states.setdefault(target.path, UnitState.unborn(target.units))

    def release(self) -> None:
        """Let go of the parameters; steps that wait can still be drained."""
        self.targets = tuple(replace(t, parameter=_GONE) for t in self.targets)
        self._parameters = []

    @property
    def full(self) -> bool:
        """Time to drain, or memory grows."""
        return self.step - self._start >= self._capacity

    def tick(self, loss: float | torch.Tensor, lr: float | torch.Tensor, scale: float | torch.Tensor) -> None:
        """One optimiser step: keep the gradients of the targets and the streams' new values."""
        gradients = [p.grad for p in self._parameters]
        streams = self._streams
        streams["loss"].append(loss)
        streams["lr"].append(lr)
        streams["scale"].append(scale)
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

    def drain(self) -> Drained | None:
        """Work out what the waiting steps said; None if there are none. Waits for the device."""
        count = self.step - self._start
        if not count:
            return None
        streams = {name: scalars(values) for name, values in self._streams.items()}
        bad, silenced = None, 0
        if self._rows:
            with torch.no_grad():
                values = torch.stack([row.detach().float() for row in self._rows]).cpu().numpy()
            bad, silenced = self._judge(values)
        drained = Drained(first_step=self._start, streams=streams, bad=bad, silenced=silenced)
        self._rows.clear()
        self._missing.clear()
        for waiting in self._streams.values():
            waiting.clear()
        self._start = self.step
        return drained

    def _judge(self, values: NDArray[np.float32]) -> tuple[tuple[int, tuple[str, ...]] | None, int]:
        alive, bad_rows = values != 0, ~np.isfinite(values).all(1)
        silenced = 0
        known = np.ones((len(values), len(self.targets)), bool)
        for row, missing in self._missing.items():
            known[row, list(missing)] = False
        for i, target in enumerate(self.targets):
            part = alive[:, self._bounds[i] : self._bounds[i + 1]]
            silenced += self.states[target.path].see(part, self._start, known[:, i])
        if not bad_rows.any():
            return None, silenced
        row = int(np.argmax(bad_rows))
        layers = tuple(
            t.path
            for i, t in enumerate(self.targets)
            if not np.isfinite(values[row, self._bounds[i] : self._bounds[i + 1]]).all()
        )
        return (self._start + row, layers), silenced


def _local(gradient: torch.Tensor) -> torch.Tensor:
    """This rank's part of a sharded tensor; the tensor itself if it is whole."""
    to_local = getattr(gradient, "to_local", None)
    return gradient if to_local is None else to_local()


