"""How much of a run was seen, and what looking cost."""

from dataclasses import dataclass

from defib.core.evidence import Unseen


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of the run was seen.

    Attributes:
        layers: Layers with parameters.
        observed: How many of them were observed.
        not_observed: The others, with the reason.
        steps: Optimiser steps counted.
        readings: Steps on which activations were read.
        samples: Samples seen in those readings.
    """

    layers: int
    observed: int
    not_observed: tuple[Unseen, ...]
    steps: int
    readings: int
    samples: int


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """What watching cost, measured while it happened.

    Attributes:
        ratio: Time spent in defib's own code / time between the first and the last step; None
            if too short to say.
        seconds: Time spent in defib's own code, in seconds.
        budget: What was allowed, as a ratio.
        period: Steps between readings at the end of the run; 0 if there were no readings.
    """

    ratio: float | None
    seconds: float
    budget: float
    period: float
