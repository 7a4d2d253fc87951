"""Let the gradient reach the parameters, and the optimiser own them.

What it does:
    Names the layers that get no gradient, and what on the way stops it.

When it helps:
    A layer is not used, is detached, stands below round, sign or argmax, is frozen, or is not the
    optimiser's.

When it does not:
    It is meant to be frozen.

Dose:
    None: the patch is worded from the evidence.

Safety:
    Shown, never done: only the source can be changed.

References:
    PyTorch documentation, Autograd mechanics.
"""

from typing import ClassVar

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.run import RunView
from defib.therapy.advice import Advice
from defib.therapy.treatment import Indication


class TrainParameters(Advice):
    """A way from the loss to every parameter."""

    slug = "train-parameters"
    title = "Let the gradient reach the parameters, and the optimiser own them"
    indications: ClassVar[tuple[Indication, ...]] = (
        Indication(
            rule="zero-gradient",
            causes=(
                Cause.CUT,
                Cause.UNREACHED,
                Cause.NOT_OWNED,
                Cause.GRADIENTS_DROPPED,
                Cause.BLOCKED,
                Cause.DEAD_LAYER,
            ),
            strength=0.9,
            why="what gets a gradient can be trained",
        ),
    )

    def words(self, finding: Finding, run: RunView) -> str:
        del run
        where = finding.layer or "the model"
        if finding.cause is Cause.CUT:
            names = [str(e.value) for e in finding.evidence if e.name == "operation"]
            stops = " and ".join(n.removesuffix("Backward0").lower() for n in names) or "an operation"
            return (
                f"between {where} and the loss, {stops}() has a derivative of 0 everywhere: leave it out "
                "in training, or "
                "pass the gradient by hand: y = x + (f(x) - x).detach()"
            )
        if finding.cause is Cause.NOT_OWNED:
            return (
                "make the optimizer after the model is complete and on its device, and anew with each new "
                "model: optimizer = torch.optim.Adam(model.parameters())"
            )
        if finding.cause is Cause.GRADIENTS_DROPPED:
            return (
                "call optimizer.zero_grad() before loss.backward() or after optimizer.step(), never between "
                "the two"
            )
        if finding.cause is Cause.UNREACHED:
            return (
                f"no way leads from the loss to {where}: call it in forward; look for .detach(), .item(), "
                ".numpy(), "
                "torch.tensor(output), argmax and torch.no_grad() behind it; make sure that requires_grad "
                "is True and "
                "that its parameters are in the optimizer: torch.optim.Adam(model.parameters())"
            )
        return (
            f"the gradient at {where} is exactly 0: look at what stands between it and the loss (an output "
            "that has "
            "saturated, weights of 0, units that are all off); defib check FILE:BUILD shows the path"
        )
