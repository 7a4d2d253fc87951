"""Adamax: Adam with the largest recent gradient as its scale."""

import numpy as np

from defib.diagnosis.prognosis.family import Body, Family, Tail, spent


class Adamax(Family):
    """m over a maximum that decays by beta_2 and never falls below eps."""

    kinds = ("Adamax",)
    momenta = ("exp_avg",)
    needs = ("exp_avg", "exp_inf")
    scaled = True

    def step(self, body: Body, lr: float) -> None:
        """As torch's ``_single_tensor_adamax`` (not capturable)."""
        do, (beta1, beta2), step = body.arithmetic, body.betas, body.count()
        pull = body.pull()
        mean = do.lerp(body.array("exp_avg"), pull if pull is not None else do.kind(0.0), 1 - beta1)
        size = np.abs(pull) if pull is not None else np.zeros_like(body.values)
        largest = np.maximum(do.scale(body.array("exp_inf"), beta2), do.shift(size, body.number("eps", 1e-8)))
        body.state["exp_avg"], body.state["exp_inf"] = mean, largest
        body.values = do.add_quotient(body.values, mean, largest, -(lr / (1 - beta1**step)))

    def tail(self, body: Body, lr: float) -> Tail | None:
        """Step j moves by lr beta_1^j |m| / ((1 - beta_1^(t+j)) max(beta_2^j u, eps)) at most.

        Returns:
            One mode and the bound; None with decay.
        """
        if body.decay:
            return None
        beta1, beta2 = body.betas
        left = spent(
            body.array("exp_avg"),
            body.array("exp_inf").astype(np.float64),
            beta1 / beta2 if beta2 > 0 else np.inf,
            beta1,
            body.number("eps", 1e-8),
        )
        return Tail.single(body.values, rest=left * (lr / (1 - beta1 ** (body.steps + 1))))
