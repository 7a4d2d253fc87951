"""What the model answers, measured against the best answer that ignores the input.

A model that has learned nothing from its inputs can still learn the constant
that costs least: the labels' frequencies, the targets' mean. Its loss is then
the labels' entropy or the targets' variance, and no smaller. So "has it beaten
the constant" tells learning from mere adjustment of an output bias, without a
threshold on the loss itself.

Letters: ``B`` batch, ``C`` classes.
"""

from dataclasses import dataclass

import numpy as np

from defib.core.finding import Evidence
from defib.core.run import Objective, RunView
from defib.diagnosis.measures.learning import Learning, learning

TIE = 0.02
"""A loss this close to the constant's has not beaten it."""
UNFINISHED = 0.2
"""A loss that has beaten the constant's by less than this share has only begun to."""
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
    """

    state: Learning
    constant_loss: float
    spread: float
    readings: int

    @property
    def tied(self) -> bool:
        """The loss ends no better than that of the best constant."""
        return bool(self.state.end >= (1 - TIE) * self.constant_loss)

    @property
    def unfinished(self) -> bool:
        """The loss has hardly beaten that of the best constant."""
        return bool(self.state.end >= (1 - UNFINISHED) * self.constant_loss)

    @property
    def same(self) -> bool:
        """The answer does not depend on the sample."""
        return bool(self.spread < SAME)

    @property
    def failing(self) -> bool:
        """The run does not learn, or what it learned does not use its inputs."""
        return self.state.stuck or self.tied

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
    return Answer(
        state=state,
        constant_loss=_constant(run, objective),
        spread=_spread(objective),
        readings=len(objective.steps),
    )


def _constant(run: RunView, objective: Objective) -> float:
    """Loss of the best constant over all samples; NaN where the loss is something else than its mean.

    A batch of B labels looks less varied than all of them: its entropy lies (C - 1) / 2B
    too low (Miller 1955).

    Returns:
        The loss.
    """
    if not run.loss_operations or run.loss_operations[0] != objective.operation or len(run.optimizers) > 1:
        return float("nan")  # other terms or factors are in the loss
    count = len(objective.steps)
    value = objective.last("constant_loss", count)
    if not objective.last("loss", count) <= _largest(objective, count):
        return float("nan")  # a sum, not a mean
    classes = objective.last("classes", count)
    samples = objective.last("samples", count)
    if not np.isfinite(samples):
        samples = max((live.batch for live in run.liveness.values()), default=np.nan)
    if np.isfinite(classes) and samples > 0:
        value += (classes - 1) / (2 * samples)
    return value


def _largest(objective: Objective, count: int) -> float:
    """A bound that the mean of a loss cannot exceed, given the range of what was compared."""
    low, high = objective.last("prediction_low", count), objective.last("prediction_high", count)
    if objective.operation.startswith("Nll"):
        return 1.01 * max(-low, 0.0)
    if objective.operation.startswith("Mse"):
        together = objective.last("prediction_rms", count) + objective.last("target_rms", count)
        return 1.01 * together**2
    if objective.operation == "BinaryCrossEntropyWithLogitsBackward0":
        return 1.01 * (max(abs(low), abs(high)) + float(np.log(2)))
    return float("inf") if np.isfinite(low) else float("nan")


def _spread(objective: Objective) -> float:
    """Spread of the answers: of regressions against the targets', else of the logits against 1."""
    regression = np.isfinite(objective.last("target_spread")) and not objective.operation.startswith("Binary")
    if regression:
        size = objective.last("target_spread")
        return objective.last("prediction_spread") / size if size > 0 else float("nan")
    return objective.last("output_spread")
