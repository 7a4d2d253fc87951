"""Treatments that only the user's source can carry out: a patch is shown, nothing is ever edited."""

from abc import abstractmethod

from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.surgery import Surgery
from defib.therapy.treatment import Treatment


class Advice(Treatment):
    """Says which line of code to change, and how, from the evidence."""

    safety = Safety.SOURCE

    @abstractmethod
    def words(self, finding: Finding, run: RunView) -> str:
        """What to change, naming layer and code; "" where the evidence does not say."""

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        return {} if self.words(finding, run) else None

    def patch(self, finding: Finding, run: RunView, dose: Dose) -> str:
        del dose
        return self.words(finding, run)

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        del surgery, dose
        raise Refused(f"{self.slug}: only the source can be changed; defib prescribe RUN shows how")


def output_of(run: RunView, finding: Finding) -> str:
    """The layer that gives the answer, in words."""
    path = finding.layer or (run.objective.output_layer if run.objective is not None else "")
    return f"the output of {path}" if path else "the model's output"


def typical(run: RunView, column: str) -> float:
    """A number of what the loss compared; NaN if it was never read."""
    objective = run.objective
    return float("nan") if objective is None else objective.last(column, len(objective.steps))


def loss_function(run: RunView) -> str:
    """The loss as it is written in code, as far as its autograd node tells; "" if it does not."""
    names = {
        "MseLoss": "F.mse_loss",
        "NllLoss": "F.nll_loss",
        "BinaryCrossEntropyWithLogits": "F.binary_cross_entropy_with_logits",
        "BinaryCrossEntropy": "F.binary_cross_entropy",
        "SmoothL1Loss": "F.smooth_l1_loss",
        "HuberLoss": "F.huber_loss",
    }
    operation = run.objective.operation if run.objective is not None else ""
    if operation.startswith("NllLoss") and "LogSoftmaxBackward0" in run.loss_operations:
        return "F.cross_entropy"
    return next((code for name, code in names.items() if operation.startswith(name)), "")
