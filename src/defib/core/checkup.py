"""What `defib check` found out before any training: plain data, made by ``probe``.

A decade is a factor of ten. Decades are log10 of a ratio of Euclidean norms of the
gradient over a whole batch; the norm of a sample, RMS over samples, has the same ratio.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Self

from defib.core.finding import Finding, Unseen, Verdict


@dataclass(frozen=True, kw_only=True)
class Decades:
    """A gain of the gradient, split by what caused it. Parts add up to the total exactly.

    Attributes:
        derivative: Activation derivatives (gradient behind / before the activation).
        weights: Multiplication by weights.
        norms: Normalisation layers.
        skips: Blocks with a way around them: what skip and branch give together.
        other: Pooling, dropout, changes of shape, softmax.
        unattributed: Parallel paths that cannot be told apart (attention, recurrence).
    """

    derivative: float = 0.0
    weights: float = 0.0
    norms: float = 0.0
    skips: float = 0.0
    other: float = 0.0
    unattributed: float = 0.0

    @property
    def total(self) -> float:
        """The sum of all parts."""
        return math.fsum(getattr(self, f.name) for f in fields(self))

    def __add__(self, more: Self) -> Self:
        """Part by part."""
        return type(self)(**{f.name: getattr(self, f.name) + getattr(more, f.name) for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Block:
    """A residual block y = x + F(x), whose gradient is |g_x|^2 = skip + cross + branch exactly.

    Attributes:
        skip: Share that comes around the branch, in units of |g_y|^2.
        cross: Twice the inner product of both, in the same units; negative where they cancel.
        branch: Share that comes through the branch.
        inside: What happens within the branch; None if it has several paths itself.
    """

    skip: float
    cross: float
    branch: float
    inside: Decades | None


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One row of the gain ledger, from one station of the gradient's way to the next one towards the input.

    Attributes:
        layer: Path of the layer whose output the stretch ends at; "" if unknown.
        activation: Name of the activation that the stretch ends with; "" if it ends otherwise.
        gain: What happened to the gradient's norm, in decades.
        norm: Norm of the gradient at its end.
        block: The block that it crosses; None if there is none.
        unknown: What could not be attributed, in words; "" if all was.
        uses: How often the pass uses a weight that the stretch crosses; more than 2 is a recurrence,
            whose stretches are lags of time.
    """

    layer: str
    activation: str
    gain: Decades
    norm: float
    block: Block | None = None
    unknown: str = ""
    uses: int = 1


@dataclass(frozen=True, kw_only=True)
class GainLedger:
    """Where the gradient gains and loses on its way from the last layer's output to the first layer's.

    Attributes:
        stretches: From the loss towards the input.
        start: Norm of the gradient at the last layer's output.
        end: Norm at the first layer's output; ``end / start`` is 10 to the power of ``gain.total``.
        start_layer: Path of the layer at whose output it begins.
        end_layer: Path of the layer at whose output it ends.
    """

    stretches: tuple[Stretch, ...]
    start: float
    end: float
    start_layer: str
    end_layer: str

    @property
    def gain(self) -> Decades:
        """All stretches together."""
        return sum((s.gain for s in self.stretches), Decades())

    @property
    def per_layer(self) -> Decades:
        """The mean of a part over the stretches that have it; activations and weights count apart.

        The derivative's part is a mean over activations, the weights' part a mean over stretches
        that cross weights; the other parts are means over all stretches.
        """
        whole = self.gain
        activations = sum(1 for s in self.stretches if s.activation)
        weighted = sum(1 for s in self.stretches if s.gain.weights)
        count = max(len(self.stretches), 1)
        return Decades(
            derivative=whole.derivative / max(activations, 1),
            weights=whole.weights / max(weighted, 1),
            norms=whole.norms / count,
            skips=whole.skips / count,
            other=whole.other / count,
            unattributed=whole.unattributed / count,
        )


@dataclass(frozen=True, kw_only=True)
class LayerCheck:
    """One layer at its start.

    Attributes:
        path: Module path.
        kind: Class name.
        calls: How often the forward pass called it.
        signal: RMS over the entries of its output; NaN if it was not called, or holds such numbers.
        gradient: RMS over the entries of dL/d(output), summed over calls; NaN if none was seen.
        weight_gradient: Euclidean norm of its parameters' gradient; NaN if none reaches them.
        activation: Name of the activation behind it; "" if there is none.
        gain: rms(w) sqrt(fan-in): by how much it scales a signal of independent inputs; NaN if that
            is not defined for this kind of layer.
        needed: The gain that keeps gradients level under its activation; NaN likewise.
        units: Units that its activation can switch off for good; 0 if it has none.
        off: How many of them are off for the whole batch.
        expected_off: Expected share of such units, from the correlation of its outputs across
            samples; NaN if unknown.
        depth: Trainable depth 6 xi_c of a network made of layers like this one; inf at the edge of
            chaos, NaN if not defined.
    """

    path: str
    kind: str
    calls: int = 0
    signal: float = math.nan
    gradient: float = math.nan
    weight_gradient: float = math.nan
    activation: str = ""
    gain: float = math.nan
    needed: float = math.nan
    units: int = 0
    off: int = 0
    expected_off: float = math.nan
    depth: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Checkup:
    """The whole answer of ``defib check``.

    Attributes:
        facts: Class of the model, samples, training mode, how the loss was computed.
        verdict: healthy, sick (a finding of warning or worse) or not-observed.
        loss: The loss on that batch; NaN if it could not be computed.
        layers: In the model's own order.
        ledger: The gain ledger; None if the loss has no path to two layers.
        depth: Predicted trainable depth (harmonic mean over layers, in layers); NaN if unknown.
        dead_probability: Lu et al. (2020): probability that some layer is wholly off for a given
            single input, from the widths alone; 0 where no activation can die.
        findings: The most fundamental first.
        unseen: What could not be looked at, and why.
        schema: Name and version of this structure.
    """

    facts: dict[str, Any]
    verdict: Verdict
    loss: float
    layers: tuple[LayerCheck, ...]
    ledger: GainLedger | None
    depth: float
    dead_probability: float
    findings: tuple[Finding, ...]
    unseen: tuple[Unseen, ...] = ()
    schema: str = field(default="defib.checkup/1")
