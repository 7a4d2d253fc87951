"""Where a signal is read: a module path, the call of that module, and which signal."""

from dataclasses import dataclass
from enum import StrEnum


class Signal(StrEnum):
    """What is read at a site; z is the pre-activation, h = f(z) the activation, L the loss."""

    PREACTIVATION = "preactivation"
    ACTIVATION = "activation"
    PREACTIVATION_GRAD = "preactivation_grad"
    """dL/dz: what is left behind the activation's derivative."""
    ACTIVATION_GRAD = "activation_grad"
    """dL/dh: what arrives from the layers above."""


@dataclass(frozen=True, kw_only=True, order=True)
class Site:
    """One use of a layer in the forward pass.

    Attributes:
        path: Module path of the layer whose units are meant, as the user knows
            it ("encoder.0.fc1"); "" for the root module itself.
        call: Which use of that layer within one forward pass, from 0.
    """

    path: str
    call: int = 0

    def __str__(self) -> str:
        name = self.path or "(root)"
        return f"{name}#{self.call}" if self.call else name
