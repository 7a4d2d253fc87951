"""SGD with momentum, dampening, Nesterov's form and coupled decay."""

import numpy as np
from numpy.typing import NDArray

from defib.core.prognosis import Mechanism
from defib.diagnosis.prognosis.arithmetic import Exact
from defib.diagnosis.prognosis.family import Body, Family, Mode, Tail
from defib.diagnosis.prognosis.plane import HeavyBall


class Sgd(Family):
    """The linear family: p and its buffer v turn in a plane, see ``plane.HeavyBall``.

    The very first step with momentum copies the gradient into the buffer, without dampening.
    """

    kinds = ("SGD",)
    momenta = ("momentum_buffer",)

    def step(self, body: Body, lr: float) -> None:
        """With g = decay p: v = mu v + (1 - d) g; p = p - lr v (Nesterov: p - lr (g + mu v))."""
        do, momentum = body.arithmetic, body.number("momentum", 0.0)
        pull = body.pull()
        move = pull
        if momentum:
            buffer = body.state.get("momentum_buffer")
            if buffer is None:
                buffer = pull.copy() if pull is not None else np.zeros_like(body.values)
            else:
                buffer = do.scale(buffer, momentum)
                if pull is not None:
                    buffer = do.add(buffer, pull, 1 - body.number("dampening", 0.0))
            body.state["momentum_buffer"] = move = buffer
            if body.settings.get("nesterov", False):
                move = do.add(pull if pull is not None else 0.0, buffer, momentum)
        if move is not None:
            body.values = do.add(body.values, move, -lr)

    def tail(self, body: Body, lr: float) -> Tail | None:
        """The two eigenmodes of the plane, where their rates are real.

        p_j = r1^j S + r2^j F with S = (p_1 - r2 p_0) / (r1 - r2), F = p_0 - S. Without decay, and at
        rates up to ``lr``, p_j = p_0 - c_j v with c_j rising to at most S's: the same two shares.

        Returns:
            The modes; None while there is no buffer yet, or if the plane turns.
        """
        ball = _ball(body, lr)
        values = body.values.astype(np.float64)
        if ball.momentum == 0.0:
            rate = 1 - ball.lr * ball.decay
            return Tail.single(values, rate) if 0 < rate <= 1 else None
        buffer = body.state.get("momentum_buffer")
        if ball.roots is None or buffer is None:
            return None
        (slow, fast), (a, b) = ball.roots, ball.first_row
        lasting = ((a - fast) * values - b * lr * buffer.astype(np.float64)) / (slow - fast)
        return Tail(modes=(Mode(values=lasting, rate=slow), Mode(values=values - lasting, rate=fast)))

    def steady(self, body: Body, lr: float) -> bool:
        """Decay and momentum together: the modes change with the learning rate."""
        del lr
        return body.decay != 0.0 and body.number("momentum", 0.0) != 0.0

    def coast(self, body: Body, lr: float) -> Exact:
        """-eta mu / (1 - mu) v; Nesterov -eta mu^2 / (1 - mu) v."""
        buffer, ball = body.state.get("momentum_buffer"), _ball(body, lr)
        if buffer is None or ball.momentum == 0.0:
            return np.zeros(body.values.shape)
        free = HeavyBall(lr=lr, momentum=ball.momentum, nesterov=ball.nesterov)
        return np.asarray(-(free.reach or 0.0) * buffer.astype(np.float64))

    def decay_mechanism(self, body: Body, lr: float) -> Mechanism:
        """Shrinking, or an oscillation above the critical decay."""
        if body.decay == 0.0:
            return Mechanism.NOTHING
        return Mechanism.OSCILLATION if _ball(body, lr).underdamped else Mechanism.DECAY

    def fixed(self, body: Body) -> NDArray[np.bool_]:
        """The map has no clock: what did not change once never changes."""
        return np.ones(len(body.values), dtype=np.bool_)


def _ball(body: Body, lr: float) -> HeavyBall:
    """The group's settings as a heavy ball."""
    return HeavyBall(
        lr=lr,
        momentum=body.number("momentum", 0.0),
        decay=body.decay,
        dampening=body.number("dampening", 0.0),
        nesterov=bool(body.settings.get("nesterov", False)),
    )
