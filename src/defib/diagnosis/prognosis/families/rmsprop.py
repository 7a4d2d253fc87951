"""RMSprop, plain, centred and with momentum."""

import numpy as np

from defib.diagnosis.prognosis.arithmetic import Exact
from defib.diagnosis.prognosis.family import Body, Family, Mode, Tail
from defib.diagnosis.prognosis.plane import HeavyBall


class RmsProp(Family):
    """The gradient over its root mean square; its buffer is scaled already, so it coasts like SGD's."""

    kinds = ("RMSprop",)
    momenta = ("momentum_buffer",)
    needs = ("square_avg",)
    scaled = True

    def step(self, body: Body, lr: float) -> None:
        """As torch's ``_single_tensor_rmsprop``."""
        do, alpha = body.arithmetic, body.number("alpha", 0.99)
        body.count()
        pull = body.pull()
        gradient = pull if pull is not None else np.zeros_like(body.values)
        square = do.add_product(do.scale(body.array("square_avg"), alpha), gradient, gradient, 1 - alpha)
        body.state["square_avg"] = scale = square
        if body.settings.get("centered", False):
            mean = body.state["grad_avg"] = do.lerp(body.array("grad_avg"), gradient, 1 - alpha)
            scale = do.add_product(square, mean, mean, -1.0)
        divisor = do.shift(do.sqrt(scale), body.number("eps", 1e-8))
        momentum = body.number("momentum", 0.0)
        if momentum > 0:
            buffer = do.add_quotient(do.scale(body.array("momentum_buffer"), momentum), gradient, divisor)
            body.state["momentum_buffer"] = buffer
            body.values = do.add(body.values, buffer, -lr)
        else:
            body.values = do.add_quotient(body.values, gradient, divisor, -lr)

    def tail(self, body: Body, lr: float) -> Tail | None:
        """Without decay the buffer coasts, p_j = p - c_j v, c_j rising to lr mu / (1 - mu).

        Returns:
            Two modes (one without momentum); None with decay.
        """
        if body.decay:
            return None
        values, ball = body.values.astype(np.float64), HeavyBall(lr=lr, momentum=body.number("momentum", 0.0))
        if ball.momentum <= 0.0:
            return Tail.single(values)
        if ball.reach is None:
            return None
        lasting = values + self.coast(body, lr)
        return Tail(modes=(Mode(values=lasting, rate=1.0), Mode(values=values - lasting, rate=ball.momentum)))

    def coast(self, body: Body, lr: float) -> Exact:
        """-lr mu / (1 - mu) times the buffer."""
        reach = HeavyBall(lr=lr, momentum=max(0.0, body.number("momentum", 0.0))).reach
        return np.asarray(-(reach or 0.0) * body.array("momentum_buffer").astype(np.float64))
