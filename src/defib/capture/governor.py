"""Keeps the cost of readings inside the budget, by measuring it."""

import math

ALLOWANCE = 0.1
"""Seconds that may be spent at the start of a run, so that a short one is seen at all."""

FIRST_READINGS = 3
"""Readings that are always allowed on top, however dear one is."""

GROWTH = 1.15
"""Early readings: each comes at GROWTH times the step of the one before."""


class Governor:
    """A token bucket: every step earns ``budget`` x its duration, every reading spends what it cost.

    Args:
        budget: Share of the run's time that defib may take (0.01 for 1 %).
        every: Read on every N-th step, whatever it costs; None to let the budget decide.
        allowance: Seconds that may be spent at the start of a run.
        free: Readings that are always allowed on top.

    Attributes:
        spent: Seconds that defib took so far.
        readings: Steps read so far.
        period: Steps between the last two of them; 0 before.
    """

    def __init__(
        self,
        budget: float,
        every: int | None = None,
        *,
        allowance: float = ALLOWANCE,
        free: int = FIRST_READINGS,
    ) -> None:
        self.budget = budget
        self.every = every
        self.spent = 0.0
        self.readings = 0
        self._allowance, self._free = allowance, free
        self._credit = allowance
        self._debt = 0.0
        self._cost = 0.0
        self._next_early = 0
        self._boosts = 0
        self._last_due = 0
        self.period = 0

    def step(self, seconds: float, cost: float) -> None:
        """A step took ``seconds``; all but readings cost ``cost``: liveness, flushes, the record's thread.

        That comes out of the same budget, but leaves a quarter of it to readings. A flush costs at once
        what many steps earn, so what one step cannot pay is paid by those after it.
        """
        self.spent += cost
        earned = self.budget * seconds
        left = earned - cost - self._debt
        self._debt = min(max(earned / 4 - left, 0.0), ALLOWANCE)
        self._credit += max(left, earned / 4)
        self._credit = min(self._credit, max(self._allowance, 4 * self._cost))

    def charge_reading(self, seconds: float) -> None:
        """A reading cost this much in all."""
        self.spent += seconds
        self.readings += 1
        self._cost = seconds if self.readings <= 2 else 0.7 * self._cost + 0.3 * seconds
        if self.readings <= self._free:
            return
        self._credit -= seconds

    def boost(self) -> None:
        """Something happened: the next step is worth a look (at most 50 times a run)."""
        if self._boosts < 50:
            self._boosts += 1
            self._credit = max(self._credit, self._cost)
            self._next_early = 0

    def due(self, step: int) -> bool:
        """Whether step ``step`` should be read."""
        due = self._due(step)
        if due:
            self.period, self._last_due = step - self._last_due, step
        return due

    def _due(self, step: int) -> bool:
        if self.every is not None:
            return step % self.every == 0
        if self.readings < self._free:
            return True
        if step < self._next_early or self._credit < self._cost:
            return False
        self._next_early = math.ceil(step * GROWTH) if step < 1000 else 0
        return True
