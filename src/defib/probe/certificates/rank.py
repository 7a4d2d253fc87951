"""The rank theorem at the output layer (Poston et al. 1991; Yu and Chen 1995).

Outputs Z = [H, 1] [W, b]^T, loss L convex in Z with gradient D = dL/dZ, shape (n, c). The gradient of the
output layer is [H, 1]^T D. If [H, 1] has rank n (its rows are independent) and that gradient is 0, then
D = 0, and a convex function with gradient 0 is at its global minimum: over everything that any weights
could output on this batch. For a gradient that is small only: |D| <= |[H, 1]^T D| / sigma_n.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from defib.core.certificate import RankCertificate

STATIONARY = 1e-6
"""How large the output layer's gradient may be, as a share of sigma_1 sqrt(n) / n: that of residuals of
size 1 / n, which is what a mean loss has where it is off by 1."""

_CONVEX_MODULES = (
    nn.MSELoss,
    nn.CrossEntropyLoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.BCEWithLogitsLoss,
    nn.MultiMarginLoss,
    nn.SoftMarginLoss,
    nn.MultiLabelSoftMarginLoss,
)
_CONVEX = (
    functional.mse_loss,
    functional.cross_entropy,
    functional.l1_loss,
    functional.smooth_l1_loss,
    functional.huber_loss,
    functional.binary_cross_entropy_with_logits,
    functional.multi_margin_loss,
    functional.soft_margin_loss,
)


def not_applicable(reason: str, layer: str = "") -> RankCertificate:
    """The answer where the theorem says nothing."""
    return RankCertificate(applies=False, reason=reason, layer=layer)


def is_convex(loss: Callable[..., Any] | None) -> bool:
    """Whether a loss is one that is known to be convex in the outputs."""
    return loss is None or type(loss) in _CONVEX_MODULES or loss in _CONVEX


def rank_certificate(
    features: Tensor,
    outputs: Tensor,
    target: Tensor,
    loss: Callable[..., Any] | None,
    *,
    layer: str = "",
    bias: bool = True,
) -> RankCertificate:
    """Whether a batch is fitted as well as it could be by any weights at all.

    Args:
        features: Inputs H of the output layer, shape (n, d).
        outputs: The model's outputs Z, shape (n, c).
        target: What the loss compares them with.
        loss: Called as ``loss(outputs, target)``; None for cross-entropy or mean squared error.
        layer: Path of the output layer.
        bias: The layer has one.

    Returns:
        The certificate, or the reason why the theorem cannot be applied.
    """
    if not is_convex(loss):
        return not_applicable("this loss is not known to be convex in the outputs", layer)
    if len(features) != len(outputs) or outputs.dim() != 2:
        return not_applicable("the output layer's rows are not the samples", layer)
    residual = _residual(outputs, target, loss)
    if residual is None:
        return not_applicable("the loss is not one number that the outputs can be told by", layer)
    h = features.detach().double()
    wide = torch.cat([h, torch.ones(len(h), 1, dtype=torch.float64)], dim=1) if bias else h
    values = torch.linalg.svdvals(wide)
    unit = torch.finfo(features.dtype).eps  # H is known to the model's own rounding, and no better
    tolerance = float(values[0]) * max(wide.shape) * unit
    rank = int((values > tolerance).sum())
    n = len(wide)
    gradient, size = float((wide.T @ residual).norm()), float(residual.norm())
    full = rank == n
    smallest = float(values[n - 1]) if len(values) >= n else 0.0
    bound = gradient / smallest if full else float("inf")
    still = gradient <= STATIONARY * float(values[0]) * n**-0.5
    reason = "" if full else f"rank {rank} of [H, 1] is below the {n} samples"
    if full and not still:
        reason = "the output layer is not at a stationary point"
    return RankCertificate(
        applies=full and still, reason=reason, certified=full and still, layer=layer, samples=n, rank=rank,
        smallest=smallest, largest=float(values[0]), tolerance=tolerance, gradient=gradient,
        residual_bound=bound, residual=size,
    )  # fmt: skip


def _residual(outputs: Tensor, target: Tensor, loss: Callable[..., Any] | None) -> Tensor | None:
    """D = dL/dZ, float64; None if the loss cannot be taken of these outputs."""
    with torch.enable_grad():
        z = outputs.detach().double().requires_grad_()
        aim = target.double() if target.is_floating_point() else target
        if loss is None:
            loss = functional.mse_loss if target.is_floating_point() else functional.cross_entropy
        try:
            value = loss(z, aim)
            if not isinstance(value, Tensor) or value.numel() != 1:
                return None
            found = torch.autograd.grad(value, z, allow_unused=True)[0]
        except Exception:  # noqa: BLE001 - shapes that do not belong together, whatever the loss says of it
            return None
    return None if found is None or not torch.isfinite(found).all() else found.detach()
