"""What the model answers, measured against the best answer that ignores the input.

Together with the spread of the answers over the samples it tells a model that
ignores its input from one that uses it to no avail.
"""

from dataclasses import dataclass

import numpy as np

from defib.core.evidence import Evidence
from defib.core.objective import Objective
from defib.core.run import RunView
from defib.diagnosis.measures.constant import TIE, constant_level
from defib.diagnosis.measures.learning import Learning, learning

UNFINISHED = 0.2
"""A loss that has beaten the constant's by less than this share has only begun to."""
ROUNDING = 1e-4
"""A spread below this is what float32 makes of no spread at all, over a few layers."""
_FEWEST_READINGS = 3
SAME = 0.01
"""Answers whose spread is below this share of what tells answers apart are one answer."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How the model's answer compares with the best constant.

    Attributes:
        state: What the loss says.
        constant_loss: What the best constant costs; NaN if unknown or not comparable.
        spread: How far answers to different samples differ, over what tells them apart; NaN if unknown.
        readings: Steps on which it was read.
        constant_error: Standard error of ``constant_loss``; 0 if unknown.
        widest: Largest spread on any reading; NaN if unknown.
    """

    state: Learning
    constant_loss: float
    spread: float
    readings: int
    constant_error: float = 0.0
    widest: float = float("nan")

    @property
    def tied(self) -> bool:
        """The loss ends no better than that of the best constant, and that is certain enough.

        A gain of twice :data:`TIE` has to be excluded: small batches of noisy targets leave room for
        one that the median does not show.
        """
        level = (1 - TIE) * self.constant_loss
        give = 2 * float(np.hypot(self.state.error, self.constant_error))
        sure = not self.state.mean - give < (1 - 2 * TIE) * self.constant_loss
        return bool(self.state.end >= level and self.state.mean >= level and sure)

    @property
    def unfinished(self) -> bool:
        """The loss has hardly beaten that of the best constant."""
        return bool(self.state.end >= (1 - UNFINISHED) * self.constant_loss)

    @property
    def far_off(self) -> bool:
        """After a hundred steps and more the loss is still twice that of the best constant, or worse."""
        return bool(self.state.steps >= 100 and self.state.end >= 2 * self.constant_loss)

    @property
    def late(self) -> bool:
        """After a hundred steps and more the loss has hardly beaten that of the best constant."""
        return self.state.steps >= 100 and self.unfinished

    @property
    def same(self) -> bool:
        """The answer does not depend on the sample."""
        return bool(self.spread < SAME)

    @property
    def never_apart(self) -> bool:
        """On no reading of the run did the answer depend on the sample by more than rounding."""
        return bool(self.readings >= _FEWEST_READINGS and self.widest < ROUNDING)

    @property
    def failing(self) -> bool:
        """It is certain enough that the run does not learn."""
        return self.state.stuck

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The numbers behind it."""
        found = list(self.state.evidence)
        if np.isfinite(self.constant_loss):
            found.append(Evidence(name="loss of the best constant", value=self.constant_loss, unit="loss"))
        if np.isfinite(self.spread):
            found.append(Evidence(name="spread of the answers over the samples", value=self.spread))
        return tuple(found)


def answer(run: RunView) -> Answer:
    """The model's answer, from the objective's last readings.

    Returns:
        The comparison; NaN for what was not read.
    """
    state = learning(run)
    objective = run.objective
    if objective is None:
        return Answer(state=state, constant_loss=np.nan, spread=np.nan, readings=0)
    level = constant_level(run)
    return Answer(
        state=state,
        constant_loss=level.value,
        spread=_spread(objective),
        readings=len(objective.steps),
        constant_error=float(np.nan_to_num(level.error)),
        widest=_widest(objective),
    )


def _widest(objective: Objective) -> float:
    """The largest spread on any reading, measured as :func:`_spread` does."""
    regression = np.isfinite(objective.last("target_spread")) and not objective.operation.startswith("Binary")
    spreads = objective.columns["prediction_spread" if regression else "output_spread"]
    spreads = spreads[np.isfinite(spreads)]
    size = objective.last("target_spread") if regression else 1.0
    return float(spreads.max()) / size if len(spreads) and size > 0 else float("nan")


def _spread(objective: Objective) -> float:
    """Spread of the answers: of regressions against the targets', else of the logits against 1."""
    regression = np.isfinite(objective.last("target_spread")) and not objective.operation.startswith("Binary")
    if regression:
        size = objective.last("target_spread")
        return objective.last("prediction_spread") / size if size > 0 else float("nan")
    return objective.last("output_spread")
