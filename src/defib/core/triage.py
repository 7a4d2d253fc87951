"""What `defib triage` found out about a gradient that is small: plain data, made by ``probe``.

Letters: ``n`` samples, ``g_i`` gradient of one sample's loss, ``H`` Hessian of the mean loss.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from defib.core.evidence import Evidence, Unseen
from defib.core.finding import Confidence


class Standstill(StrEnum):
    """Why the loss does not fall, or that it can."""

    DESCENDING = "descending"
    """The gradient is not small: steps along it lower the loss."""
    INTERPOLATED = "interpolated"
    """Finished: every single sample is at its own optimum."""
    ZERO_LOSS = "zero-loss"
    """The loss is exactly zero."""
    MINIMUM = "minimum"
    """The samples pull against each other and no direction near by lowers their mean loss."""
    STRICT_SADDLE = "strict-saddle"
    """The gradient is zero and a direction of negative curvature leads down."""
    DEGENERATE_SADDLE = "degenerate-saddle"
    """No negative curvature, and yet a way down: of higher order, or across a kink."""
    PLATEAU = "plateau"
    """Saturated activations pass next to no gradient to the layers below them."""
    DEAD_NETWORK = "dead-network"
    """A whole layer is off for every sample: the output does not depend on the input."""
    BATCH_CANCELLATION = "batch-cancellation"
    """The samples' gradients cancel in one layer or one batch, while others still have a gradient."""
    UNDERFLOW = "underflow"
    """Gradients exist in float64 and are rounded to zero in the model's own format."""
    NOISE_FLOOR = "noise-floor"
    """The gradient is what chance leaves of these samples; no common direction can be told."""
    GRADIENT_CUT = "gradient-cut"
    """No gradient reaches the parameters: frozen, detached, or behind an operation without derivative."""
    NON_FINITE = "non-finite"
    """The loss or its gradient is NaN or infinite."""
    UNDECIDED = "undecided"
    """What would decide could not be measured; the reasons are told."""


class TensorState(StrEnum):
    """What the gradient of one parameter tensor does."""

    ALIVE = "alive"
    """It has a gradient."""
    CANCELLED = "cancelled"
    """Single samples have a gradient here, and their sum is under 1/100 of what chance leaves."""
    ZERO = "zero"
    """Exactly zero for every single sample."""
    LOST = "lost"
    """Not zero in float64, and rounded to zero in the model's own format."""
    UNREACHED = "unreached"
    """No way leads from the loss to it."""
    FROZEN = "frozen"
    """It does not require a gradient."""


class OutputCase(StrEnum):
    """Whether zero gradients of the output layer imply zero gradients of the layers before it."""

    ONE_SAMPLE = "one-sample-with-bias"
    """They do: the bias's gradient is the one error signal there is."""
    BATCH = "batch"
    """They do not: the signals of several samples can cancel."""
    WEIGHTS_ONLY = "weights-only"
    """They do not: without a bias, zero features hide a non-zero signal."""
    SHARED = "shared-weights"
    """They do not, even for one sample: the layer is used at several positions, whose signals cancel."""
    OTHER_WAYS = "other-ways"
    """They do not: hidden layers reach the loss around the output layer."""


@dataclass(frozen=True, kw_only=True)
class TensorGradient:
    """The gradient of one parameter tensor.

    Attributes:
        name: The parameter.
        size: Its entries.
        state: What its gradient does.
        norm: Norm of the mean gradient |sum g_i| / n; NaN if there is none.
        sample_norm: Mean norm of the single samples' gradients; NaN if not measured.
        cancellation: |sum g_i| / sum |g_i|, between 0 (all cancels) and 1 (all agree); about
            1 / sqrt(n) by chance; NaN if not measured.
        excess: |sum g_i|^2 / sum |g_i|^2: 1 on average under random signs; NaN if not measured.
    """

    name: str
    size: int
    state: TensorState
    norm: float = math.nan
    sample_norm: float = math.nan
    cancellation: float = math.nan
    excess: float = math.nan


@dataclass(frozen=True, kw_only=True)
class NoiseTest:
    """Whether the single samples' gradients have a common direction.

    Attributes:
        samples: n.
        mean_square: T = sum_{i != j} g_i g_j / (n (n - 1)), unbiased for |E g|^2.
        z: T over its standard deviation under E g = 0.
        above: Share of random sign patterns that agree at least as well (noise-weighted |sum|^2):
            small for a common direction.
        below: Share that cancel at least as well: small where the parameters have cancelled these
            very samples.
        excess: |sum g_i|^2 / sum |g_i|^2.
        cancellation: |sum g_i| / sum |g_i|.
        method: How the single samples' gradients were made.
    """

    samples: int
    mean_square: float
    z: float
    above: float
    below: float
    excess: float
    cancellation: float
    method: str


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """Extreme eigenvalues of the Hessian of the mean loss, by Lanczos.

    Each comes with a bound r: an eigenvalue lies within r of it (|H u - lambda u| = r). Below
    ``floor`` lies no eigenvalue with probability ``probability`` (Kuczynski and Wozniakowski 1992,
    over the random start).

    Attributes:
        lambda_min: Smallest Ritz value; a Rayleigh quotient, so negative means descent.
        lambda_min_bound: Its residual.
        lambda_max: Largest Ritz value.
        lambda_max_bound: Its residual.
        floor: Lower bound of the whole spectrum.
        probability: With which ``floor`` holds; 1 if the whole space was spanned.
        steps: Lanczos steps.
        products: Hessian-vector products, those for the null directions included.
        method: "double backward", "double backward, plain attention" or "finite differences".
        precision: Number format.
        parameters: Parameters that require a gradient.
        active: Those that curvature was looked for in.
        null_units: Units whose weights and bias have exactly zero rows (dead units).
        null_inputs: Columns of weights that are exactly zero (dead inputs, dead units' outputs).
        null_biases: Biases with exactly zero rows, or zero to rounding (before a normalisation).
    """

    lambda_min: float
    lambda_min_bound: float
    lambda_max: float
    lambda_max_bound: float
    floor: float
    probability: float
    steps: int
    products: int
    method: str
    precision: str
    parameters: int
    active: int
    null_units: int = 0
    null_inputs: int = 0
    null_biases: int = 0


@dataclass(frozen=True, kw_only=True)
class Share:
    """How much of a direction lies in one parameter tensor: its share of the squared norm."""

    name: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Escape:
    """A way down that was followed: evaluations of the loss, not a prediction.

    Attributes:
        curvature: v H v along the unit direction; 0 or NaN for a way of higher order.
        predicted: Decrease that the quadratic model gives at that distance.
        decrease: Decrease of the mean loss that was seen.
        relative: The same over the loss.
        distance: How far along the unit direction.
        order: Slope of log(decrease) over log(distance) near the start: 2 for a strict saddle.
        shares: Where the direction points, largest share first.
    """

    curvature: float
    predicted: float
    decrease: float
    relative: float
    distance: float
    order: float
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OutputLayer:
    """The seed question: the output layer's gradients are zero; are the hidden ones?

    Attributes:
        layer: Path of the layer nearest to the loss.
        case: Which of the cases holds.
        is_zero: Whether the output layer's gradients are zero (or cancelled).
        hidden_zero: Whether the gradients of all layers before it are.
        implied: Whether the first implies the second here.
        positions: Uses of the weights per sample: positions, tokens or time steps.
        rank: Rank of [features, 1] over the samples; -1 if not measured.
        sentence: The answer in words.
    """

    layer: str
    case: OutputCase
    is_zero: bool
    hidden_zero: bool
    implied: bool
    positions: int
    rank: int
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Triage:
    """The whole answer of ``defib triage``.

    Attributes:
        facts: Model, parameters, samples, batches, mode, precision.
        verdict: Why the loss does not fall.
        confidence: What the verdict rests on.
        sentence: The verdict in words.
        evidence: The numbers that decided, in the order in which they were asked.
        loss: Mean loss.
        tensors: Gradient of each parameter tensor.
        output: The layer-by-layer answer; None if the output layer was not found.
        noise: The noise test; None if single samples' gradients could not be had.
        curvature: Extreme eigenvalues; None if not measured.
        escape: A way down; None if none was found or needed.
        unseen: What could not be measured, and why.
        schema: Name and version of this structure.
    """

    facts: dict[str, Any]
    verdict: Standstill
    confidence: Confidence
    sentence: str
    evidence: tuple[Evidence, ...]
    loss: float
    tensors: tuple[TensorGradient, ...]
    output: OutputLayer | None = None
    noise: NoiseTest | None = None
    curvature: Curvature | None = None
    escape: Escape | None = None
    unseen: tuple[Unseen, ...] = ()
    schema: str = field(default="defib.triage/1")
