"""The seed question: the output layer's gradients are zero; are the hidden layers' zero too?

For z = W h + b with error signals delta_i the gradients are sum delta_i h_i^T and sum delta_i. Only
for one sample, a bias, one position, and no way around the layer is the second the signal itself.

Letters: ``n`` samples, ``h_i`` features, ``delta_i`` gradient at the output layer's output.
"""

from defib.core.triage import OutputCase, OutputLayer, TensorGradient, TensorState
from defib.probe.census import Head

_ZERO = {TensorState.ZERO, TensorState.CANCELLED, TensorState.LOST}
_WHY = {
    OutputCase.ONE_SAMPLE: "one sample with a bias: the bias's gradient is the error signal itself",
    OutputCase.BATCH: "several samples, whose error signals can cancel in a sum",
    OutputCase.WEIGHTS_ONLY: "no bias learns here, and zero features hide an error signal",
    OutputCase.SHARED: "the weights are used at several positions of a sample, whose signals can cancel",
    OutputCase.OTHER_WAYS: "hidden layers reach the loss around this layer",
}


def output_case(head: Head, samples: int) -> OutputCase:
    """Which case holds, the one that breaks the implication most simply first."""
    if not head.gates_all:
        return OutputCase.OTHER_WAYS
    if head.positions > 1:
        return OutputCase.SHARED
    if not head.has_bias:
        return OutputCase.WEIGHTS_ONLY
    return OutputCase.ONE_SAMPLE if samples == 1 else OutputCase.BATCH


def output_layer(head: Head | None, tensors: tuple[TensorGradient, ...], samples: int) -> OutputLayer | None:
    """The answer for one network; None if the output layer is unknown or learns nothing.

    Beside the case of one sample, full rank implies the zeros too: if [h_i, 1] are linearly
    independent, sum delta_i [h_i, 1]^T = 0 only for delta_i = 0.

    Returns:
        Case, what was measured, and the answer in words.
    """
    if head is None:
        return None
    own = [t for t in tensors if t.name in head.parameters and t.state is not TensorState.FROZEN]
    hidden = [
        t
        for t in tensors
        if t.name not in head.parameters and t.state not in {TensorState.FROZEN, TensorState.UNREACHED}
    ]
    if not own or not hidden:
        return None
    case = output_case(head, samples)
    full = head.rank == samples and head.has_bias and case is OutputCase.BATCH
    is_zero = all(_is_zero(t) for t in own)
    hidden_zero = all(_is_zero(t) for t in hidden)
    implied = case is OutputCase.ONE_SAMPLE or full
    return OutputLayer(
        layer=head.path,
        case=case,
        is_zero=is_zero,
        hidden_zero=hidden_zero,
        implied=implied,
        positions=head.positions,
        rank=head.rank,
        sentence=_sentence(case, is_zero, hidden, implied, full),
    )


def _is_zero(tensor: TensorGradient) -> bool:
    return tensor.state in _ZERO or tensor.norm == 0


def _sentence(
    case: OutputCase, is_zero: bool, hidden: list[TensorGradient], implied: bool, full: bool
) -> str:
    alive = [t for t in hidden if not _is_zero(t)]
    inside = (
        f"{len(alive)} of {len(hidden)} hidden tensors have one"
        if alive
        else "no hidden tensor has one either"
    )
    why = "the features of the samples are linearly independent" if full else _WHY[case]
    start = (
        "The output layer's gradients are zero, which"
        if is_zero
        else ("The output layer's gradients are not zero; if they were, it")
    )
    verb = "implies" if is_zero else "would imply"
    what = "the same of the hidden layers" if implied else "nothing for the hidden layers"
    return f"{start} {verb} {what} ({why}). Measured: {inside}."
