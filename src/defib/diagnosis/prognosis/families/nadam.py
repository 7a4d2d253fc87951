"""NAdam: Adam with Nesterov's look-ahead and a momentum that warms up."""

import numpy as np

from defib.diagnosis.prognosis.family import Body, Family, Tail, shrinking, spent_moments


class NAdam(Family):
    """Dozat's form with torch's momentum cache ``mu_product``, which torch keeps in float32."""

    kinds = ("NAdam",)
    momenta = ("exp_avg",)
    needs = ("exp_avg", "exp_avg_sq", "mu_product")
    scaled = True

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
        mean, square = body.moments(pull)
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
        rate, product = shrinking(body, lr), _product(body)
        if rate is None or product >= 1.0:
            return None
        left = spent_moments(body, rate)
        return Tail.single(body.values, rate, left * (lr * body.betas[0] / (1 - product)))


def _product(body: Body) -> float:
    """The momentum cache; 1 before the first step."""
    cache = body.state.get("mu_product")
    return 1.0 if cache is None else float(np.asarray(cache).reshape(-1)[0])
