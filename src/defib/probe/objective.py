"""The mean loss of given batches as a function of the parameters alone, in any precision.

The user's model is never written to: parameters and buffers go in as other tensors
(``functional_call``), buffers as fresh copies on every call, and every call starts from the same
states of the random generators, so that dropout draws the same masks and the function is one
function.

Letters: ``P`` parameters that require a gradient, ``theta`` all of them as one vector ``(P,)``.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from defib.probe.batch import Loss, Piece, loss_of, mapped, one_number
from defib.probe.state import Generators


class Objective:
    """Mean loss of some batches over the parameters that require a gradient.

    Attributes:
        model: The user's model, never written to.
        pieces: The batches; each weighs as many samples as it has.
        names: Of the parameters that require a gradient.
        shapes: Their shapes.
        theta: Their values now, ``(P,)``.
        dtype: In which everything is computed; None for the model's own formats.
    """

    def __init__(
        self,
        model: nn.Module,
        pieces: Sequence[Piece],
        loss: Loss | None,
        dtype: torch.dtype | None = None,
        *,
        generators: Generators | None = None,
    ) -> None:
        self.model, self.pieces, self.dtype, self._loss = model, tuple(pieces), dtype, loss
        learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.names = tuple(learning)
        self.shapes = tuple(p.shape for p in learning.values())
        self._sizes = [p.numel() for p in learning.values()]
        self._kinds = [p.dtype for p in learning.values()]
        self._frozen = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}
        self._buffers = dict(model.named_buffers())
        self._generators = generators or Generators()
        wide = dtype or max(self._kinds, key=lambda d: torch.finfo(d).bits, default=torch.float32)
        self._work = torch.float32 if torch.finfo(wide).bits < 32 else wide
        flat = [p.detach().reshape(-1).to(self._work) for p in learning.values()]
        self.theta = torch.cat(flat) if flat else torch.zeros(0)

    @property
    def count(self) -> int:
        """P."""
        return int(self.theta.numel())

    @property
    def samples(self) -> int:
        """Samples of all batches."""
        return sum(piece.samples for piece in self.pieces)

    def tensors(self, theta: Tensor) -> list[Tensor]:
        """A vector as one tensor a parameter, in the format that each is computed in."""
        parts = torch.split(theta, self._sizes)
        kinds = self._kinds if self.dtype is None else [self.dtype] * len(parts)
        return [v.view(s).to(k) for v, s, k in zip(parts, self.shapes, kinds, strict=True)]

    def leaves(self, theta: Tensor | None = None) -> list[Tensor]:
        """The same as leaves of a new graph."""
        parts = self.tensors(self.theta if theta is None else theta)
        return [t.detach().clone().requires_grad_() for t in parts]

    def call(self, leaves: Sequence[Tensor], piece: Piece, *, rewind: bool = True) -> tuple[Any, Tensor]:
        """Output and loss of one batch.

        Args:
            leaves: One tensor a parameter.
            piece: The batch.
            rewind: Set the random generators back first.

        Returns:
            What the model gave, and the loss, a tensor of one entry.

        Raises:
            UsageError: If the loss is not one number.
        """  # noqa: DOC502 - the check below raises it
        if rewind:
            self._generators.restore()
        piece = piece if self.dtype is None else piece.replaced(self._cast)
        held = {n: self._cast(p) for n, p in self._frozen.items()}
        held |= {n: self._cast(b).clone() for n, b in self._buffers.items()}
        held |= dict(zip(self.names, leaves, strict=True))
        output = functional_call(self.model, held, piece.arguments, piece.options)
        value = one_number(loss_of(self._loss, output, piece.target))
        return output, value.reshape(())

    def compare(self, output: Any, target: Any) -> Tensor:
        """The loss of an output that is already there."""
        target = mapped(target, self._cast)
        return loss_of(self._loss, output, target).reshape(())  # type: ignore[no-any-return]

    def value(self, theta: Tensor) -> float:
        """The mean loss there."""
        with torch.no_grad():
            parts = self.tensors(theta)
            return float(sum(w * self.call(parts, p)[1].double() for w, p in self.weighted()))

    def gradient(self, theta: Tensor | None = None) -> Tensor:
        """Its gradient, ``(P,)``; zero where no way leads."""
        total = torch.zeros_like(self.theta)
        for weight, piece in self.weighted():
            leaves = self.leaves(theta)
            value = self.call(leaves, piece)[1]
            total += weight * self.joined(leaves, self.back(value, leaves))
        return total

    def back(
        self, value: Tensor, leaves: Sequence[Tensor], *, graph: bool = False
    ) -> Sequence[Tensor | None]:
        """Gradients of a value; None where no way leads, and everywhere if it has no graph."""
        if value.grad_fn is None:
            return [None] * len(leaves)
        found = torch.autograd.grad(value, list(leaves), create_graph=graph, allow_unused=True)
        return [g if g is None or g.layout is torch.strided else g.to_dense() for g in found]

    def joined(self, leaves: Sequence[Tensor], found: Sequence[Tensor | None]) -> Tensor:
        """One gradient a parameter as a vector ``(P,)``."""
        full = (torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True))
        return torch.cat([g.reshape(-1).to(self._work) for g in full])

    def weighted(self) -> Iterator[tuple[float, Piece]]:
        """Each batch with its share of the samples."""
        return ((piece.samples / self.samples, piece) for piece in self.pieces)

    def by_name(self, vector: Tensor) -> dict[str, Tensor]:
        """A vector as one tensor a parameter, in the vector's own format."""
        parts = torch.split(vector, self._sizes)
        return {n: v.view(s) for n, v, s in zip(self.names, parts, self.shapes, strict=True)}

    def scale(self) -> Tensor:
        """For each entry the size of a usual first weight, 1 / sqrt(fan-in), ``(P,)``."""
        sizes = (1 / max(int(s[1:].numel()), 1) ** 0.5 if len(s) > 1 else 0.1 for s in self.shapes)
        parts = [
            torch.full((n,), v, dtype=self._work, device=self.theta.device)
            for n, v in zip(self._sizes, sizes, strict=True)
        ]
        return torch.cat(parts)

    def weights(self) -> Tensor:
        """1 for entries of weight tensors, 0 for biases and scales, ``(P,)``."""
        kinds = [float(len(s) > 1) for s in self.shapes]
        sized = torch.tensor(self._sizes, device=self.theta.device)
        return torch.tensor(kinds, dtype=self._work, device=self.theta.device).repeat_interleave(sized)

    def with_pieces(self, chosen: Sequence[Piece]) -> "Objective":
        """The same loss over other batches."""
        return Objective(self.model, chosen, self._loss, self.dtype, generators=self._generators)

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if self.dtype is not None and tensor.is_floating_point() else tensor


def wider(objective: Objective) -> tuple[Objective, str]:
    """The same objective in float64 if the model can be run so.

    Returns:
        The new objective and "", or the old one and why.
    """
    new = Objective(
        objective.model, objective.pieces, objective._loss, torch.float64, generators=objective._generators
    )
    try:
        leaves = new.leaves()
        new.back(new.call(leaves, new.pieces[0])[1], leaves)
    except Exception as error:  # noqa: BLE001 - whatever a model does that was written for one format
        said = (str(error).strip().splitlines() or [""])[0]
        return objective, f"{type(error).__name__}: {said}"
    return new, ""
