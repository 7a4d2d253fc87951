"""Adagrad: no momentum; its scale only grows."""

from defib.diagnosis.prognosis.family import Body, Family, Tail


class Adagrad(Family):
    """The gradient over the root of the sum of all squares; without decay nothing moves."""

    kinds = ("Adagrad",)
    needs = ("sum",)
    scaled = True

    def step(self, body: Body, lr: float) -> None:
        """As torch's ``_single_tensor_adagrad``."""
        do, step = body.arithmetic, body.count()
        pull = body.pull()
        if pull is None:
            return
        total = body.state["sum"] = do.add_product(body.array("sum"), pull, pull, 1.0)
        rate = lr / (1 + (step - 1) * body.number("lr_decay", 0.0))
        divisor = do.shift(do.sqrt(total), body.number("eps", 1e-10))
        body.values = do.add_quotient(body.values, pull, divisor, -rate)

    def tail(self, body: Body, lr: float) -> Tail | None:
        """Without decay all stays; with it nothing is known."""
        del lr
        if body.decay:
            return None
        return Tail.single(body.values)
