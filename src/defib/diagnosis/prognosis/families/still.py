"""Parameters that no optimiser moves, or whose gradient is None."""

from defib.diagnosis.prognosis.family import Body, Family, Tail


class Still(Family):
    """Nothing moves: torch skips a parameter whose gradient is None, momentum and decay included."""

    kinds = ("",)

    def step(self, body: Body, lr: float) -> None:
        """Leaves everything as it is."""

    def tail(self, body: Body, lr: float) -> Tail:
        """One share that stays."""
        del lr
        return Tail.single(body.values)
