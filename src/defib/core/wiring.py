"""The structure of the network: its layers, and what feeds which activation."""

from dataclasses import dataclass, field
from enum import StrEnum

from defib.core.site import Site


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A module that owns parameters.

    Attributes:
        path: Module path as the user knows it.
        kind: Class name ("Linear", "Conv2d", "BatchNorm2d", "LSTM").
        units: Length of its unit axis; 0 if it has none (a plain scale, say).
        parameters: Full names of its own parameters.
        optimizer: Index of the optimiser that owns them; -1 if none does.
        frozen: True if none of them requires a gradient.
        dtypes: Format of each of them ("float32", "bfloat16"), in their order; empty in records of before.
    """

    path: str
    kind: str
    units: int
    parameters: tuple[str, ...]
    optimizer: int = -1
    frozen: bool = False
    dtypes: tuple[str, ...] = ()


class Crossing(StrEnum):
    """What stands between two activations and is no single product with weights."""

    NORMALISATION = "normalisation"
    WAYS = "ways"
    """Several ways meet in a sum or are put side by side: a skip, a branch."""
    PRODUCT = "product"
    """Two signals are multiplied: a gate, scores."""
    ATTENTION = "attention"
    RECURRENCE = "recurrence"
    """All steps of time, in one kernel."""
    COMPILED = "compiled region"
    CHECKPOINT = "checkpoint"


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """One use of an activation function in the forward pass, and what it hangs on.

    Attributes:
        site: The layer whose units it switches (the nearest producer with
            parameters: in conv -> batch norm -> ReLU that is the batch norm).
        activation: Name in ``core.activations`` ("relu", "gelu").
        operation: The autograd node's name ("ReluBackward0").
        modules: Module paths from the first producer to the activation's own
            module; without the last where the activation is a function call.
        inputs: Sites of the activations that feed the producer; empty at the
            model's input.
        skips: Sites that reach the activation's input around the producer.
        units: Length of the unit axis; 0 if it could not be told.
        order: Position in data flow, from 0.
        normalised: A normalisation layer stands between producer and activation,
            or is the producer.
        options: Constants of the activation ("negative_slope": 0.01).
        output: Nothing with parameters comes after it: it shapes the model's
            output, or is part of the loss.
        dtype: Floating-point format of the activation and its gradient ("float16"); "" if unknown.
        crosses: What the ways that lead here from ``inputs`` and ``skips`` cross, other than weights: words
            of :class:`Crossing`; a record of before has none.
    """

    site: Site
    activation: str
    operation: str
    units: int
    order: int
    modules: tuple[str, ...] = ()
    inputs: tuple[Site, ...] = ()
    skips: tuple[Site, ...] = ()
    normalised: bool = False
    options: dict[str, float] = field(default_factory=dict)
    output: bool = False
    dtype: str = ""
    crosses: tuple[str, ...] = ()
