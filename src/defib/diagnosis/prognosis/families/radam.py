"""RAdam: Adam whose scale is used only once it is trustworthy."""

import math

import numpy as np

from defib.core.prognosis import Mechanism
from defib.diagnosis.prognosis.family import Body, Family, Mode, Tail, spent

TRUSTED = 5.0
"""Length of the running mean of squares above which torch divides by it."""


class RAdam(Family):
    """Liu et al. 2020: below a length of 5 the step is the plain momentum."""

    kinds = ("RAdam",)
    momenta = ("exp_avg",)
    needs = ("exp_avg", "exp_avg_sq")

    def step(self, body: Body, lr: float) -> None:
        """As torch's ``_single_tensor_radam`` (not capturable)."""
        do, (beta1, beta2), step = body.arithmetic, body.betas, body.count()
        pull = body.pull()
        body.shrink(lr)
        mean = do.lerp(body.array("exp_avg"), pull if pull is not None else do.kind(0.0), 1 - beta1)
        square = do.scale(body.array("exp_avg_sq"), beta2)
        if pull is not None:
            square = do.add_product(square, pull, pull, 1 - beta2)
        body.state["exp_avg"], body.state["exp_avg_sq"] = mean, square
        move = do.scale(do.divide(mean, 1 - beta1**step), lr)
        correction2 = 1 - beta2**step
        longest = 2 / (1 - beta2) - 1
        length = _length(beta2, step)
        if length > TRUSTED:
            scale = do.over(correction2**0.5, do.shift(do.sqrt(square), body.number("eps", 1e-8)))
            trust = ((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) ** 0.5
            move = do.scale(do.times(move, scale), trust)
        body.values = do.add(body.values, move, -1.0)

    def tail(self, body: Body, lr: float) -> Tail | None:
        """As Adam's: the rectification is below 1 and the length only grows.

        Returns:
            One mode and the bound; None with coupled decay, or before the scale is used.
        """
        rate = 1 - lr * body.decay
        beta1, beta2 = body.betas
        early = _length(beta2, body.steps + 1) <= TRUSTED
        if (body.decay and not body.decoupled) or not 0 < rate <= 1 or early:
            return None
        left = spent(
            body.array("exp_avg"),
            np.sqrt(body.array("exp_avg_sq").astype(np.float64)),
            beta1 / (math.sqrt(beta2) * rate),
            beta1 / rate,
            body.number("eps", 1e-8),
        )
        rest = left * (lr / (1 - beta1 ** (body.steps + 1)))
        return Tail(modes=(Mode(values=body.values.astype(np.float64), rate=rate),), rest=rest)

    def decay_mechanism(self, body: Body, lr: float) -> Mechanism:
        """Decoupled decay shrinks; coupled decay is divided by its own size."""
        del lr
        if body.decay == 0.0:
            return Mechanism.NOTHING
        return Mechanism.DECAY if body.decoupled else Mechanism.NORMALISED_DECAY


def _length(beta2: float, step: float) -> float:
    """Length of the running mean of squares after ``step`` steps."""
    kept = float(beta2**step)
    return (2 / (1 - beta2) - 1) - 2 * step * kept / (1 - kept)
