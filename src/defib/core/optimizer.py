"""What each optimiser is, and what its steps did to the parameters.

Letters: ``R`` sampled steps, ``P`` parameters.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defib.core.series import Series


@dataclass(frozen=True, kw_only=True)
class Norms:
    """Sizes of gradient, weight and update, tensor by tensor, on sampled steps.

    Update sizes and the swallowed share come from a strided sample of at most
    16,384 entries a tensor and are scaled up; smaller tensors are exact.

    Attributes:
        parameters: Names, length P.
        steps: Sampled steps, shape (R,).
        gradient: Euclidean norm of the (unscaled) gradient, shape (R, P); NaN where there is none.
        weight: Euclidean norm of the parameter before the step, shape (R, P).
        update: Euclidean norm of the change by the step, shape (R, P).
        swallowed: Share of entries with a non-zero gradient that the step left
            bit-identical, shape (R, P).
    """

    parameters: tuple[str, ...]
    steps: NDArray[np.int64]
    gradient: NDArray[np.float64]
    weight: NDArray[np.float64]
    update: NDArray[np.float64]
    swallowed: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Facts about one optimiser.

    Attributes:
        index: Order of first use, from 0.
        kind: Class name ("Adam").
        steps: Steps taken.
        groups: Its parameter groups' settings, without the tensors.
        parameters: Names of the parameters that it owns.
        loss: The loss whose backward preceded each step.
        lr: Learning rate of the first group at each step.
        scale: GradScaler's loss scale at each step; empty without a scaler.
        displacement: How far the weights are from where they were first read, over their size then, on
            sampled steps; empty in records of before.
    """

    index: int
    kind: str
    steps: int
    groups: tuple[dict[str, Any], ...] = ()
    parameters: tuple[str, ...] = ()
    loss: Series = field(default_factory=Series.empty)
    lr: Series = field(default_factory=Series.empty)
    scale: Series = field(default_factory=Series.empty)
    displacement: Series = field(default_factory=Series.empty)


PAIR_COLUMNS = ("gradient", "next_gradient", "update", "before", "after", "again")
"""What is read of two consecutive steps; see :class:`Pairs`."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Gradient and update of one step beside the gradient of the next, on sampled steps of one optimiser.

    g is the gradient of step t as the optimiser got it, d the change of the parameters by that
    step, g' the gradient of step t + 1, of another batch. All are taken over the same evenly
    spaced sample of the optimiser's parameters (all of them, up to 65,536), so that sizes of
    larger models are sizes of the sample; cosines need no such word.

    Attributes:
        steps: Step t, shape (R,).
        gradient: |g|, shape (R,).
        next_gradient: |g'|, shape (R,).
        update: |d|, shape (R,).
        before: Cosine of g and d: negative where the step went downhill on its own batch, shape (R,).
        after: Cosine of g' and d: positive where the next gradient points back, shape (R,).
        again: Cosine of g and g', shape (R,).
    """

    steps: NDArray[np.int64]
    gradient: NDArray[np.float64]
    next_gradient: NDArray[np.float64]
    update: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    again: NDArray[np.float64]
