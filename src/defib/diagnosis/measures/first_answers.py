"""What the very first answers cost, and how long the run took to make up for them.

Whoever knows nothing does best to say so: the first loss of a classifier with small first answers is that of
the best constant, or near it. Answers that are large from the start are wrong with confidence, and the first
part of the run goes into taking them back.
"""

from dataclasses import dataclass

import numpy as np

from defib.core.activation_index import activation_named
from defib.core.evidence import Evidence
from defib.core.inference import block_medians
from defib.core.run import RunView
from defib.core.site import Signal
from defib.core.wiring import Wiring
from defib.diagnosis.measures.answer import Answer

_PROBABILITIES = ("NllLoss", "BinaryCrossEntropy")
_BLOCKS = 40
MOSTLY = 0.5
"""A layer is saturated from the start if this share of its first activations is."""
_LARGE = 10.0
"""RMS of the inputs from which on `unscaled-data` speaks."""


@dataclass(frozen=True, kw_only=True)
class FirstAnswers:
    """The start of a classification.

    Attributes:
        ratio: First loss over that of the best constant.
        spent: Steps until the loss was below the best constant's and stayed there; all, if it never did.
        steps: Steps of the run.
    """

    ratio: float
    spent: int
    steps: int

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The numbers."""
        return (
            Evidence(name="first loss over the best constant's", value=self.ratio),
            Evidence(name="steps until it was below the constant's", value=self.spent, unit="steps"),
        )


def first_answers(run: RunView, state: Answer) -> FirstAnswers | None:
    """How a classification began; None for other losses, or if its first step was not seen."""
    objective, loss, level = run.objective, run.loss, state.constant_loss
    if objective is None or not objective.operation.startswith(_PROBABILITIES) or not level > 0:
        return None
    if len(loss) < _BLOCKS or loss.steps[0] != 0 or not np.isfinite(loss.values).all():
        return None
    smooth = block_medians(np.asarray(loss.values, dtype=np.float64), _BLOCKS)
    above = np.flatnonzero(smooth >= level)
    spent = 0 if not len(above) else round((int(above[-1]) + 1) / len(smooth) * len(loss))
    return FirstAnswers(ratio=float(loss.values[0]) / level, spent=spent, steps=len(loss))


def flattest(run: RunView) -> tuple[Wiring, float] | None:
    """The hidden layer most of whose first activations lie where the derivative is below 1 %, with the share.

    Of several most of which do, the first.

    Returns:
        None if there is none with a bounded activation.
    """
    found: list[tuple[Wiring, float]] = []
    for wiring in run.wirings:
        readings = run.at(wiring.site, Signal.ACTIVATION)
        activation = activation_named(wiring.activation)
        if activation is None or wiring.output or not wiring.units or not readings:
            continue
        if activation.is_bounded(wiring.options) and not activation.may_die(wiring.options):
            tally = readings[0].tally
            found.append((wiring, float(tally.saturated.sum() / max(tally.count.sum(), 1))))
    return max(found, key=lambda pair: (min(pair[1], MOSTLY), -pair[0].order), default=None)


def large_inputs(run: RunView) -> bool:
    """Whether the data itself is large, which explains large first answers."""
    if run.objective is None:
        return False
    mean, spread = run.objective.last("input_mean"), run.objective.last("input_std")
    return bool(np.hypot(mean, spread) >= _LARGE)
