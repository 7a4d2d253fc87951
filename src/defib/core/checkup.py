"""What `defib check` found out before any training: plain data, made by ``probe``.

A decade is a factor of ten. Decades are log10 of a ratio of Euclidean norms of the
gradient over a whole batch; the norm of a sample, RMS over samples, has the same ratio.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Self

from defib.core.diagnosis import Verdict
from defib.core.evidence import Unseen
from defib.core.finding import Finding
from defib.core.recurrence import Recurrence


@dataclass(frozen=True, kw_only=True)
class Decades:
    """A gain of the gradient, split by what caused it. Parts add up to the total exactly.

    Attributes:
        derivative: Activation derivatives (gradient behind / before the activation).
        weights: Multiplication by weights.
        norms: Normalisation layers.
        skips: Blocks with a way around them: what skip and branch give together.
        attention: Query, key and value paths together.
        other: Pooling, dropout, changes of shape, softmax.
        unattributed: Parallel paths that cannot be told apart, and what fused kernels hide.
    """

    derivative: float = 0.0
    weights: float = 0.0
    norms: float = 0.0
    skips: float = 0.0
    attention: float = 0.0
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
class Attention:
    """A softmax attention, whose gradient is g_x = g_query + g_key + g_value + g_around exactly.

    x is where the ways meet again and y the attention's output (or that of the block around it).
    Shares are squared norms in units of |g_y|^2, and |g_x|^2 is the sum of all five.

    Attributes:
        query: What comes by the queries: the first factor of the scores.
        key: What comes by the keys: the second factor.
        value: What comes by the values.
        around: What comes around all three (a skip).
        cross: Twice the inner products of each two of them.
        entropy: Mean entropy of a row of the attention map, in nats; NaN if it could not be had.
        uniform: The entropy that rows of equal weights would have, in nats.
        softmax: Mean of 1 - sum p^2 over the rows: what the softmax lets through to query and key.
    """

    query: float
    key: float
    value: float
    around: float
    cross: float
    entropy: float = math.nan
    uniform: float = math.nan
    softmax: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One row of the gain ledger, from one station of the gradient's way to the next one towards the input.

    Attributes:
        layer: Path of the layer whose output the stretch ends at; "" if unknown.
        activation: Name of the activation that the stretch ends with; "" if it ends otherwise.
        gain: What happened to the gradient's norm, in decades.
        norm: Norm of the gradient at its end.
        block: The block that it crosses; None if there is none.
        attention: The attention that it crosses, in a block's branch or not; None if there is none.
        unknown: What could not be attributed, in words; "" if all was.
        uses: How often the pass uses a weight that the stretch crosses; more than 2 is a recurrence,
            whose stretches are lags of time.
        probe: Decades of a gradient of random signs over the same stretch; NaN if none was sent.
    """

    layer: str
    activation: str
    gain: Decades
    norm: float
    block: Block | None = None
    attention: Attention | None = None
    unknown: str = ""
    uses: int = 1
    probe: float = math.nan


@dataclass(frozen=True, kw_only=True)
class GainLedger:
    """Where the gradient gains and loses on its way from the last layer's output to the first layer's.

    Attributes:
        stretches: From the loss towards the input.
        start: Norm of the gradient at the last layer's output.
        end: Norm at the first layer's output; ``end / start`` is 10 to the power of ``gain.total``.
        start_layer: Path of the layer at whose output it begins.
        end_layer: Path of the layer at whose output it ends.
        probe: The same account for a gradient of random signs at the last layer's output, whose
            squared gain is the mean over all directions; None if none was sent.
    """

    stretches: tuple[Stretch, ...]
    start: float
    end: float
    start_layer: str
    end_layer: str
    probe: Decades | None = None

    @property
    def alignment(self) -> float:
        """The bonus of the real gradient over the probe, in decades: it rides the largest directions."""
        return math.nan if self.probe is None else self.gain.total - self.probe.total

    @property
    def scale(self) -> float:
        """Layers over which the probe's squared norm falls by a factor e; inf if it does not, NaN unknown.

        It is xi = -1 / r for r the mean of ln(gain^2) over the stretches; the number of layers that a
        gradient reaches is a few times that.
        """
        if self.probe is None or not self.stretches:
            return math.nan
        rate = 2 * math.log(10) * self.probe.total / len(self.stretches)
        return math.nan if math.isnan(rate) else (-1 / rate if rate < 0 else math.inf)

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
            attention=whole.attention / count,
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
        slope: By how much the difference between two pairs' correlations grows from the last such layer
            to this one, measured; NaN where it could not be told.
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
    slope: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How deep a difference between two inputs travels, measured on the network itself.

    Attributes:
        depth: 6 xi_c for the mean of ln slope over the deepest half of the layers; inf if it grows.
        low: The same with one standard error of that mean less.
        high: The same with one more.
        layers: Over how many layers the mean was taken.
    """

    depth: float
    low: float
    high: float
    layers: int


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
        reach: The trainable depth as it was measured; None where it could not be.
        recurrences: Recurrent layers, lag by lag.
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
    reach: Reach | None = None
    recurrences: tuple[Recurrence, ...] = ()
    schema: str = field(default="defib.checkup/1")
