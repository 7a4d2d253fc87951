"""What defib knows about an activation function: when it is off, flat or saturated."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Options = Mapping[str, float]
"""Constants of an autograd node: its numeric ``_saved_`` attributes without that prefix."""

DEFAULTS: Options = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where the derivative is exactly zero, or negligible, along the tensor that autograd saved.

    An entry x is outside if ``x <= low`` or ``x >= high``.

    Attributes:
        low: Upper end of the lower region; -inf if there is none.
        high: Lower end of the upper region; +inf if there is none.
    """

    low: float = -np.inf
    high: float = np.inf


class Activation(ABC):
    """One activation function f. A subclass is one file in ``core/activations``.

    Attributes:
        name: Slug ("relu").
        operations: Autograd node names that compute its backward.
        saves: Which tensor those nodes keep: "self" (the input z), "result" (the
            output h), or one per operation where they differ.
        bounded: Both sides of f are bounded, so that large |z| saturates it.
        can_die: f has a half-line on which its derivative is exactly 0, so that
            a unit can be off for every input.
        backward_gain: 1 / sqrt(E[f'(z)^2]) for z ~ N(0, 1): the weight gain
            that keeps gradients level (He et al. 2015; derivation by quadrature);
            NaN where f is not elementwise.
    """

    name: ClassVar[str]
    operations: ClassVar[tuple[str, ...]]
    saves: ClassVar[str | Mapping[str, str]]
    bounded: ClassVar[bool] = False
    can_die: ClassVar[bool] = False
    backward_gain: ClassVar[float]

    @abstractmethod
    def forward(self, z: Array, options: Options = DEFAULTS) -> Array:
        """f(z), elementwise (softmax: along the last axis), float64; shape as ``z``."""

    @abstractmethod
    def derivative(self, z: Array, options: Options = DEFAULTS) -> Array:
        """f'(z) as PyTorch defines it, kinks included, elementwise, float64; shape as ``z``."""

    def applies(self, options: Options) -> bool:
        """Whether a node with these constants is this activation (ELU and SELU share a node)."""
        del options
        return True

    def is_bounded(self, options: Options) -> bool:
        """``bounded``, given the node's constants (a clamp may have one bound only)."""
        del options
        return self.bounded

    def may_die(self, options: Options) -> bool:
        """``can_die``, given the node's constants (a leaky ReLU may have slope 0)."""
        del options
        return self.can_die

    def saved(self, operation: str) -> str:
        """Which tensor the node named ``operation`` keeps: "self" or "result"."""
        return self.saves if isinstance(self.saves, str) else self.saves[operation]

    def flat(self, saved: str, dtype: str, options: Options) -> Limits:
        """Where autograd's derivative is exactly 0.

        Args:
            saved: "self" or "result": the axis on which the limits lie.
            dtype: "float16", "bfloat16", "float32" or "float64".
            options: The node's constants ("max_val": 6.0).

        Returns:
            The limits, on the grid of ``dtype``: compare the tensor itself, without rounding it.
        """
        del saved, dtype, options
        return Limits()

    def saturated(self, saved: str, dtype: str, options: Options) -> Limits:
        """Where the derivative is below 1 % of its largest value; arguments as in :meth:`flat`."""
        return self.flat(saved, dtype, options)
