"""Adadelta: steps in the parameter's own unit; without decay nothing moves."""

import numpy as np

from defib.diagnosis.prognosis.family import Body, Family, Tail


class Adadelta(Family):
    """Zeiler 2012: the gradient times the ratio of two running root mean squares."""

    kinds = ("Adadelta",)
    needs = ("square_avg", "acc_delta")
    scaled = True

    def step(self, body: Body, lr: float) -> None:
        """As torch's ``_single_tensor_adadelta``."""
        do, rho, eps = body.arithmetic, body.number("rho", 0.9), body.number("eps", 1e-6)
        body.count()
        pull = body.pull()
        gradient = pull if pull is not None else np.zeros_like(body.values)
        square = do.add_product(do.scale(body.array("square_avg"), rho), gradient, gradient, 1 - rho)
        root = do.sqrt(do.shift(square, eps))
        delta = do.times(do.divide(do.sqrt(do.shift(body.array("acc_delta"), eps)), root), gradient)
        body.state["square_avg"] = square
        body.state["acc_delta"] = do.add_product(
            do.scale(body.array("acc_delta"), rho), delta, delta, 1 - rho
        )
        body.values = do.add(body.values, delta, -lr)

    def tail(self, body: Body, lr: float) -> Tail | None:
        """Without decay all stays; with it nothing is known."""
        del lr
        if body.decay:
            return None
        return Tail.single(body.values)
