"""Adam, AdamW and AMSGrad."""

import math

import numpy as np

from defib.core.prognosis import Mechanism
from defib.diagnosis.prognosis.arithmetic import Exact
from defib.diagnosis.prognosis.family import Body, Family, Mode, Tail, spent
from defib.diagnosis.prognosis.plane import adam_reach


class Adam(Family):
    """Means of the gradient (m) and of its square (v); the step is m / (sqrt(v) + eps)."""

    kinds = ("Adam", "AdamW")
    momenta = ("exp_avg",)
    needs = ("exp_avg", "exp_avg_sq")

    def step(self, body: Body, lr: float) -> None:
        """As torch's ``_single_tensor_adam`` (not capturable)."""
        do, (beta1, beta2), step = body.arithmetic, body.betas, body.count()
        pull = body.pull()
        body.shrink(lr)
        mean = do.lerp(body.array("exp_avg"), pull if pull is not None else do.kind(0.0), 1 - beta1)
        square = do.scale(body.array("exp_avg_sq"), beta2)
        if pull is not None:
            square = do.add_product(square, pull, pull, 1 - beta2)
        body.state["exp_avg"], body.state["exp_avg_sq"] = mean, square
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
        rate = 1 - lr * body.decay
        if (body.decay and not body.decoupled) or not 0 < rate <= 1:
            return None
        beta1, beta2 = body.betas
        keep = 1.0 if body.settings.get("amsgrad", False) else math.sqrt(beta2)
        name = "max_exp_avg_sq" if body.settings.get("amsgrad", False) else "exp_avg_sq"
        left = spent(
            body.array("exp_avg"),
            np.sqrt(body.array(name).astype(np.float64)),
            beta1 / (keep * rate),
            beta1 / rate,
            body.number("eps", 1e-8),
        )
        rest = left * (lr / (1 - beta1 ** (body.steps + 1)))
        return Tail(modes=(Mode(values=body.values.astype(np.float64), rate=rate),), rest=rest)

    def coast(self, body: Body, lr: float) -> Exact | None:
        """-rho_A m / sqrt(v), see ``plane.adam_reach``; 9.045 lr m / sqrt(v) late in training."""
        amsgrad = bool(body.settings.get("amsgrad", False))
        reach = adam_reach(lr, body.betas, body.steps, 0.0, amsgrad)
        if not math.isfinite(reach):
            return None
        square = body.array("max_exp_avg_sq" if amsgrad else "exp_avg_sq").astype(np.float64)
        root, mean = np.sqrt(square), body.array("exp_avg").astype(np.float64)
        return np.asarray(-reach * np.divide(mean, root, out=np.zeros_like(mean), where=root > 0))

    def decay_mechanism(self, body: Body, lr: float) -> Mechanism:
        """Decoupled decay shrinks; coupled decay is divided by its own size."""
        del lr
        if body.decay == 0.0:
            return Mechanism.NOTHING
        return Mechanism.DECAY if body.decoupled else Mechanism.NORMALISED_DECAY
