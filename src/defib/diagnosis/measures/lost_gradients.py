"""Where gradients are lost that an optimiser never got: on their way, or after they had arrived.

Backward is seen to run through the layer that makes the model's output. If the optimiser owns that layer and
still finds no gradient at its step, somebody threw it away in between; if no optimiser owns it, the
optimiser was made for other parameters.
"""

from defib.core.cause import Cause
from defib.core.run import RunView
from defib.core.site import Signal

WORDS = {
    Cause.UNREACHED: "no path leads to them from the loss (a loss made anew from its number, a detached one)",
    Cause.NOT_OWNED: "the layers that the loss is made of belong to no optimiser; it was made for others, "
    "such as those of a model that was replaced since",
    Cause.GRADIENTS_DROPPED: "backward computes them, and they are gone before the step "
    "(zero_grad() between backward and step)",
}
"""Why none of the parameters that an optimiser steps ever had a gradient."""

_PLAIN = ("Linear", "Conv1d", "Conv2d", "Conv3d")
_LATE = 3
"""Readings that are looked at: by now the weights' gradients were zero on all of them."""


def why_none(run: RunView) -> Cause:
    """Why an optimiser never found a gradient of anything: one of ``WORDS``."""
    layer = run.layer(run.objective.output_layer) if run.objective is not None else None
    if layer is None:
        return Cause.UNREACHED
    return Cause.GRADIENTS_DROPPED if layer.optimizer >= 0 else Cause.NOT_OWNED


def arrives_and_is_zero(run: RunView, paths: set[str]) -> bool:
    """Whether a gradient reaches the units of a plain layer, whose weights' gradients are exactly zero.

    A plain layer's gradient is the sum over the samples of the unit's gradient times its input, and a bias's
    that of the unit's gradient: neither is exactly zero by itself. Of a module of somebody's own (two
    factors, each of which is zero) nothing of the kind is known.

    Args:
        run: The run.
        paths: Layers whose parameters' gradients are zero on every late reading.

    Returns:
        False, too, where no gradient of units was read.
    """
    for wiring in run.wirings:
        layer = run.layer(wiring.site.path)
        if layer is not None and layer.path in paths and layer.kind in _PLAIN:
            gradients, inputs = (
                [r.tally.rms for r in run.at(wiring.site, signal)[-_LATE:]]
                for signal in (Signal.PREACTIVATION_GRAD, Signal.PREACTIVATION)
            )
            if max(gradients, default=0.0) > 0 and max(inputs, default=0.0) > 0:
                return True
    return False
