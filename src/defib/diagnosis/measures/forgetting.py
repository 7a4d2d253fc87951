"""How much of every weight a decoupled weight decay takes, and whether it leads the steps.

A step is d = -s w + g, with s the learning rate times the decay, w the weights and g what the gradient
adds. Where |d| <= 2 s |w|, the decay's part s |w| is at least half of the step. It is asked of the
first 1 / s steps: afterwards the weights have shrunk, and steps of any size are large against them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from defib.core.optimizer import Optimizer
from defib.core.run import RunView
from defib.diagnosis.measures.pace import pace


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """What the decay does.

    Attributes:
        share: Share of itself that a weight loses on every step, in the group where it is largest.
        part: That share over the update's ratio to the weights, median of the first 1 / share steps; NaN if
            none of them was read.
    """

    share: float
    part: float

    @property
    def leads(self) -> bool:
        """Whether the decay is at least half of the first steps, before the weights have shrunk."""
        return bool(self.part >= 0.5)


def forgetting(run: RunView) -> Forgetting | None:
    """What the decay takes; None for several optimisers, or none that takes a share of the weights."""
    if len(run.optimizers) != 1:
        return None
    optimizer = run.optimizers[0]
    share = float(np.max([_per_step(optimizer, group) for group in optimizer.groups], initial=0.0))
    if share <= 0:
        return None
    steps = pace(run)
    ratio = np.zeros(0) if steps is None else steps.ratio[steps.steps <= 1 / share]
    typical = float(np.median(ratio)) if len(ratio) else 0.0
    return Forgetting(share=share, part=share / typical if typical > 0 else float("nan"))


def _per_step(optimizer: Optimizer, group: dict[str, Any]) -> float:
    """Share of a weight that a step takes; 0 where the optimiser uses the decay otherwise."""
    decoupled = optimizer.kind in {"AdamW", "SGD"} or group.get("decoupled_weight_decay") is True
    rate, decay = group.get("lr"), group.get("weight_decay")
    if not decoupled or not isinstance(rate, int | float) or not isinstance(decay, int | float):
        return 0.0
    usual = optimizer.lr.values[np.isfinite(optimizer.lr.values)]
    return float(np.median(usual) if len(usual) else rate) * float(decay)
