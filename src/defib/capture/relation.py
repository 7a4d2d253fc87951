"""Whether the inputs of one batch tell its targets, whatever the network makes of them.

Where they do, samples with like targets lie nearer to each other than the others. How much nearer is
measured by the bias-corrected distance correlation (Székely and Rizzo 2013): 0 on average where inputs
and targets are independent, whatever their distributions; 1 at most. With N samples its variance is
2 / (N (N - 3)) then, so that batches can be put together and a p-value told.

Of sequences the same is asked of the same numbers cut up otherwise: a ``view`` where a ``permute`` was
meant makes samples that are patchworks of the others, and the relation shows when the cut is undone.

Letters: ``N`` samples compared, ``B`` samples of the batch, ``D`` features, ``M`` entries of a sample.
"""

from collections.abc import Sequence

import torch

from defib.capture.graph import Producer
from defib.torchgraph.nodes import RECURRENT, saved_tensor

_MOST_SAMPLES = 64
_FEWEST_SAMPLES = 8
_MOST_FEATURES = 512
_MOST_COPIED = 1 << 18
_ROUNDING = 1e-3


def relation(entries: Sequence[Producer], targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """The distance correlation of a batch's inputs and targets, as columns of the objective.

    Args:
        entries: The producers that take data.
        targets: What the loss compares with, the samples along the first axis.

    Returns:
        Nothing if rows of the inputs and of the targets are not the same samples for certain, or if the
        model takes several inputs: what one of them does not tell, two of them may.
    """
    x = _only_input(entries)
    if x is None or not targets.ndim or len(targets) < _FEWEST_SAMPLES or not targets.numel():
        return {}
    count = min(len(targets), _MOST_SAMPLES)
    apart = _centred(_apart(targets[:count]))
    readings = _by_sample(x, len(targets), entries[0].node.name())
    if not readings:
        return {}
    # Where it is not known which axis came first, the better one counts: what is not told is told by neither.
    found = [_correlation(_centred(_euclidean(_thinned(x[:count]))), apart) for x in readings]
    values = {"relation": torch.stack(found).amax(0)}
    values["relation_samples"] = torch.full_like(values["relation"], float(count))
    for name, cut in _cuts(readings[0]) if len(readings) == 1 else ():
        values[name] = _correlation(_centred(_euclidean(_thinned(cut[:count]))), apart)
    return values


def _only_input(entries: Sequence[Producer]) -> torch.Tensor | None:
    """What all of them take; None if that is not one and the same tensor of real numbers."""
    found = []
    for entry in entries:
        kept = (saved_tensor(entry.node, field) for field in ("mat1", "input", "self"))
        found.append(next((x for x in kept if x is not None), None))
    x = found[0] if found else None
    if x is None or x.ndim < 2 or not x.numel() or not x.is_floating_point():
        return None
    same = all(o is not None and o.data_ptr() == x.data_ptr() and o.numel() == x.numel() for o in found)
    return x if same else None


def _by_sample(x: torch.Tensor, count: int, operation: str) -> list[torch.Tensor]:
    """The inputs with the samples along the first axis: none if that is unknown, two if it may be either."""
    if operation in RECURRENT:
        batch = [axis for axis in (0, 1) if x.shape[axis] == count]
        return [x.transpose(0, batch[0])] if len(batch) == 1 and x.ndim == 3 else []
    if len(x) == count:
        return [x]
    if x.ndim > 2 or len(x) % count:
        return []
    # A linear layer keeps the moments of all sequences as rows, in either order.
    return [x.reshape(count, -1, x.shape[1]), x.reshape(-1, count, x.shape[1]).transpose(0, 1)]


def _cuts(x: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """The same numbers in memory, cut into samples as if another axis had come first.

    Args:
        x: Sequences, shape (B, ...).

    Returns:
        Views of shape (B, ...), each with its column.
    """
    if x.ndim != 3 or x.numel() > _MOST_COPIED:
        return []
    order = sorted(range(x.ndim), key=lambda axis: x.stride()[axis], reverse=True)
    whole = x.permute(order) if order[0] == 0 else x
    whole = whole.contiguous()  # a fused kernel keeps a copy of its own, time first
    sizes = {"relation_second_first": whole.shape[1], "relation_last_first": whole.shape[2]}
    cuts = {n: whole.reshape(size, len(x), -1).transpose(0, 1) for n, size in sizes.items() if size > 1}
    return list(cuts.items())


def _thinned(x: torch.Tensor) -> torch.Tensor:
    """Every other entry along the longest axis until a sample has no more than ``_MOST_FEATURES``."""
    while x[0].numel() > _MOST_FEATURES:
        longest = max(range(1, x.ndim), key=lambda axis: x.shape[axis])
        x = x[(slice(None),) * longest + (slice(None, None, 2),)]
    return x


def _apart(targets: torch.Tensor) -> torch.Tensor:
    """How far targets lie apart: labels 0 or 1, numbers by their Euclidean distance; shape (N, N)."""
    y = _thinned(targets.reshape(len(targets), -1))
    return _euclidean(y) if y.is_floating_point() else (y[:, None] != y[None]).any(2).double()


def _euclidean(x: torch.Tensor) -> torch.Tensor:
    """Euclidean distances, each feature in units of its deviation: no scale of the data enters."""
    x = x.reshape(len(x), -1).float()
    variance, mean = torch.var_mean(x, 0, correction=0)
    x = (x - mean) / torch.where(variance > 0, variance, 1.0).sqrt()
    products = x @ x.T
    squares = products.diagonal()
    return (squares[:, None] + squares - 2 * products).clamp_(min=0).sqrt_().double()


def _centred(distances: torch.Tensor) -> torch.Tensor:
    """Distances less their rows' and columns' means, so that each row sums to 0; U-centring."""
    count = len(distances)
    rows = distances.sum(1) / (count - 2)
    whole = rows.sum() / (count - 1)
    return (distances - (rows - whole)[:, None] - rows).fill_diagonal_(0.0)


def _correlation(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Of two tables of centred distances; NaN where either holds rounding only: all are equally far apart."""
    size = torch.linalg.vector_norm(one) * torch.linalg.vector_norm(other)
    return torch.where(size > _ROUNDING, (one * other).sum() / size, float("nan"))
