"""Set gradients to zero after each step, where the script forgets to.

What it does:
    Right after each step of an optimiser the gradients of its parameters are taken away, as
    ``optimizer.zero_grad()`` does.

When it helps:
    The loop has no ``zero_grad()``: each step follows the sum of all gradients so far.

When it does not:
    The script looks at gradients between a step and the next backward pass: it finds none there any
    more.

Dose:
    None.

Safety:
    Weights and moments stay. Undoing takes the hook away. The patch is the better way.

References:
    PyTorch documentation, Zeroing out gradients in PyTorch.
"""

from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar

import torch

from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.steps import stepping
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState
from defib.therapy.treatment import Case, Indication, Treatment


class ZeroGrad(Treatment):
    """Takes gradients away after each step."""

    slug = "zero-grad"
    title = "Set gradients to zero after each step"
    safety = Safety.SETTINGS
    indications = (
        Indication(
            rule="gradients-kept", strength=0.95, why="each step follows its own gradient and no earlier one"
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a hook behind each step",
            build=stepping,
            dose={},
            holds=lambda s: len(s.optimizers[0]._optimizer_step_post_hooks) == 1,
        ),
        Case(
            name="nothing steps",
            build=lambda: TrainState(model=torch.nn.Linear(1, 1)),
            dose={},
            refused=True,
        ),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        del finding, run
        return {}

    def patch(self, finding: Finding, run: RunView, dose: Dose) -> str:
        del finding, run, dose
        return "call optimizer.zero_grad() once in each turn of the loop, before loss.backward()"

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del draw, layers
        return {}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        del dose
        if not surgery.state.optimizers:
            raise Refused("zero-grad: no optimiser steps this model")
        for optimizer in surgery.state.optimizers:
            what = f"{type(optimizer).__name__}: gradients are taken away after each step"
            surgery.listen(what, optimizer, after=_forget)


def _forget(optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
    optimizer.zero_grad(set_to_none=True)
