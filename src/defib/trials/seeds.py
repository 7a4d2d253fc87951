"""Other seeds for a script that sets its own: every seed that it sets is shifted by the same number.

Arms with the same shift see the same data order and the same first weights, as
far as the script's randomness comes from torch, Python and numpy. What the
script seeds by another way (a ``random_state`` of scikit-learn, a
``torch.Generator``) stays as it is, which keeps the data the same.
"""

import random
from collections.abc import Callable
from typing import Any

UNSEEDED = 0x5EED
"""Seed of what the script leaves unseeded: else two arms would differ by chance."""


def shift(by: int) -> None:
    """From now on, in this process, seeds that the script sets are larger by ``by``.

    Args:
        by: The shift; with 0 only what is never seeded is seeded.
    """
    import numpy as np
    import torch

    random.seed(UNSEEDED + by)
    np.random.seed(UNSEEDED + by)
    torch.manual_seed(UNSEEDED + by)
    if by == 0:
        return
    for owner, name in (
        (torch, "manual_seed"),
        (torch.random, "manual_seed"),
        (torch.cuda, "manual_seed"),
        (torch.cuda, "manual_seed_all"),
        (random, "seed"),
        (np.random, "seed"),
        (np.random, "default_rng"),
    ):
        setattr(owner, name, _shifted(getattr(owner, name), by))


def _shifted(seeding: Callable[..., Any], by: int) -> Callable[..., Any]:
    """The same function, with whole-number seeds moved; anything else passes unchanged."""

    def seed(*args: Any, **kwargs: Any) -> Any:
        def moved(value: Any) -> Any:
            whole = isinstance(value, int) and not isinstance(value, bool)
            return value + by if whole else value

        names = ("seed", "a")
        return seeding(
            *(moved(a) if i == 0 else a for i, a in enumerate(args)),
            **{k: moved(v) if k in names else v for k, v in kwargs.items()},
        )

    return seed
