"""What `defib certify` proved about a model on a set of inputs: plain data, made by ``probe``.

z is a unit's pre-activation, the number that enters its activation.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from defib.core.evidence import Unseen


class UnitVerdict(StrEnum):
    """What is known about one unit."""

    NEVER_FIRES = "never-fires"
    """Proved: the activation's derivative is exactly 0 for every input of the domain."""
    ALWAYS_LINEAR = "always-linear"
    """Proved: the activation is affine over the whole domain (a ReLU that is always on)."""
    FIRES = "fires"
    """Seen: an input of the domain at which the derivative is not 0."""
    NEVER_SEEN = "never-seen"
    """No sample fired it, and nothing is proved; its firing rate has a bound."""
    UNDECIDABLE = "undecidable-in-this-dtype"
    """In exact arithmetic it never fires; rounding in the model's dtype could make it fire."""
    OPEN = "open"
    """Nothing proved, and no sample of the domain to look at."""


class Method(StrEnum):
    """What a proof rests on."""

    INTERVAL = "interval"
    """Interval arithmetic from the domain up to the unit."""
    LINEAR = "linear"
    """Linear bounds substituted back to the domain (CROWN, DeepPoly)."""
    EVERY_INPUT = "every-input"
    """Holds for every input, whatever the domain."""
    MILP = "milp"
    """Decided by a mixed-integer program; true to the solver's tolerance, not to the last bit."""
    SAMPLES = "samples"
    """A sample of the batch; it proves that the unit can fire."""


@dataclass(frozen=True, kw_only=True)
class UnitCertificate:
    """One unit.

    Attributes:
        unit: Index along the layer's unit axis.
        verdict: What is known.
        low: No input of the domain gives a smaller z, rounding included; -inf if unknown.
        high: No input gives a larger z.
        method: What the verdict rests on; None where nothing was shown.
        witness: Index of a sample in the batch that fires it; None if there is none.
        witness_input: A sample that fires it, flattened, where a solver found one; empty otherwise.
        rate_bound: Upper 95 % bound of its firing rate for NEVER_SEEN; NaN otherwise.
        margin: How far the bound is from the edge of the activation's flat part, in units of z, for
            NEVER_FIRES; NaN otherwise.
    """

    unit: int
    verdict: UnitVerdict
    low: float
    high: float
    method: Method | None = None
    witness: int | None = None
    witness_input: tuple[float, ...] = ()
    rate_bound: float = math.nan
    margin: float = math.nan


@dataclass(frozen=True, kw_only=True)
class LayerCertificate:
    """One activation and the units that enter it.

    Attributes:
        layer: Path of the module whose units are meant; "" if unknown.
        call: Which activation of that layer, from 0.
        activation: Its name ("relu").
        entries: Numbers z per unit and sample (positions of a channel).
        units: Every unit, in order.
        refined: Whether linear bounds were computed; False where interval bounds had to do.
        collapsible: Every unit is NEVER_FIRES or ALWAYS_LINEAR: on the domain the layer is affine.
    """

    layer: str
    call: int
    activation: str
    entries: int
    units: tuple[UnitCertificate, ...]
    refined: bool
    collapsible: bool

    def count(self, verdict: UnitVerdict) -> int:
        """Units with that verdict."""
        return sum(1 for u in self.units if u.verdict is verdict)


class ChannelVerdict(StrEnum):
    """A channel of a BatchNorm in training mode, behind which a ReLU stands."""

    ALIVE = "alive"
    """Fires on every batch, whatever it holds."""
    ALIVE_IF_VARIED = "alive-if-varied"
    """Fires on every batch in which the channel's variance is above a stated one."""
    DEAD = "dead"
    """Fires on no batch of that size."""
    DEPENDS = "depends"
    """Depends on the batch."""


@dataclass(frozen=True, kw_only=True)
class BatchNormCertificate:
    """A BatchNorm in training mode with a ReLU behind it, on batches with a given number of values.

    Attributes:
        layer: Path of the BatchNorm.
        values: Numbers N that each channel is normalised over (samples times positions).
        channels: Verdict of each channel.
        variance_above: For ALIVE_IF_VARIED the variance above which it is alive; NaN otherwise.
    """

    layer: str
    values: int
    channels: tuple[ChannelVerdict, ...]
    variance_above: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class PathCertificate:
    """Samples of the batch whose output does not depend on the input, to first order.

    Attributes:
        samples: Samples looked at.
        without_path: Indices of samples with no active path from input to output.
        cuts: For each of them the layer behind whose activation no active path is left.
        not_followed: Operations taken to pass everything, for want of a rule.
    """

    samples: int
    without_path: tuple[int, ...]
    cuts: tuple[str, ...]
    not_followed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RankCertificate:
    """The rank theorem at the output layer: full rank and no gradient there mean a global minimum.

    Letters: H the last layer's inputs, one row a sample; D the loss's gradient by its outputs.

    Attributes:
        applies: Whether the theorem can be applied.
        reason: Why it cannot; "" if it can.
        certified: Whether the point is certified a global minimum, to the stated tolerance.
        layer: Path of the output layer.
        samples: Rows n of H.
        rank: Rank of [H, 1].
        smallest: Smallest of its n singular values; 0 if there are fewer than n columns.
        largest: Largest one.
        tolerance: Singular values up to this count as 0.
        gradient: Frobenius norm of [H, 1]^T D, the output layer's gradient.
        residual_bound: Upper bound of |D|: gradient / smallest; inf if that is 0.
        residual: Frobenius norm of D, measured.
    """

    applies: bool
    reason: str = ""
    certified: bool = False
    layer: str = ""
    samples: int = 0
    rank: int = 0
    smallest: float = math.nan
    largest: float = math.nan
    tolerance: float = math.nan
    gradient: float = math.nan
    residual_bound: float = math.nan
    residual: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The whole answer of ``defib certify``.

    Attributes:
        facts: Class of the model, dtype, samples, how many of them lie outside of the domain.
        domain: The set of inputs, in words.
        layers: Activations in order of data flow.
        batch_norms: Of the BatchNorms with a ReLU behind them.
        paths: Of the batch; None if there is no batch.
        rank: None if it was not asked for (no target).
        constant_output: Proved: the output does not depend on the input, anywhere in the domain.
        collapsible: Layers that are affine on the domain: path, and "#1" for the second activation of it.
        unsupported: Operations without bounds, by node, and what could not be refined, with the reason.
        seconds: Time taken.
        schema: Name and version of this structure.
    """

    facts: dict[str, Any]
    domain: str
    layers: tuple[LayerCertificate, ...]
    batch_norms: tuple[BatchNormCertificate, ...]
    paths: PathCertificate | None
    rank: RankCertificate | None
    constant_output: bool
    collapsible: tuple[str, ...]
    unsupported: tuple[Unseen, ...]
    seconds: float
    schema: str = field(default="defib.certificate/1")
