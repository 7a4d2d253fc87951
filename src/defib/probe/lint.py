"""What is wrong with the way predictions and targets meet, read off one call of the loss.

Letters: ``N`` samples, ``C`` classes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.probe.calls import Call, Calls

_REGRESSION = {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"}
_BINARY = {"binary_cross_entropy", "binary_cross_entropy_with_logits"}
_PAIRS = _REGRESSION | _BINARY | {"subtraction", "soft_margin_loss", "poisson_nll_loss"}
_CLASSES = {"cross_entropy", "nll_loss", "multi_margin_loss"}
_SHAPES = ("View", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Permute", "TBackward",
           "ToCopy", "Clone", "UnsafeView", "Alias", "Select", "Slice")  # fmt: skip
_RANGES = {"SigmoidBackward": (0.0, 1.0), "TanhBackward": (-1.0, 1.0), "SoftmaxBackward": (0.0, 1.0)}


def loss_findings(calls: Calls, target: object) -> Iterator[Finding]:
    """Findings from every call of a loss function, and from subtractions that involve the target."""
    for call in calls.losses:
        prediction, wanted = call.argument(0, "input"), call.argument(1, "target")
        if not isinstance(prediction, Tensor) or not isinstance(wanted, Tensor):
            continue
        if call.name == "subtraction" and not _same(prediction, target) and not _same(wanted, target):
            continue
        if _same(prediction, target):
            prediction, wanted = wanted, prediction
        if call.name in _PAIRS:
            yield from _pair(call, prediction, wanted)
        elif call.name in _CLASSES:
            yield from _classes(call, prediction, wanted)
    for call in calls.softmaxes:
        yield from _softmax(call)


def _same(tensor: Tensor, target: object) -> bool:
    """Whether it is the target, or a view of it."""
    if not isinstance(target, Tensor) or not target.numel() or not tensor.numel():
        return False
    return tensor is target or tensor.untyped_storage().data_ptr() == target.untyped_storage().data_ptr()


def _pair(call: Call, prediction: Tensor, target: Tensor) -> Iterator[Finding]:
    """Losses that compare entry by entry."""
    if prediction.shape != target.shape and target.numel() > 1 and prediction.numel() > 1:
        stretched = _broadcast(prediction, target)
        what = "are stretched over each other" if stretched else "do not fit"
        yield _finding(
            "label-or-data", Fault.LABEL_OR_DATA_BUG, Cause.SHAPES_BROADCAST, call, Severity.ERROR,
            f"{call.name} compares predictions of shape {_shape(prediction)} with targets of shape "
            f"{_shape(target)}, which {what}.",
            Evidence(name="prediction's shape", value=str(_shape(prediction)), unit=""),
            Evidence(name="target's shape", value=str(_shape(target)), unit=""),
        )  # fmt: skip
        return
    if call.name in _REGRESSION and not target.is_floating_point() and not target.requires_grad:
        yield _finding(
            "label-or-data", Fault.LABEL_OR_DATA_BUG, Cause.INTEGER_TARGETS, call, Severity.INFO,
            f"{call.name} fits {_dtype(target)} targets as quantities; if they are classes, "
            "cross_entropy is meant.",
            Evidence(name="target's dtype", value=_dtype(target), unit=""),
        )  # fmt: skip
    if call.name.startswith("binary_cross_entropy"):
        yield from _binary(call, prediction, target)
    elif call.name in _REGRESSION:
        yield from _out_of_range(call, prediction, target)


def _binary(call: Call, prediction: Tensor, target: Tensor) -> Iterator[Finding]:
    low, high = _ends(target)
    if not target.is_floating_point():
        yield _finding(
            "label-or-data", Fault.LABEL_OR_DATA_BUG, Cause.INTEGER_TARGETS, call, Severity.ERROR,
            f"{call.name} takes floating-point targets and is given {_dtype(target)}.",
            Evidence(name="target's dtype", value=_dtype(target), unit=""),
        )  # fmt: skip
    if low < 0 or high > 1:
        yield _finding(
            "label-or-data", Fault.LABEL_OR_DATA_BUG, Cause.LABELS_OUTSIDE, call, Severity.ERROR,
            f"{call.name} is given targets from {low:.4g} to {high:.4g}; outside 0 to 1 it has no minimum.",
            Evidence(name="smallest target", value=low), Evidence(name="largest target", value=high),
        )  # fmt: skip
    if call.name.endswith("logits"):
        yield from _doubled(call, prediction, ("SigmoidBackward", "SoftmaxBackward"))
        yield from _one_sided(call, prediction)
        return
    low, high = _ends(prediction)
    if low < 0 or high > 1:
        yield _finding(
            "output-activation", Fault.WRONG_LOSS_OR_OUTPUT_ACTIVATION, Cause.NOT_LOG_PROBABILITIES, call,
            Severity.ERROR,
            f"{call.name} takes probabilities and is given numbers from {low:.4g} to {high:.4g}; "
            "binary_cross_entropy_with_logits takes scores.",
            Evidence(name="smallest prediction", value=low), Evidence(name="largest prediction", value=high),
        )  # fmt: skip


def _out_of_range(call: Call, prediction: Tensor, target: Tensor) -> Iterator[Finding]:
    """Targets that the last activation cannot reach; a hundredth beyond is as good as reached."""
    behind = _behind(prediction)
    limits = next((r for name, r in _RANGES.items() if behind.startswith(name)), None)
    if limits is None:
        return
    low, high = _ends(target)
    if low < limits[0] - 0.01 or high > limits[1] + 0.01:
        yield _finding(
            "output-activation", Fault.WRONG_LOSS_OR_OUTPUT_ACTIVATION, Cause.TARGETS_OUT_OF_RANGE, call,
            Severity.ERROR if high - low > 2 * (limits[1] - limits[0]) else Severity.WARNING,
            f"Targets go from {low:.4g} to {high:.4g}, and {_plain(behind)} at the output stays between "
            f"{limits[0]:g} and {limits[1]:g}.",
            Evidence(name="smallest target", value=low), Evidence(name="largest target", value=high),
        )  # fmt: skip


def _classes(call: Call, prediction: Tensor, target: Tensor) -> Iterator[Finding]:
    """Losses over classes: scores (N, C, ...), indices (N, ...) or shares like the scores."""
    classes = prediction.shape[1 if prediction.ndim > 1 else 0]
    if target.is_floating_point():
        if target.shape != prediction.shape:
            yield _finding(
                "label-or-data", Fault.LABEL_OR_DATA_BUG, Cause.INTEGER_TARGETS, call, Severity.ERROR,
                f"{call.name} takes class numbers as int64 and is given {_dtype(target)} of shape "
                f"{_shape(target)}.",
                Evidence(name="target's dtype", value=_dtype(target), unit=""),
            )  # fmt: skip
    else:
        yield from _labels(call, target, classes)
    if classes == 1:
        yield _finding(
            "output-activation", Fault.WRONG_LOSS_OR_OUTPUT_ACTIVATION, Cause.SOFTMAX_OVER_ONE, call,
            Severity.ERROR,
            f"{call.name} over a single output is 0 whatever the output; every gradient is zero.",
            Evidence(name="outputs", value=1, unit="units"),
        )  # fmt: skip
    if call.name == "cross_entropy":
        yield from _doubled(call, prediction, ("SigmoidBackward", "SoftmaxBackward"))
        yield from _one_sided(call, prediction)
    elif call.name == "nll_loss" and _ends(prediction)[1] > 1e-4:
        yield _finding(
            "output-activation", Fault.WRONG_LOSS_OR_OUTPUT_ACTIVATION, Cause.NOT_LOG_PROBABILITIES, call,
            Severity.ERROR,
            f"nll_loss takes logarithms of probabilities and is given numbers up to "
            f"{_ends(prediction)[1]:.4g}; cross_entropy takes scores.",
            Evidence(name="largest prediction", value=_ends(prediction)[1]),
        )  # fmt: skip


def _labels(call: Call, target: Tensor, classes: int) -> Iterator[Finding]:
    """Class numbers outside the outputs, or all of them ignored."""
    ignored = call.argument(3, "ignore_index", -100)
    kept = target[target != ignored] if isinstance(ignored, int) else target
    if target.numel() and not kept.numel():
        yield _finding(
            "label-or-data", Fault.LABEL_OR_DATA_BUG, Cause.LABELS_IGNORED, call, Severity.ERROR,
            f"Every label is {ignored}, which {call.name} ignores.",
            Evidence(name="ignored labels", value=1.0),
        )  # fmt: skip
        return
    low, high = _ends(kept)
    if low < 0 or high >= classes:
        yield _finding(
            "label-or-data", Fault.LABEL_OR_DATA_BUG, Cause.LABELS_OUTSIDE, call, Severity.ERROR,
            f"Labels go from {low:.0f} to {high:.0f}, and the model has {classes} outputs "
            f"(classes 0 to {classes - 1}).",
            Evidence(name="smallest label", value=low), Evidence(name="largest label", value=high),
            Evidence(name="outputs", value=classes, unit="units"),
        )  # fmt: skip


def _softmax(call: Call) -> Iterator[Finding]:
    """A softmax over an axis of length 1; attention over a single key has more than two axes."""
    tensor, axis = call.argument(0, "input"), call.argument(1, "dim")
    if not isinstance(tensor, Tensor) or tensor.ndim > 2 or not tensor.ndim or not tensor.requires_grad:
        return
    if tensor.shape[axis if isinstance(axis, int) else -1] == 1:
        yield _finding(
            "output-activation", Fault.WRONG_LOSS_OR_OUTPUT_ACTIVATION, Cause.SOFTMAX_OVER_ONE, call,
            Severity.ERROR,
            f"{call.name} over an axis of length 1: the result is always the same, every gradient zero.",
            Evidence(name="shape", value=str(_shape(tensor)), unit=""),
        )  # fmt: skip


def _doubled(call: Call, prediction: Tensor, names: tuple[str, ...]) -> Iterator[Finding]:
    behind = _behind(prediction)
    if behind.startswith(names):
        yield _finding(
            "output-activation", Fault.WRONG_LOSS_OR_OUTPUT_ACTIVATION, Cause.DOUBLE_ACTIVATION, call,
            Severity.WARNING,
            f"{call.name} applies its own activation to what already went through {_plain(behind)}.",
            Evidence(name="in front of the loss", value=behind, unit=""),
        )  # fmt: skip


def _one_sided(call: Call, prediction: Tensor) -> Iterator[Finding]:
    behind = _behind(prediction)
    if behind.startswith(("ReluBackward", "ThresholdBackward")):
        yield _finding(
            "output-activation", Fault.WRONG_LOSS_OR_OUTPUT_ACTIVATION, Cause.ONE_SIDED_OUTPUT, call,
            Severity.WARNING,
            f"The scores that enter {call.name} went through a ReLU: a score below 0 gets no gradient.",
            Evidence(name="in front of the loss", value=behind, unit=""),
        )  # fmt: skip


def _behind(tensor: Tensor) -> str:
    """Name of the operation that made a tensor, seen through changes of shape; "" for a leaf."""
    node = tensor.grad_fn
    while node is not None and node.name().startswith(_SHAPES) and node.next_functions:
        node = node.next_functions[0][0]
    return "" if node is None else str(node.name())


def _plain(operation: str) -> str:
    """The plain name: "sigmoid" for "SigmoidBackward0"."""
    return operation.partition("Backward")[0].lower()


def _broadcast(a: Tensor, b: Tensor) -> bool:
    try:
        torch.broadcast_shapes(a.shape, b.shape)  # type: ignore[no-untyped-call]
    except RuntimeError:
        return False
    return True


def _ends(tensor: Tensor) -> tuple[float, float]:
    """Smallest and largest entry; (0, 0) of nothing."""
    if not tensor.numel():
        return 0.0, 0.0
    low, high = tensor.detach().aminmax()
    return float(low), float(high)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _finding(
    rule: str, fault: Fault, cause: Cause, call: Call, severity: Severity, message: str, *evidence: Evidence
) -> Finding:
    place = (Evidence(name="called at", value=call.where, unit=""),) if call.where else ()
    return Finding(
        rule=rule,
        fault=fault,
        severity=severity,
        confidence=Confidence.EXACT,
        layer="",
        cause=cause,
        message=message,
        evidence=(*evidence, *place),
    )
