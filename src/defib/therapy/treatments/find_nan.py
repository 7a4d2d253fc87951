"""Keep the numbers finite where they first were not.

What it does:
    Names the layer, step and operation at which NaN or infinity appeared first, and the usual way to keep
    it finite.

When it helps:
    The logarithm or root of 0, 0 / 0, an overflow, missing values in the data.

When it does not:
    The weights had grown for many steps before: then the rate is the cause (`scale-lr`).

Dose:
    None: the patch is worded from the evidence.

Safety:
    Shown, never done: only the source can be changed.

References:
    Goldberg 1991, What every computer scientist should know about floating-point arithmetic.
"""

from typing import ClassVar

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.run import RunView
from defib.therapy.advice import Advice
from defib.therapy.treatment import Indication

_CURES: tuple[tuple[str, str], ...] = (
    ("Log1p", "x.clamp(min=-1 + eps) before it, eps = 1e-6"),
    ("LogSoftmax", "its input is not finite already: look at the layer before"),
    (
        "Log",
        "x.clamp(min=eps).log() with eps = 1e-6, or F.log_softmax / F.logsigmoid in the place of log of one",
    ),
    ("Sqrt", "(x + eps).sqrt() with eps = 1e-12: the derivative of the root at 0 is infinite"),
    ("Rsqrt", "(x + eps).rsqrt() with eps = 1e-12"),
    (
        "Div",
        "x / (y + eps), or torch.where(y == 0, ...) on both arguments: the gradient of the branch that "
        "is not taken is NaN too",
    ),
    ("Exp", "exp(x.clamp(max=20)), or the logarithm of what you need"),
    ("Pow", "clamp the base away from 0: a power below 1 has an infinite derivative there"),
    ("LinalgVectorNorm", "torch.sqrt((x ** 2).sum() + 1e-12): the derivative of the norm at 0 is NaN"),
    ("Norm", "torch.sqrt((x ** 2).sum() + 1e-12): the derivative of the norm at 0 is NaN"),
    ("Acos", "x.clamp(-1 + 1e-6, 1 - 1e-6) before it"),
    ("Atan2", "keep both arguments away from 0 together"),
)


class FindNan(Advice):
    """The operation that made NaN."""

    slug = "find-nan"
    title = "Keep the numbers finite where they first were not"
    indications: ClassVar[tuple[Indication, ...]] = (
        Indication(rule="non-finite", strength=0.8, why="what is finite where it arises stays finite"),
        Indication(
            rule="update-lost",
            causes=(Cause.STEPS_SKIPPED,),
            strength=0.7,
            why="the scaler skips because of infinite gradients: with finite ones it steps",
        ),
    )

    def words(self, finding: Finding, run: RunView) -> str:
        events = sorted(run.of_kind("non-finite"), key=lambda e: e.step)
        operation = str(events[0].data.get("operation") or "") if events else ""
        where = finding.layer or (str(events[0].data.get("where") or "") if events else "")
        place = f" in {where}" if where else ""
        if finding.cause is Cause.NON_FINITE_DATA:
            return (
                "the data holds NaN or infinity: assert torch.isfinite(x).all() where a batch is made; "
                "fill or leave out "
                "missing values (x = torch.nan_to_num(x)), and look for a division by a deviation of 0"
            )
        cure = next((words for name, words in _CURES if operation.startswith(name)), "")
        if cure:
            name = operation.removesuffix("Backward0")
            return f"first at step {finding.since_step or 0}{place}, {name}: {cure}"
        suspects = _suspects(finding, run)
        if suspects:
            return (
                f"first at step {finding.since_step or 0}{place}; between the last layer and the loss, "
                + "; ".join(suspects)
            )
        return (
            f"first at step {finding.since_step or 0}{place}: look there for log(0), sqrt(0), 0 / 0 and "
            "exp of large "
            "numbers; torch.autograd.set_detect_anomaly(True) names the line; in float16 use autocast with a "
            "GradScaler, or bfloat16"
        )


_AT_THE_LOSS = {
    Cause.NON_FINITE_LOSS: ("Log1p", "Log", "Div", "Exp", "Pow", "Sqrt", "Rsqrt"),
    Cause.NON_FINITE_BACKWARD: (
        "Sqrt", "Rsqrt", "LinalgVectorNorm", "Norm", "Pow", "Log1p", "Log", "Div", "Acos", "Atan2",
    ),
}  # fmt: skip
"""Operations that can make NaN or infinity out of finite numbers at that stage, the likeliest first."""


def _suspects(finding: Finding, run: RunView) -> list[str]:
    """Operations between the last layer and the loss that can have done it, with the cure of each.

    Returns:
        At most two; none where it happened in the middle of the network.
    """
    last = run.objective.output_layer if run.objective is not None else ""
    if finding.layer and finding.layer != last:
        return []
    done = {name.removesuffix("Backward0") for name in run.loss_operations}
    prone = [name for name in _AT_THE_LOSS.get(finding.cause or Cause.NO_DATA, ()) if name in done]
    cures = dict(_CURES)
    return [f"{name}: {cures[name]}" for name in prone[:2]]
