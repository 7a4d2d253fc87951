"""NAdam: Adam with Nesterov's look-ahead and a momentum that warms up."""

import math

import numpy as np

from defib.core.prognosis import Mechanism
from defib.diagnosis.prognosis.family import Body, Family, Mode, Tail, spent


class NAdam(Family):
    """Dozat's form with torch's momentum cache ``mu_product``, which torch keeps in float32."""

    kinds = ("NAdam",)
    momenta = ("exp_avg",)
    needs = ("exp_avg", "exp_avg_sq", "mu_product")

    def step(self, body: Body, lr: float) -> None:
        """As torch's ``_single_tensor_nadam`` (not capturable)."""
        do, (beta1, beta2), step = body.arithmetic, body.betas, body.count()
        pull = body.pull()
        body.shrink(lr)
        warm = body.number("momentum_decay", 4e-3)
        mu = beta1 * (1.0 - 0.5 * (0.96 ** (step * warm)))
        mu_next = beta1 * (1.0 - 0.5 * (0.96 ** ((step + 1) * warm)))
        product = _product(body) * mu
        cache = body.state.get("mu_product")
        wide = isinstance(cache, np.ndarray | np.generic) and cache.dtype == np.float64
        body.state["mu_product"] = kept = np.float64(product) if wide else np.float32(product)
        mean = do.lerp(body.array("exp_avg"), pull if pull is not None else do.kind(0.0), 1 - beta1)
        square = do.scale(body.array("exp_avg_sq"), beta2)
        if pull is not None:
            square = do.add_product(square, pull, pull, 1 - beta2)
        body.state["exp_avg"], body.state["exp_avg_sq"] = mean, square
        divisor = do.shift(do.sqrt(do.divide(square, 1 - beta2**step)), body.number("eps", 1e-8))
        if pull is not None:
            body.values = do.add_quotient(body.values, pull, divisor, -lr * (1.0 - mu) / (1.0 - float(kept)))
        body.values = do.add_quotient(
            body.values, mean, divisor, (-lr * mu_next) / (1.0 - float(kept) * mu_next)
        )

    def tail(self, body: Body, lr: float) -> Tail | None:
        """As Adam's; a step is at most lr beta_1 / (1 - mu_product) m / sqrt(v).

        Returns:
            One mode and the bound; None with coupled decay.
        """
        rate = 1 - lr * body.decay
        product = _product(body)
        if (body.decay and not body.decoupled) or not 0 < rate <= 1 or product >= 1.0:
            return None
        beta1, beta2 = body.betas
        left = spent(
            body.array("exp_avg"),
            np.sqrt(body.array("exp_avg_sq").astype(np.float64)),
            beta1 / (math.sqrt(beta2) * rate),
            beta1 / rate,
            body.number("eps", 1e-8),
        )
        rest = left * (lr * beta1 / (1 - product))
        return Tail(modes=(Mode(values=body.values.astype(np.float64), rate=rate),), rest=rest)

    def decay_mechanism(self, body: Body, lr: float) -> Mechanism:
        """Decoupled decay shrinks; coupled decay is divided by its own size."""
        del lr
        if body.decay == 0.0:
            return Mechanism.NOTHING
        return Mechanism.DECAY if body.decoupled else Mechanism.NORMALISED_DECAY


def _product(body: Body) -> float:
    """The momentum cache; 1 before the first step."""
    cache = body.state.get("mu_product")
    return 1.0 if cache is None else float(np.asarray(cache).reshape(-1)[0])
