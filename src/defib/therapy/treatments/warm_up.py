"""Take the first steps with a learning rate that rises.

What it does:
    For the next n steps the rate is k / n of what it would be, k = 1 ... n, then all of it. The rate is
    set right before each step and put back right after it, so that any schedule goes on unknowing.

When it helps:
    The first updates do the damage: Adam's second moment is not known yet, or the first layers see
    data that nothing has been fitted to.

When it does not:
    The full rate is too high by itself: then it only puts off the trouble (`scale-lr`).

Dose:
    ``steps``: n. A tenth of the run, at most 2 / (1 - beta2) = 2,000 and at least 20.

Safety:
    Weights and moments stay. The record shows the schedule's own rate on those steps, and the sizes of
    the updates as they were. Undoing takes the hooks away. Refused where the rate is a tensor.

References:
    Goyal et al. 2017 (arXiv 1706.02677), section 2.2; Ma and Yarats 2021, On the adequacy of untuned
    warmup (arXiv 1910.04209): 2 / (1 - beta2) steps.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, ClassVar

import torch

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.steps import positive, stepping
from defib.therapy.surgery import Surgery
from defib.therapy.treatment import Case, Indication, Treatment


class WarmUp(Treatment):
    """Scales the rate of the next steps."""

    slug = "warm-up"
    title = "Take the first steps with a learning rate that rises"
    safety = Safety.SETTINGS
    indications = (
        Indication(
            rule="lr-too-high",
            causes=(Cause.STEP_LARGER_THAN_WEIGHTS, Cause.LOSS_RUNS_AWAY),
            strength=0.45,
            why="the first steps, on which nothing is fitted yet, become small",
        ),
        Indication(
            rule="dead-unit",
            causes=(Cause.DIED_AT_STEP,),
            strength=0.42,
            why="units die mostly of the first large steps",
        ),
        Indication(rule="exploding-gradient", strength=0.3, why="the first steps become small"),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="hooks around each step",
            build=stepping,
            dose={"steps": 4},
            holds=lambda s: (
                len(s.optimizers[0]._optimizer_step_pre_hooks) == 1
                and len(s.optimizers[0]._optimizer_step_post_hooks) == 1
            ),
        ),
        Case(name="no steps", build=stepping, dose={"steps": 0}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        del finding
        return {"steps": int(min(2000, max(20, run.steps // 10)))}

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del layers
        return {"steps": draw.choice((50, 200))}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        steps = positive(dose, "steps", self.slug)
        if steps != int(steps):
            raise Refused(f"warm-up takes a whole number of steps, not {steps:g}")
        for optimizer in surgery.state.optimizers:
            if any(torch.is_tensor(g["lr"]) for g in optimizer.param_groups):
                raise Refused(f"warm-up: the learning rate of {type(optimizer).__name__} is a tensor")
            before, after = _ramp(int(steps))
            surgery.listen(
                f"{type(optimizer).__name__}: warm-up over {int(steps)} steps", optimizer, before, after
            )


def _ramp(steps: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """The hooks of one optimiser: scale its rates, and put them back."""
    taken = 0
    held: list[tuple[dict[str, Any], float]] = []

    def before(optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        nonlocal taken
        taken += 1
        if taken < steps:
            held[:] = [(group, group["lr"]) for group in optimizer.param_groups]
            for group, rate in held:
                group["lr"] = rate * taken / steps

    def after(_optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        for group, rate in held:
            group["lr"] = rate
        held.clear()

    return before, after
