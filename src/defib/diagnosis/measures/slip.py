"""A learning rate that slipped once, and what it did to the units right then."""

import numpy as np

from defib.core.run import RunView

_MOMENT = 10
"""Steps within which what a jump of the rate does to the units shows; its momentum is spent by then."""


def slip_that_killed(run: RunView, times: float) -> bool:
    """Whether the rate jumped in mid-run and at least half of a layer fell silent for good right then."""
    for optimizer in run.optimizers[:1]:
        rate = optimizer.lr.values
        jumps = np.flatnonzero(rate[1:] > times * rate[:-1]) + 1
        for jump in jumps[rate[jumps - 1] > 0]:
            step = int(optimizer.lr.steps[jump])
            for live in run.liveness.values():
                fell = (live.last_alive >= step - 1) & (live.last_alive <= step + _MOMENT)
                if len(fell) and (fell & (live.silent_steps > 2 * _MOMENT)).mean() >= 0.5:
                    return True
    return False
