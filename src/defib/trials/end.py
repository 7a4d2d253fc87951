"""Ends a script early, as a screening run asks for."""

from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def end_after(steps: int) -> None:
    """Ends the script, as ``sys.exit()`` would, once one of its optimisers has taken so many steps.

    Args:
        steps: At least 1.
    """
    taken: dict[int, int] = {}

    def stepped(optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        taken[id(optimizer)] = taken.get(id(optimizer), 0) + 1
        if taken[id(optimizer)] >= steps:
            raise SystemExit(0)

    register_optimizer_step_post_hook(stepped)
