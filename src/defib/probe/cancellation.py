"""Gradients of single samples: do they cancel, and have they a common direction?

Three ways are tried, and each is only believed if its gradients add up to the batch's: all at once
(``vmap(grad)``), sample by sample, and each sample's share of the loss behind one common forward
pass (batch norm in training mode, dropout). A loss that is no mean or sum over the first dimension
fits none of them, and that is said.

Letters: ``n`` samples, ``P`` parameters, ``g_i`` gradient of sample i's loss ``(P,)``, ``G`` all of
them ``(n, P)``, ``K = G G^T`` ``(n, n)``.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap

from defib.core.triage import NoiseTest
from defib.probe.batch import Piece
from defib.probe.memory import allowed
from defib.probe.objective import Objective

MOST = 512
"""Samples whose gradients are made; more make the noise test no clearer than it is."""
MOST_SHARED = 256
"""The same where every sample costs a backward pass of its whole batch."""
FLIPS = 999
RIDGE = 0.1
"""Of the mean eigenvalue. The size is exact for any value; 0.01 to 1 all find more than T alone does."""
CANCELLED = 1e-4
"""|sum g_i|^2 / sum |g_i|^2 below which a sum counts as cancelled: a hundredth of the norm that
random signs leave. Chance gets there with probability about CANCELLED^(d/2) for gradients that
spread over d directions: under 1 % for d = 1, under 1e-4 for d = 2."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Gradients of single samples, scaled so that the batch's gradient is their mean.

    Attributes:
        grams: For each parameter its K, ``(n, n)`` in float64.
        norms: For each parameter the norms |g_i|, ``(n,)``.
        batch: Which batch each sample is of, ``(n,)``.
        method: How they were made.
    """

    grams: Mapping[str, Tensor]
    norms: Mapping[str, Tensor]
    batch: Tensor
    method: str

    @property
    def count(self) -> int:
        """N."""
        return len(self.batch)

    @property
    def gram(self) -> Tensor:
        """K over all parameters."""
        return torch.stack(list(self.grams.values())).sum(0)


def samples(objective: Objective, memory: float | None = None) -> tuple[Samples | None, str]:
    """Gradients of some samples of each batch.

    Args:
        objective: The mean loss.
        memory: Bytes that may be used; None for half of what is free.

    Returns:
        The samples (evenly spread where there are more than are made) and "", or None and why not.
    """
    free = allowed(objective.theta.device) if memory is None else memory
    # G, its copy while it is made, and as much again for the passes of a chunk.
    room = int(free / (4 * max(objective.count, 1) * objective.theta.element_size()))
    if room < 2:
        return None, "the gradients of two samples do not fit into the memory allowed"
    why = ""
    for way, most in ((_at_once, MOST), (_one_by_one, MOST), (_shares, MOST_SHARED)):
        share = max(min(most, room) // len(objective.pieces), 1)
        found, why = _all(objective, way, share)
        if found is not None:
            return found, ""
    return None, why


Way = Callable[[Objective, Piece], Tensor]


def _all(objective: Objective, way: Way, share: int) -> tuple[Samples | None, str]:
    """One way over all batches."""
    rows, batch = [], []
    for index, piece in enumerate(objective.pieces):
        if not piece.tensors():
            return None, "the batch has no dimension of samples"
        part = piece.spread(share)
        chosen = objective.with_pieces([part])
        try:
            found = way(chosen, part)
        except Exception as error:  # noqa: BLE001 - a model that cannot be run on one sample
            said = (str(error).strip().splitlines() or [""])[0]
            return None, f"{type(error).__name__}: {said}"
        whole = chosen.gradient()
        scaled = _fitting(found, whole)
        if scaled is None:
            return None, "the loss is no mean over the first dimension of the batch"
        rows.append(scaled)
        batch += [index] * part.samples
    every = torch.cat(rows).double()
    grams, norms = {}, {}
    for name, own in _by_name(objective, every).items():
        grams[name] = own @ own.T
        norms[name] = grams[name].diagonal().clamp_min(0).sqrt()
    return Samples(grams=grams, norms=norms, batch=torch.tensor(batch), method=_WAYS[way]), ""


def _by_name(objective: Objective, rows: Tensor) -> dict[str, Tensor]:
    sizes = [int(s.numel()) for s in objective.shapes]
    return dict(zip(objective.names, torch.split(rows, sizes, dim=1), strict=True))


def _fitting(rows: Tensor, whole: Tensor) -> Tensor | None:
    """The rows if their mean is the batch's gradient, n times them if their sum is; else None."""
    # Compared with the size of the rows, not with that of the sum, which may be zero.
    n = len(rows)
    size = float(rows.norm(dim=1).sum())
    digits = 1e-7 if rows.dtype == torch.float64 else 1e-3
    for factor in (1.0, float(n)):
        if float((rows.sum(0) * (factor / n) - whole).norm()) <= digits * max(size * factor / n, 1e-300):
            return rows * factor
    return None


def _at_once(objective: Objective, piece: Piece) -> Tensor:
    """``vmap(grad)``: fails where samples meet (batch norm), or draw at random (dropout)."""
    sized = piece.tensors()
    places = {id(t): i for i, t in enumerate(sized)}
    leaves = tuple(t.detach() for t in objective.tensors(objective.theta))

    def one(parts: tuple[Tensor, ...], *each: Tensor) -> Tensor:
        def put(tensor: Tensor) -> Tensor:
            place = places.get(id(tensor))
            return tensor if place is None else each[place].unsqueeze(0)

        alone = piece.replaced(put)
        return objective.call(parts, alone, rewind=False)[1]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of operations that are slower this way
        made = vmap(grad(one), in_dims=(None, *([0] * len(sized))), chunk_size=32)(leaves, *sized)
    return torch.cat([g.reshape(piece.samples, -1).to(objective.theta.dtype) for g in made], dim=1)


def _one_by_one(objective: Objective, piece: Piece) -> Tensor:
    """A forward and a backward pass for each sample."""
    parts = (piece.part(i, i + 1) for i in range(piece.samples))
    return torch.stack([objective.with_pieces([part]).gradient() for part in parts])


def _shares(objective: Objective, piece: Piece) -> Tensor:
    """One forward pass of all, and a backward pass for each sample's loss behind it."""
    leaves = objective.leaves()
    output, _ = objective.call(leaves, piece)
    rows = []
    for i in range(piece.samples):
        target: Any = piece.target[i : i + 1] if isinstance(piece.target, Tensor) else piece.target
        value = objective.compare(_row(output, i, piece.samples), target)
        found = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
        rows.append(objective.joined(leaves, found))
    return torch.stack(rows)


def _row(output: Any, i: int, n: int) -> Any:
    """One sample of an output; of a mapping of outputs (transformers) a mapping of the same kind."""
    if isinstance(output, Mapping):
        parts = {k: v[i : i + 1] for k, v in output.items() if isinstance(v, Tensor) and len(v) == n}
        return type(output)(**parts)
    return output[i : i + 1]


_WAYS: dict[Way, str] = {
    _at_once: "all at once (vmap)",
    _one_by_one: "sample by sample",
    _shares: "behind one forward pass",
}


def excess(gram: Tensor) -> float:
    """|sum g_i|^2 / sum |g_i|^2: 1 on average under random signs; NaN where every g_i is zero."""
    own = float(gram.diagonal().sum())
    return max(float(gram.sum()), 0.0) / own if own > 0 else math.nan


def cancellation(gram: Tensor) -> float:
    """|sum g_i| / sum |g_i|; NaN where every g_i is zero."""
    own = float(gram.diagonal().clamp_min(0).sqrt().sum())
    return math.sqrt(max(float(gram.sum()), 0.0)) / own if own > 0 else math.nan


def noise_test(gram: Tensor, method: str, seed: int = 0) -> NoiseTest | None:
    """Whether E g = 0 can be told from the samples; calibrated by random signs.

    T = sum_{i != j} g_i g_j / (n (n - 1)) is unbiased for |E g|^2, since g_i and g_j are
    independent. On samples that the parameters were fitted to it is negative: the fit has cancelled
    them. For symmetric g_i with E g = 0 every sign pattern is as likely as the one seen, so the rank
    of any statistic among patterns is exact for every n (Fisher 1935). Ranked is s M s with
    M = K (K + r I)^-1 (s the signs, r a tenth of K's mean eigenvalue), which weighs directions by
    their noise: T alone sees only the loudest directions of a steep spectrum.

    Args:
        gram: K.
        method: To be told with it.
        seed: Of the signs.

    Returns:
        The test; None for fewer than two samples or gradients that are all zero.
    """
    n = len(gram)
    products = gram.double().cpu().numpy()
    own = float(np.trace(products))
    if n < 2 or not own > 0 or not math.isfinite(own):
        return None
    pairs = n * (n - 1)
    cross = float(products.sum()) - own
    square = max(float((products**2).sum() - (np.diag(products) ** 2).sum()) / pairs, 0.0)
    values, vectors = np.linalg.eigh(products)
    values = values.clip(0)
    whitened = (vectors * (values / (values + RIDGE * own / n))) @ vectors.T
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(FLIPS, n))
    flipped = np.einsum("fi,fi->f", signs @ whitened, signs)
    seen = float(whitened.sum())
    return NoiseTest(
        samples=n,
        mean_square=cross / pairs,
        z=cross / pairs / math.sqrt(2 * square / pairs) if square > 0 else 0.0,
        above=float(1 + (flipped >= seen).sum()) / (FLIPS + 1),
        below=float(1 + (flipped <= seen).sum()) / (FLIPS + 1),
        excess=excess(gram),
        cancellation=cancellation(gram),
        method=method,
    )


def batch_excess(found: Samples) -> Sequence[float]:
    """The excess of each batch by itself."""
    gram = found.gram
    chosen = [(found.batch == b).nonzero().squeeze(1) for b in range(int(found.batch.max()) + 1)]
    return [excess(gram[rows][:, rows]) for rows in chosen]
