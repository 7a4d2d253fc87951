"""Adam, AdamW and AMSGrad."""

import math

import numpy as np

from defib.diagnosis.prognosis.arithmetic import Exact
from defib.diagnosis.prognosis.family import Body, Family, Tail, shrinking, spent_moments
from defib.diagnosis.prognosis.plane import adam_reach


class Adam(Family):
    """Means of the gradient (m) and of its square (v); the step is m / (sqrt(v) + eps)."""

    kinds = ("Adam", "AdamW")
    momenta = ("exp_avg",)
    needs = ("exp_avg", "exp_avg_sq")
    scaled = True

    def step(self, body: Body, lr: float) -> None:
        """As torch's ``_single_tensor_adam`` (not capturable)."""
        do, (beta1, beta2), step = body.arithmetic, body.betas, body.count()
        pull = body.pull()
        body.shrink(lr)
        mean, square = body.moments(pull)
        scale = square
        if body.settings.get("amsgrad", False):
            scale = body.state["max_exp_avg_sq"] = np.maximum(body.array("max_exp_avg_sq"), square)
        root = do.divide(do.sqrt(scale), (1 - beta2**step) ** 0.5)
        divisor = do.shift(root, body.number("eps", 1e-8))
        body.values = do.add_quotient(body.values, mean, divisor, -(lr / (1 - beta1**step)))

    def tail(self, body: Body, lr: float) -> Tail | None:
        """The parameter shrinks by 1 - lr decay a step, but for what the momentum still adds.

        Step j moves by lr beta_1^j |m| / ((1 - beta_1^(t+j)) (sqrt(v) beta_2^(j/2) + eps)) at most, since
        the correction of v is below 1; both sums are geometric.

        Returns:
            One mode and the bound; None with coupled decay.
        """
        rate = shrinking(body, lr)
        if rate is None:
            return None
        left = spent_moments(body, rate, largest=bool(body.settings.get("amsgrad", False)))
        return Tail.single(body.values, rate, left * (lr / (1 - body.betas[0] ** (body.steps + 1))))

    def coast(self, body: Body, lr: float) -> Exact | None:
        """-rho_A m / sqrt(v), see ``plane.adam_reach``; 9.045 lr m / sqrt(v) late in training."""
        amsgrad = bool(body.settings.get("amsgrad", False))
        reach = adam_reach(lr, body.betas, body.steps, 0.0, amsgrad)
        if not math.isfinite(reach):
            return None
        square = body.array("max_exp_avg_sq" if amsgrad else "exp_avg_sq").astype(np.float64)
        root, mean = np.sqrt(square), body.array("exp_avg").astype(np.float64)
        return np.asarray(-reach * np.divide(mean, root, out=np.zeros_like(mean), where=root > 0))
