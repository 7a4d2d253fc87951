"""All that a rule may read: plain data about one run, made by ``record.reader``.

Letters: ``U`` units of a layer, ``R`` readings, ``S`` sites, ``P`` parameters, ``T`` steps.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defib.core.finding import Overhead, Unseen
from defib.core.site import Signal, Site
from defib.core.tally import Tally


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


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one signal looked like over a window of sampled steps.

    Attributes:
        site: Where.
        signal: Which signal.
        first: First sampled step in the window.
        last: Last sampled step in the window.
        tally: The per-unit statistics, merged over the window.
    """

    site: Site
    signal: Signal
    first: int
    last: int
    tally: Tally

    # What a large record tells without unpacking the tally; see record.shelf.

    @property
    def samples(self) -> int:
        """``tally.samples``."""
        return self.tally.samples

    @property
    def units(self) -> int:
        """``tally.units``."""
        return self.tally.units

    @property
    def entries(self) -> float:
        """Finite entries of all units."""
        return float(self.tally.finite.sum())

    @property
    def norm(self) -> float:
        """``tally.norm``."""
        return self.tally.norm


EPISODE_STEPS = 8
"""Steps without a gradient from which a silence is an episode: a sparse unit is often silent for a few."""

LENGTHS = 32
"""Classes by powers of two into which the lengths of episodes are sorted."""


@dataclass(frozen=True, kw_only=True)
class Liveness:
    """For every unit of a layer: did it receive any gradient, step by step.

    A unit whose bias gradient is exactly 0 fired for no sample of that step, or
    everything above it was blocked; readings tell the two apart.

    Attributes:
        path: The layer.
        source: The parameter that was read ("fc1.bias", "bn1.bias", "rows of fc1.weight").
        steps: Steps on which it was read.
        last_step: Last step on which it was read; -1 if none.
        period: Steps between two reads (1: every step, deaths are exact).
        first_alive: Step of the first non-zero gradient, shape (U,); -1 never.
        last_alive: Step of the last non-zero gradient, shape (U,); -1 never.
        alive_steps: On how many steps it was non-zero, shape (U,).
        batch: Mean samples a step, for the rule of three; 0 if unknown.
        returns: Silences of at least ``EPISODE_STEPS`` steps that each unit came back from, shape (U,);
            None in records of before.
        silent_before: Steps of those silences together, shape (U,); None likewise.
        lengths: How many of those silences lasted 2^i to 2^(i+1) - 1 steps, over all units, shape
            (LENGTHS,); None likewise.
    """

    path: str
    source: str
    steps: int
    last_step: int
    period: int
    first_alive: NDArray[np.int64]
    last_alive: NDArray[np.int64]
    alive_steps: NDArray[np.int64]
    batch: float = 0.0
    returns: NDArray[np.int64] | None = None
    silent_before: NDArray[np.int64] | None = None
    lengths: NDArray[np.int64] | None = None

    @property
    def silent_steps(self) -> NDArray[np.int64]:
        """Steps since the last gradient, shape (U,); all of them if there was none."""
        return np.asarray(self.last_step - self.last_alive, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Series:
    """A number step by step.

    Attributes:
        steps: Optimiser steps, shape (T,), increasing.
        values: The numbers, shape (T,); NaN or infinity are real readings.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    def empty(cls) -> "Series":
        """A series without a single point."""
        return cls(steps=np.zeros(0, np.int64), values=np.zeros(0))

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, kw_only=True)
class Norms:
    """Sizes of gradient, weight and update, tensor by tensor, on sampled steps.

    Update sizes and the swallowed share come from a strided sample of at most
    16,384 entries a tensor and are scaled up; smaller tensors are exact.

    Attributes:
        parameters: Names, length P.
        steps: Sampled steps, shape (R,).
        gradient: Euclidean norm of the (unscaled) gradient, shape (R, P); NaN where there is none.
        weight: Euclidean norm of the parameter before the step, shape (R, P).
        update: Euclidean norm of the change by the step, shape (R, P).
        swallowed: Share of entries with a non-zero gradient that the step left
            bit-identical, shape (R, P).
    """

    parameters: tuple[str, ...]
    steps: NDArray[np.int64]
    gradient: NDArray[np.float64]
    weight: NDArray[np.float64]
    update: NDArray[np.float64]
    swallowed: NDArray[np.float64]


OBJECTIVE_COLUMNS = (
    "loss", "samples",
    "output_low", "output_high", "output_mean", "output_rms", "output_spread",
    "prediction_low", "prediction_high", "prediction_mean", "prediction_rms", "prediction_spread",
    "target_low", "target_high", "target_mean", "target_rms", "target_spread",
    "constant_loss", "classes", "outputs", "broadcast", "ignored",
    "input_low", "input_high", "input_mean", "input_std", "input_std_high", "input_std_low",
    "input_constant", "input_nonfinite", "input_features",
    "compared", "label_mean", "probability_total", "leftover",
)  # fmt: skip
"""What is read of output, prediction, targets and input; see :class:`Objective`.

New ones are added at the end: a record of before has the first of them.
"""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What the loss compared, on sampled steps.

    Each column has shape (R,), NaN where it could not be read. ``output`` is
    what the last layer with parameters gives (logits), ``prediction`` what
    enters the loss function, ``target`` what it is compared with, ``input`` the
    data at the first layer. ``*_spread`` is the standard deviation over the
    batch (RMS over columns): 0 means that it does not depend on the sample.
    ``constant_loss`` is what the best constant answer costs on the same batch
    (label entropy, variance); ``classes`` and ``outputs`` count labels present
    and outputs; ``broadcast`` is 1 where prediction and target had different
    shapes that were stretched to fit; ``ignored`` is the share of labels equal
    to ignore_index. ``input_mean`` and ``input_std`` are RMS over features of
    each one's mean and standard deviation over the batch; ``input_constant``
    and ``input_nonfinite`` are shares. ``compared`` is how many targets of that batch
    the best constant was worked out from, ``label_mean`` the mean index of the labels of a
    classification, ``probability_total`` the sum over the classes of what enters a negative
    log-likelihood as logarithms (1 by definition; of the samples' sums the one furthest from it), and
    ``leftover`` is 1 where gradients of an earlier step were still there as backward began.

    Attributes:
        operation: The loss function's autograd node ("NllLossBackward0"); "" if it is not one that
            torch has as a function; of a squared or absolute error that is written out and averaged, the node
            that makes the error positive ("PowBackward0", "AbsBackward0", "MulBackward0").
        output_layer: Path of the last layer with parameters.
        input_layer: Path of the first.
        steps: Sampled steps, shape (R,).
        columns: The numbers, by the names in ``OBJECTIVE_COLUMNS``.
    """

    operation: str
    output_layer: str
    input_layer: str
    steps: NDArray[np.int64]
    columns: dict[str, NDArray[np.float64]]

    def last(self, name: str, count: int = 5) -> float:
        """Median of the last ``count`` numbers of a column that could be read; NaN if there are none."""
        values = self.columns[name]
        values = values[~np.isnan(values)][-count:]
        return float(np.median(values)) if len(values) else float("nan")


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Facts about one optimiser.

    Attributes:
        index: Order of first use, from 0.
        kind: Class name ("Adam").
        steps: Steps taken.
        groups: Its parameter groups' settings, without the tensors.
        parameters: Names of the parameters that it owns.
        loss: The loss whose backward preceded each step.
        lr: Learning rate of the first group at each step.
        scale: GradScaler's loss scale at each step; empty without a scaler.
        displacement: How far the weights are from where they were first read, over their size then, on
            sampled steps; empty in records of before.
    """

    index: int
    kind: str
    steps: int
    groups: tuple[dict[str, Any], ...] = ()
    parameters: tuple[str, ...] = ()
    loss: Series = field(default_factory=Series.empty)
    lr: Series = field(default_factory=Series.empty)
    scale: Series = field(default_factory=Series.empty)
    displacement: Series = field(default_factory=Series.empty)


PAIR_COLUMNS = ("gradient", "next_gradient", "update", "before", "after", "again")
"""What is read of two consecutive steps; see :class:`Pairs`."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Gradient and update of one step beside the gradient of the next, on sampled steps of one optimiser.

    g is the gradient of step t as the optimiser got it, d the change of the parameters by that
    step, g' the gradient of step t + 1, of another batch. All are taken over the same evenly
    spaced sample of the optimiser's parameters (all of them, up to 65,536), so that sizes of
    larger models are sizes of the sample; cosines need no such word.

    Attributes:
        steps: Step t, shape (R,).
        gradient: |g|, shape (R,).
        next_gradient: |g'|, shape (R,).
        update: |d|, shape (R,).
        before: Cosine of g and d: negative where the step went downhill on its own batch, shape (R,).
        after: Cosine of g' and d: positive where the next gradient points back, shape (R,).
        again: Cosine of g and g', shape (R,).
    """

    steps: NDArray[np.int64]
    gradient: NDArray[np.float64]
    next_gradient: NDArray[np.float64]
    update: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    again: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened once.

    Attributes:
        step: Optimiser step at or before which it happened; -1 before the first.
        kind: "non-finite", "skipped-step", "cut", "compiled", "watcher-fault", "gap", ...
        data: Its details, JSON-able.
    """

    step: int
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """Arrays kept as evidence about one place at one step: what a number alone cannot prove.

    Attributes:
        kind: What it shows ("dead-units", "autopsy", "curvature", "confusion").
        path: The layer that it is about; "" for the whole model.
        step: Optimiser step that it belongs to; -1 before the first.
        facts: Its details, JSON-able.
        arrays: Named arrays of any shape; float16 to float64, integers and booleans.
    """

    kind: str
    path: str
    step: int
    facts: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunView:
    """One run, as rules see it. Missing data is missing: see ``unseen``.

    Attributes:
        facts: Path, script, versions, times, status ("running", "finished", "interrupted").
        layers: In the order of the model's own listing.
        wirings: In order of data flow.
        readings: All readings, by site, signal and time.
        liveness: By layer path.
        optimizers: In order of first use.
        norms: Sizes of gradients, weights and updates; None if never taken.
        pairs: Consecutive steps compared, by index of the optimiser.
        logged: What the script logged with ``defib.log``, by name.
        flow_steps: Sampled steps, shape (R,).
        flow: For each site and signal the RMS over entries at each sampled step, shape (R,);
            NaN where that reading is missing.
        events: In order of time.
        exhibits: Arrays kept as evidence, in order of step.
        loss_operations: Autograd node names between the last layer and the loss, loss first.
        objective: What the loss compared; None if it was never read.
        unseen: What was not observed, and why.
        overhead: What watching cost.
    """

    facts: dict[str, Any]
    layers: tuple[Layer, ...] = ()
    wirings: tuple[Wiring, ...] = ()
    readings: tuple[Reading, ...] = ()
    liveness: dict[str, Liveness] = field(default_factory=dict)
    optimizers: tuple[Optimizer, ...] = ()
    norms: Norms | None = None
    pairs: dict[int, Pairs] = field(default_factory=dict)
    logged: dict[str, Series] = field(default_factory=dict)
    flow_steps: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    flow: dict[tuple[Site, Signal], NDArray[np.float64]] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    exhibits: tuple[Exhibit, ...] = ()
    loss_operations: tuple[str, ...] = ()
    objective: Objective | None = None
    unseen: tuple[Unseen, ...] = ()
    overhead: Overhead = field(
        default_factory=lambda: Overhead(ratio=None, seconds=0.0, budget=0.0, period=0.0)
    )

    @property
    def steps(self) -> int:
        """Optimiser steps taken (the most of any optimiser)."""
        return max((o.steps for o in self.optimizers), default=0)

    @property
    def loss(self) -> Series:
        """The loss of the first optimiser; empty if there is none."""
        return self.optimizers[0].loss if self.optimizers else Series.empty()

    def wiring(self, site: Site) -> Wiring | None:
        """The wiring at a site, if an activation was seen there."""
        return next((w for w in self.wirings if w.site == site), None)

    def layer(self, path: str) -> Layer | None:
        """The layer at a path."""
        return next((layer for layer in self.layers if layer.path == path), None)

    def at(self, site: Site, signal: Signal) -> tuple[Reading, ...]:
        """Readings of one signal at one site, in order of time."""
        return self._by_place.get((site, signal), ())

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the run, without what was worked out from it on the way."""
        return {name: value for name, value in vars(self).items() if name != "_by_place"}

    @cached_property
    def _by_place(self) -> dict[tuple[Site, Signal], tuple[Reading, ...]]:
        """The readings by site and signal: a large record has thousands of them."""
        found: dict[tuple[Site, Signal], list[Reading]] = {}
        for reading in self.readings:
            found.setdefault((reading.site, reading.signal), []).append(reading)
        return {place: tuple(readings) for place, readings in found.items()}

    def tally(self, site: Site, signal: Signal, since: int = 0) -> Tally | None:
        """All readings of a signal that began at or after step ``since``, merged; None if there are none."""
        return merge(r.tally for r in self.at(site, signal) if r.first >= since)

    def of_kind(self, kind: str) -> tuple[Event, ...]:
        """Events of one kind, in order of time."""
        return tuple(e for e in self.events if e.kind == kind)


def merge(tallies: Iterable[Tally]) -> Tally | None:
    """The tally of all samples together; None for no tally at all."""
    total: Tally | None = None
    for tally in tallies:
        total = tally if total is None else total.merge(tally)
    return total
