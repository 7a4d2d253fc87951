"""What is done at every step of an optimiser from now on, and what the record says about sizes of steps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose
from defib.core.run import RunView
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState

Clip = Callable[[list[nn.Parameter], float], object]


def clip_before_steps(surgery: Surgery, slug: str, limit: float, clip: Clip) -> None:
    """Clips the gradients of each optimiser's own parameters right before each of its steps.

    Args:
        surgery: Makes the edits.
        slug: The treatment.
        limit: What ``clip`` is given.
        clip: ``torch.nn.utils.clip_grad_norm_`` or alike; edits gradients in place.

    Raises:
        Refused: If an optimiser takes its gradients inside of a step, or gets them scaled.
    """
    for optimizer in surgery.state.optimizers:
        kind = type(optimizer).__name__
        if kind == "LBFGS":
            raise Refused(
                f"{slug}: LBFGS makes its gradients inside of its step, where they cannot be clipped"
            )
        if surgery.state.scaler is not None and any(g.get("fused") for g in optimizer.param_groups):
            raise Refused(f"{slug}: a fused {kind} gets gradients that are still scaled by the GradScaler")
        surgery.listen(f"{kind}: {slug} {limit:g} before each step", optimizer, before=_clipper(limit, clip))


def _clipper(limit: float, clip: Clip) -> Callable[..., None]:
    """A step pre-hook; the optimiser's parameters are looked up on each step, as groups may change."""

    def before(optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        own = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        clip(own, limit)

    return before


def positive(dose: Dose, name: str, slug: str) -> float:
    """A number above 0 in a dose.

    Args:
        dose: The dose.
        name: Its key.
        slug: The treatment.

    Returns:
        The number.

    Raises:
        Refused: If it is none.
    """
    value = dose.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise Refused(f"{slug} needs {name} above 0, not {value!r}")
    return float(value)


def number_of(finding: Finding, name: str) -> float:
    """A number of a finding's evidence by its name; NaN if it has none."""
    found = (e.value for e in finding.evidence if e.name == name and not isinstance(e.value, str))
    return float(next(found, float("nan")))


def before_updates(finding: Finding) -> bool:
    """Whether it was so in the very first pass, before any update: smaller steps cannot help then."""
    return finding.rule == "non-finite" and finding.since_step == 0 and finding.cause not in _BY_UPDATE


_BY_UPDATE = {Cause.NON_FINITE_UPDATE}


def usual_entry(run: RunView, before: int | None = None) -> float:
    """What no single entry of a usual gradient exceeds; NaN if none was read.

    Single entries are not recorded; an entry is never larger than its tensor's norm, so one that is
    larger than what the largest tensor's norm usually is stands out.

    Args:
        run: The run.
        before: A step; None for the first half of the readings.

    Returns:
        Median over the steps of the largest norm of one tensor.
    """
    if run.norms is None or not len(run.norms.steps):
        return float("nan")
    largest = np.nan_to_num(run.norms.gradient, nan=0.0).max(axis=1, initial=0.0)
    return _usual(largest, run.norms.steps, before)


def usual_gradient(run: RunView, before: int | None = None) -> float:
    """Median norm of the whole gradient on the sampled steps before one; NaN if none was read.

    Args:
        run: The run.
        before: A step; None for the first half of the readings.

    Returns:
        The norm, of all parameters together.
    """
    if run.norms is None or not len(run.norms.steps):
        return float("nan")
    total = np.sqrt(np.nansum(run.norms.gradient**2, axis=1))
    return _usual(total, run.norms.steps, before)


def weights_size(run: RunView) -> float:
    """Norm of all weights when they were first read; infinite if they never were, or were not finite."""
    if run.norms is None or not len(run.norms.steps):
        return float("inf")
    size = float(np.sqrt(np.nansum(run.norms.weight[0] ** 2)))
    return size if size > 0 and np.isfinite(size) else float("inf")


def _usual(total: NDArray[np.float64], steps: NDArray[np.int64], before: int | None) -> float:
    """Median of the finite sizes, shape (R,), on the steps before one or in the first half."""
    early = steps < before if before is not None else np.arange(len(steps)) <= len(steps) // 2
    kept = total[early & np.isfinite(total) & (total > 0)]
    return float(np.median(kept)) if len(kept) else float("nan")


def rounded(value: float) -> float:
    """Three significant digits: a dose that can be read, and typed."""
    return float(f"{value:.3g}")


def stepping(lr: float = 0.1, **settings: Any) -> TrainState:
    """A small layer under SGD with momentum after two steps, for cases."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, **settings)
    return _stepped(model, optimizer)


def adaptive(**settings: Any) -> TrainState:
    """The same under AdamW."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    return _stepped(model, torch.optim.AdamW(model.parameters(), lr=0.01, **settings))


def _stepped(model: nn.Module, optimizer: torch.optim.Optimizer) -> TrainState:
    for _ in range(2):
        step_of(model, optimizer)
    return TrainState(model=model, optimizers=(optimizer,))


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """One step on inputs of 3; the largest change of a parameter."""
    optimizer.zero_grad()
    model(torch.full((2, 4), 3.0)).square().sum().backward()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    return max(float((p.detach() - b).abs().max()) for p, b in zip(model.parameters(), before, strict=True))
