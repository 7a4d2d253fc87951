"""Averaged SGD: a decay of its own (``lambd``), with steps that shrink."""

import numpy as np

from defib.core.prognosis import Mechanism
from defib.diagnosis.prognosis.family import Body, Family, Tail


class Asgd(Family):
    """p shrinks by 1 - lambd eta, eta = lr / (1 + lambd lr t)^alpha; the average does not act on p."""

    kinds = ("ASGD",)
    needs = ("eta",)

    def step(self, body: Body, lr: float) -> None:
        """As torch's ``_single_tensor_asgd`` (not capturable), without the average."""
        do, lambd, step = body.arithmetic, body.number("lambd", 1e-4), body.count()
        eta = body.state.get("eta")
        eta = lr if eta is None else float(np.asarray(eta).reshape(-1)[0])
        pull = body.pull()
        body.values = do.scale(body.values, 1 - lambd * eta)
        if pull is not None:
            body.values = do.add(body.values, pull, -eta)
        later = lr / ((1 + lambd * lr * step) ** body.number("alpha", 0.75))
        body.state["eta"] = float(np.float32(later))

    def tail(self, body: Body, lr: float) -> Tail | None:
        """Without any decay all stays; otherwise the rate of shrinking changes from step to step."""
        del lr
        if body.decay or body.number("lambd", 1e-4):
            return None
        return Tail.single(body.values)

    def decay_mechanism(self, body: Body, lr: float) -> Mechanism:
        """Both decays shrink the parameter."""
        del lr
        return Mechanism.DECAY if body.decay or body.number("lambd", 1e-4) else Mechanism.NOTHING
