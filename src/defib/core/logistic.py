"""The logistic function in float64, without overflow."""

import numpy as np

from defib.core.activation import Array


def expit(z: Array) -> Array:
    """1 / (1 + exp(-z)), elementwise; shape as ``z``."""
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)
