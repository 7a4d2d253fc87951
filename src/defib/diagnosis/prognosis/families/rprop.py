"""Rprop: the sign of the gradient alone counts, and zero has none."""

from defib.diagnosis.prognosis.family import Body, Family, Tail


class Rprop(Family):
    """It has neither momentum nor decay: a parameter whose gradient is zero stays."""

    kinds = ("Rprop",)

    def step(self, body: Body, lr: float) -> None:
        """The sign of zero is zero: the parameter does not move."""

    def tail(self, body: Body, lr: float) -> Tail:
        """One share that stays."""
        del lr
        return Tail.single(body.values)
