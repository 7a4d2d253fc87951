"""Data for experiments: small, offline, the same on every machine.

Letters: ``N`` samples, ``D`` inputs, ``C`` classes.
"""

import random
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from defib.core.errors import EnvironmentProblem


@dataclass(frozen=True, kw_only=True)
class Split:
    """Labelled data in two parts.

    Attributes:
        x: Training inputs, shape (N, D), float32.
        y: Training labels, shape (N,), int64.
        x_test: Test inputs.
        y_test: Test labels.
    """

    x: torch.Tensor
    y: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


def digits(*, centred: bool = True, test: int = 400, seed: int = 0) -> Split:
    """The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn brings (D 64, C 10).

    Args:
        centred: Every pixel minus its mean over the training part, all over one deviation; else the
            pixels in [0, 1].
        test: Samples kept for the test part.
        seed: Of the division into parts.

    Returns:
        The parts. Without scikit-learn an ``EnvironmentProblem`` names the extra.
    """
    pixels, labels = _load()
    order = np.random.default_rng(seed).permutation(len(pixels))
    x = torch.from_numpy(pixels[order].astype(np.float32))
    y = torch.from_numpy(labels[order].astype(np.int64))
    if centred:
        middle = x[test:].mean(0)
        x = (x - middle) / (x[test:] - middle).square().mean().sqrt()
    return Split(x=x[test:], y=y[test:], x_test=x[:test], y_test=y[:test])


@cache
def _load() -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
    # Importing it imports rich, which draws a number when it is first imported.
    state = random.getstate()
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise EnvironmentProblem(
            "this experiment needs scikit-learn for its digits: pip install 'defib[lab]'"
        ) from None
    finally:
        random.setstate(state)
    pixels, labels = load_digits(return_X_y=True)
    return pixels / 16.0, labels


def xor() -> tuple[torch.Tensor, torch.Tensor]:
    """The four points of exclusive-or: inputs in {-1, 1}, shape (4, 2); targets in {0, 1}, shape (4, 1)."""
    x = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    return x, (x[:, :1] * x[:, 1:] < 0).float()
