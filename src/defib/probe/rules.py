"""The pages of what only ``defib check`` can find, by slug; the other findings use the run's rules."""

from dataclasses import dataclass

from defib.core.cause import Cause


@dataclass(frozen=True, kw_only=True)
class Page:
    """What ``defib explain`` prints.

    Attributes:
        text: Markdown with the headings of a rule's page.
        causes: The causes that such a finding can name.
    """

    text: str
    causes: tuple[Cause, ...]


_PATH = """Parameters that no gradient can reach, however long the training lasts.

## What it measures

One backward pass at the start: parameters for which autograd finds no way from the loss, and
parameters behind an operation whose derivative is zero wherever it exists (sign, round, floor,
ceil, trunc). The calls that cut the way (`detach`, `argmax`, `.item()`, a cast to integers) are
listed with file and line.

## Why it hurts

These parameters keep the values that they were drawn with. The rest of the network trains on what
they happen to give.

## Causes

- `graph-cut`: there is no way from the loss to the parameters.
- `zero-derivative`: there is a way, through an operation whose derivative is identically zero.

## False alarms

A cut that leaves every parameter a gradient (a target network, a straight-through estimator, a
running statistic) is not reported. Parameters with requires_grad off are frozen on purpose. A
single module of several that one batch does not use is information.
"""

_UNTRUE = """A hand-written backward is not the derivative of its forward.

## What it measures

Every `torch.autograd.Function` of the user's own is compared, on its inputs of this batch, with
central differences in float64 along 256 random directions, at a point moved off every kink. The
cosine says how far both gradients point the same way. A surrogate lowers the loss to first order
if and only if it is positive.

## Why it hurts

Below 0 the loss is led uphill; near 0 the gradient is noise.

## Causes

- `untrue-derivative`: the backward has another direction, sign or scale than the forward's derivative.

## False alarms

A surrogate on purpose (straight-through, surrogate spikes) has a cosine clearly above 0 and is
information; so is a gradient reversal, which is the identity forwards and exactly negative backwards.

## References

- Bengio, Leonard, Courville: Estimating or Propagating Gradients Through Stochastic Neurons (2013).
"""

PAGES = {
    "gradient-path": Page(text=_PATH, causes=(Cause.GRAPH_CUT, Cause.ZERO_DERIVATIVE)),
    "untrue-backward": Page(text=_UNTRUE, causes=(Cause.UNTRUE_DERIVATIVE,)),
}
"""By slug."""
