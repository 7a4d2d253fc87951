"""Notices on which step weights stopped being numbers, without waiting for the device."""

from typing import Any

import torch
from torch.nn.utils import get_total_norm

from defib.therapy.agreement import is_alone


class Alarm:
    """Looks at an optimiser's parameters right after each of its steps.

    On a CPU it tells at once; on an accelerator once the answer has been copied by itself, one look
    later or, where the script runs far ahead of the device, some. Ranks of a data-parallel job hold equal
    weights and wait for the answer at the next look, so it rings on all of them at the same step.
    """

    def __init__(self) -> None:
        self._asked: dict[int, tuple[torch.Tensor, Any]] = {}

    def rings(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether a parameter of this optimiser is NaN or infinite.

        Args:
            optimizer: It has just taken a step.

        Returns:
            False also where it is not known yet.
        """
        own = [p.detach() for g in optimizer.param_groups for p in g["params"] if p.numel()]
        if not own:
            return False
        # The largest magnitude cannot overflow, as the sum of squares of half-precision weights does.
        largest = get_total_norm(own, norm_type=float("inf"))
        if largest.device.type == "cpu":
            return not bool(torch.isfinite(largest))
        before = self._asked.get(id(optimizer))
        if before is not None and is_alone() and not before[1].query():
            return False  # asking anew at every step, a script that runs ahead would never be answered
        answer = torch.empty((), dtype=largest.dtype, pin_memory=largest.device.type == "cuda")
        answer.copy_(largest, non_blocking=True)
        event = torch.Event(largest.device)
        event.record()
        self._asked[id(optimizer)] = answer, event
        if before is None:
            return False
        before[1].synchronize()
        return not bool(torch.isfinite(before[0]))

    def forget(self) -> None:
        """The weights were changed on purpose: what was asked about the old ones does not count."""
        self._asked = {}
