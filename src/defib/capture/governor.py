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

    Attributes:
        spent: Seconds that defib took so far.
        readings: Steps read so far.
        period: Steps between the last two of them; 0 before.
    """

    def __init__(self, budget: float, every: int | None = None) -> None:
        self.budget = budget
        self.every = every
        self.spent = 0.0
        self.readings = 0
        self._credit = ALLOWANCE
        self._cost = 0.0
        self._next_early = 0
        self._boosts = 0
        self._last_due = 0
        self.period = 0

    def step(self, seconds: float, cost: float) -> None:
        """A step took ``seconds``; the every-step part of defib cost ``cost`` of them.

        That part comes out of the same budget, but leaves a quarter of it to readings.
        """
        self.spent += cost
        earned = self.budget * seconds
        self._credit += max(earned - cost, earned / 4)
        self._credit = min(self._credit, max(ALLOWANCE, 4 * self._cost))

    def charge_reading(self, seconds: float) -> None:
        """A reading cost this much in all."""
        self.spent += seconds
        self.readings += 1
        self._cost = seconds if self.readings <= 2 else 0.7 * self._cost + 0.3 * seconds
        if self.readings <= FIRST_READINGS:
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
        if self.readings < FIRST_READINGS:
            return True
        if step < self._next_early or self._credit < self._cost:
            return False
        self._next_early = math.ceil(step * GROWTH) if step < 1000 else 0
        return True
