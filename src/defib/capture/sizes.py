"""Around a sampled step: sizes of gradients, weights and updates, and the step beside the next one."""

import torch

from defib.capture.arrivals import Arrivals
from defib.capture.clock import Clock
from defib.capture.norms import Start, StepNorms
from defib.capture.secant import Secants


class Sizes:
    """All of it for one watch.

    Args:
        arrivals: Takes the numbers.
    """

    def __init__(self, arrivals: Arrivals) -> None:
        self.secants = Secants()
        self._arrivals = arrivals
        self._norms: dict[int, tuple[int, StepNorms]] = {}
        self._starts: dict[int, Start] = {}

    def renew(self) -> None:
        """The network was changed on purpose: where the weights began means nothing any more."""
        self._starts.clear()

    def clear(self) -> None:
        """Let go of everything."""
        self._norms.clear()
        self._starts.clear()
        self.secants.clear()

    def forget(self, index: int) -> None:
        """An optimiser is gone."""
        self._norms.pop(index, None)
        self._starts.pop(index, None)
        self.secants.waiting.pop(index, None)

    def meet(self, clock: Clock) -> None:
        """Right before any step: the one before it may have been sampled."""
        met = self.secants.meet(clock.index, _trained(clock), clock.scale_on_gradients())
        if met is not None:
            self._arrivals.pair(clock.index, *met)

    def before(self, clock: Clock) -> None:
        """Right before a sampled step."""
        step = clock.vitals.step - 1
        named = [(clock.names[id(p)], p) for p in clock.parameters() if _dense(p) and id(p) in clock.names]
        if named:
            scale = clock.scale_on_gradients()
            start = self._starts.setdefault(clock.index, Start())
            self._norms[clock.index] = (step, StepNorms(named, scale, start))
            self.secants.begin(clock.index, step, _trained(clock), scale)

    def after(self, clock: Clock) -> None:
        """Right after it."""
        taken = self._norms.pop(clock.index, None)
        if taken is not None:
            step, norms = taken
            self._arrivals.norms(step, norms.names, norms.after())
            self._arrivals.displacement(clock.index, step, norms.displacement)
            self.secants.stepped(clock.index, _trained(clock))


def _trained(clock: Clock) -> list[torch.Tensor]:
    """The parameters that have a dense gradient now."""
    return [p for p in clock.parameters() if _dense(p)]


def _dense(parameter: torch.Tensor) -> bool:
    gradient = parameter.grad
    if gradient is None or gradient.is_meta:
        return False
    return gradient.layout is torch.strided and gradient.is_floating_point()
