"""What is left of the units of a layer whose gradient is exactly zero: all that foretells their future.

Letters: ``U`` units, ``D`` entries of one parameter of one unit, ``N`` samples, ``K`` future steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating[Any]]
"""Numbers in the format that they are stored in; bfloat16 comes as float32."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One parameter of the units (their rows of the weight, or their biases) and what its optimiser keeps.

    Attributes:
        name: "weight" or "bias". The bias is the part whose width D is 1 and that has this name; it
            multiplies a constant 1. Every other part multiplies its own columns of the features,
            in the order of the parts.
        values: Shape (U, D).
        kind: The optimiser's class name ("SGD", "AdamW"); "" if no optimiser owns it.
        settings: The optimiser's settings for its group, by torch's names ("lr", "momentum",
            "dampening", "nesterov", "weight_decay", "betas", "eps", "amsgrad", "maximize",
            "decoupled_weight_decay", "alpha", "centered", "momentum_decay", "lr_decay", ...).
        state: The optimiser's state by torch's names ("momentum_buffer", "exp_avg", "exp_avg_sq",
            "max_exp_avg_sq", "square_avg", "grad_avg", "sum", "exp_inf", "step", "mu_product",
            ...): arrays of shape (U, D), or plain numbers. A missing entry (or None) means that
            the optimiser has none yet.
        dtype: Format of the parameter: "float64", "float32", "bfloat16" or "float16".
        gradient_is_none: The parameter's ``.grad`` is None, so that torch skips it altogether;
            neither momentum nor decay acts on it then.
        lrs: Learning rates of the next steps, the next one first, shape (K,); after the last of
            them it stays. None: ``settings["lr"]`` stays.
    """

    name: str
    values: Values
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    gradient_is_none: bool = False
    lrs: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class Remains:
    """Units of one layer that receive no gradient, with the state that acts on them nevertheless.

    The units' pre-activation for sample x is the sum over the parts of values times features (bias:
    times 1). A unit fires where it is above ``threshold``.

    Attributes:
        path: The layer.
        units: Their indices along the layer's unit axis, shape (U,).
        step: Optimiser steps taken when this was kept: the state is what the forward pass of step
            number ``step`` (from 0) sees.
        parts: The parameters.
        features: What feeds the layer, one row a sample (a convolution: one row a position),
            without a column for the bias, shape (N, D of all parts but the bias).
        first_layer: The features are data: they do not move. Otherwise layers below can move them.
        samples_seen: On how many samples the units were seen silent, at least N.
        threshold: Pre-activation above which a unit fires; 0 for ReLU.
        drift: Mean over the samples of the Euclidean norm by which the features move in one step;
            None if unknown, or for a first layer.
    """

    path: str
    units: NDArray[np.int64]
    step: int
    parts: tuple[Part, ...]
    features: Values
    first_layer: bool
    samples_seen: int
    threshold: float = 0.0
    drift: float | None = None
