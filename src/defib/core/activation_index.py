"""Finds the activation that belongs to a name or to an autograd node."""

from functools import cache

from defib.core.activation import Activation, Options
from defib.core.catalogue import entries

PACKAGE = "defib.core.activations"
GROUP = "defib.activations"


@cache
def activations() -> tuple[Activation, ...]:
    """Every known activation, ours first, in order of name."""
    return tuple(cls() for cls in entries(Activation, PACKAGE, GROUP))  # type: ignore[type-abstract]


@cache
def activation_named(name: str) -> Activation | None:
    """The activation with this slug; None if there is none."""
    return next((a for a in activations() if a.name == name), None)


def activation_of(operation: str, options: Options) -> Activation | None:
    """The activation whose backward an autograd node with these constants computes; None if unknown."""
    return next((a for a in _by_operation().get(operation, ()) if a.applies(options)), None)


@cache
def _by_operation() -> dict[str, tuple[Activation, ...]]:
    """For each node name, the activations that share it."""
    names = {operation for a in activations() for operation in a.operations}
    return {name: tuple(a for a in activations() if name in a.operations) for name in names}
