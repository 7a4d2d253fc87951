"""What an ordinary training is drawn from: its data, its network, its optimiser, its rate.

The ranges are those in which networks of this size usually learn.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from torch import nn


class Kind(StrEnum):
    """What is learned."""

    DIGITS = "digits"
    """Ten classes of 8 x 8 images, by fully connected layers."""
    IMAGES = "images"
    """The same by convolutions."""
    BINARY = "binary"
    """Inside or outside of a shell, by one logit."""
    REGRESSION = "regression"
    """A smooth function of eight inputs."""
    SEQUENCES = "sequences"
    """Which of four tokens a sequence holds, by a recurrent layer."""


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
}


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One training as it was drawn.

    Attributes:
        kind: What is learned.
        seed: Of data, weights and batches.
        depth: Hidden layers.
        width: Units (channels) of each.
        activation: Behind each.
        norm: "none", "batch" or "layer", in front of the activation.
        init: "default" (torch's own) or "matched" (He for one-sided activations, else Xavier).
        optimiser: "sgd", "momentum", "adam", "adamw" or "rmsprop".
        rate: Learning rate.
        batch: Samples a step.
        steps: Steps.
    """

    kind: Kind
    seed: int
    depth: int
    width: int
    activation: str
    norm: str
    init: str
    optimiser: str
    rate: float
    batch: int
    steps: int


RATES = {
    "sgd": (0.05, 0.3),
    "momentum": (0.01, 0.06),
    "adam": (1e-3, 5e-3),
    "adamw": (1e-3, 5e-3),
    "rmsprop": (5e-4, 2e-3),
}
"""Learning rates at which networks of this size usually learn: ends of a log-uniform range."""


def draw(kinds: Iterable[Kind], seed: int) -> Draw:
    """A training at random.

    Args:
        kinds: What may be learned.
        seed: Settles everything.

    Returns:
        The draw.
    """
    chance = np.random.default_rng([seed, 1])
    kind = list(kinds)[int(chance.integers(len(list(kinds))))]
    recurrent = kind is Kind.SEQUENCES
    optimisers = ["adam", "adamw", "rmsprop"] if recurrent else list(RATES)
    optimiser = str(chance.choice(optimisers))
    low, high = RATES[optimiser]
    return Draw(
        kind=kind,
        seed=seed,
        depth=1 if recurrent else int(chance.integers(2, 4 if kind is Kind.IMAGES else 5)),
        width=int(chance.choice([8, 12, 16] if kind is Kind.IMAGES else [24, 32, 48, 64])),
        activation=str(chance.choice(["relu", "relu", "leaky", "tanh", "gelu", "silu", "elu"])),
        norm=str(chance.choice(["none", "none", "batch", "layer"])),
        init=str(chance.choice(["default", "matched"])),
        optimiser=optimiser,
        rate=float(math.exp(chance.uniform(math.log(low), math.log(high)))),
        batch=int(chance.choice([32, 48, 64])),
        steps=int(chance.integers(200, 350)),
    )
