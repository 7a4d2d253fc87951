"""Where a change of the input can still be felt: active paths, sample by sample.

A number is reached if some path of non-zero weights and activations with non-zero derivative leads to
it from the input. What is not reached has derivative 0 by the input. Where an operation has no rule
it is taken to pass everything on, so that "no path" is never said wrongly.

Letters: ``B`` samples at a time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from defib.probe.certificates import meeting
from defib.probe.certificates.bends import Activated, Pooled
from defib.probe.certificates.linear import Copying, Difference, Product
from defib.probe.certificates.norms import Embedded, Normalised, Softmaxed
from defib.probe.certificates.steps import Step

NEEDS_VALUES = (Pooled, meeting.Multiplied, meeting.MatrixProduct)
"""Steps whose rule looks at the numbers, not only at what is reached."""


def reached(
    step: Step, live: Sequence[Tensor], values: Sequence[Tensor], shape: Sequence[int]
) -> Tensor | None:
    """Which numbers of a result are reached.

    Args:
        step: The operation.
        live: Which numbers of each parent are reached: 0 or 1, float64.
        values: What the parents hold.
        shape: Of the result.

    Returns:
        0 or 1, float64, of that shape; None if there is no rule.
    """
    found = _reached(step, live, values)
    return None if found is None else (found > 0).double().expand(tuple(shape))


def everything(live: Sequence[Tensor], shape: Sequence[int], samples: int) -> Tensor:
    """All numbers of every sample of which anything at all is reached."""
    felt = torch.zeros(samples)
    for each in live:
        own = (
            each.reshape(samples, -1).amax(1) if each.shape[:1] == (samples,) else each.amax().expand(samples)
        )
        felt = torch.maximum(felt, own)
    if tuple(shape[:1]) != (samples,):
        return felt.amax().expand(tuple(shape)).double()
    return felt.reshape(samples, *[1] * (len(shape) - 1)).expand(tuple(shape)).double()


def passes(step: Activated, z: Tensor) -> Tensor:
    """Where an activation's derivative is not 0; shape as z."""
    off = torch.zeros_like(z, dtype=torch.bool)
    for low, high in step.off():
        off |= (z >= low) & (z <= high)
    return ~off


def _reached(step: Step, live: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor | None:
    if isinstance(step, Activated):
        return live[0] * passes(step, values[0])
    if isinstance(step, Copying):
        found: Tensor = step.function(*live) - step.function(*(torch.zeros_like(x) for x in live))
        return found
    if isinstance(step, Difference):
        return live[0] + live[-1]
    if isinstance(step, Product):
        product: Tensor = step.function(live[0], (step.weight != 0).double())
        return product
    if isinstance(step, Pooled):
        return _pooled(step, live[0], values[0])
    if isinstance(step, Normalised):
        return step.mixed(live[0])
    if isinstance(step, Softmaxed):
        return live[0].amax(step.dim, keepdim=True).expand_as(live[0])
    if isinstance(step, meeting.Multiplied):
        a, b = live[0] * (values[-1] != 0), live[-1] * (values[0] != 0)
        return a + b
    if isinstance(step, meeting.MatrixProduct):
        return live[0] @ (values[1] != 0).double() + (values[0] != 0).double() @ live[1]
    if isinstance(step, Embedded):
        return torch.ones(())  # the choice of a row is the input
    return None


def _pooled(step: Pooled, live: Tensor, values: Tensor) -> Tensor:
    """Only the largest entry of a window passes a change on."""
    _, places = functional.max_pool2d(
        values.double(), step.size, step.stride, step.padding, step.dilation, return_indices=True
    )
    found = live.flatten(-2).gather(-1, places.flatten(-2))
    return found.reshape(places.shape)
