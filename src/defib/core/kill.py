"""Why units of a layer died at one step: the exact split of the kill, and what would have prevented it.

s is the pre-activation of a unit, measured from the edge of its activation's off side (for ReLU: from
0), so that it fires where s > 0. h is what feeds the layer, w and b are its own weights and bias; Delta
is the change by one step. For every sample, exactly (Delta h is what all layers below did to it)::

    Delta s  =  Delta w . h + Delta b   own update, on the old features
             +  w . Delta h             upstream drift, under the old weights
             +  Delta w . Delta h       cross term

Letters: ``K`` units that are asked about.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from defib.core.evidence import Unseen

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]

EXHIBIT = "autopsy"
"""Kind of the exhibits that hold a :class:`LayerKill`."""


class Culprit(StrEnum):
    """What a unit died of: each is a counterfactual on the whole batch, not an impression."""

    OWN = "own update"
    """Without the change of its own weights it would still fire; without the drift below it would not."""
    MOMENTUM = "momentum"
    """The same, and more than half of that change was carried over from earlier steps."""
    DECAY = "weight decay"
    """The same, and more than half of that change was weight decay."""
    UPSTREAM = "upstream drift"
    """Had the layers below not moved it would still fire; without its own update it would not."""
    TOGETHER = "own update and upstream drift together"
    """Undoing either of the two makes it fire."""
    EACH = "own update or upstream drift, each alone enough"
    """Undoing only one of the two does not make it fire."""
    NONE = "alive on this batch"
    """It still fires for some sample after the step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerKill:
    """One step and the units of one layer; arrays have shape (K,).

    The stronghold of a unit is the sample (for a convolution: sample and position) on which s was
    largest before the step.

    Attributes:
        path: The layer.
        kind: Class of the layer ("Linear").
        units: Which units.
        units_total: Units of the layer.
        samples: Samples of the batch.
        stronghold: Index of the stronghold's sample in the batch.
        before: s at the stronghold before the step.
        after: s at the stronghold after it.
        highest: Largest s over the whole batch after the step; the unit is dead on it if this is <= 0.
        own: Delta w . h + Delta b at the stronghold.
        own_bias: Delta b, the part of ``own`` that is the bias.
        upstream: w . Delta h at the stronghold.
        cross: Delta w . Delta h at the stronghold.
        momentum: The part of ``own`` carried over from earlier steps by momentum; NaN if unknown.
        decay: The part of ``own`` that is weight decay; NaN if unknown.
        alpha: Death-free factor: the whole step times less than this leaves the unit alive on this
            batch; infinite if it is alive after the whole step.
        alpha_low: Largest factor below ``alpha`` at which it was seen alive.
        alpha_high: Smallest factor above ``alpha`` at which it was seen dead.
        without_own: Fires if its own update alone is undone.
        without_upstream: Fires if the layers below alone are put back.
        bias: Its bias after the step, 0 without one.
        bias_zero: Fires after the step if its bias is set to 0.
        bias_raise: By how much the bias would have to rise for it to fire.
        centring: Share of the features' mean that must be taken away for it to fire; NaN if all of it
            is not enough.
        negative: Share of its negative weights that must be taken away; NaN likewise.
        residual: Largest error of the split over all samples and units, relative to the largest |s|.
        exact: The features did not move: ``alpha`` is a closed form and no search.
        outside: Its input was computed outside of the module that was run again, and counts as given.
        crossing: Step whose update took the last sample of the batch; -1 if unknown.
    """

    path: str
    kind: str
    units: Indices
    units_total: int
    samples: int
    stronghold: Indices
    before: Array
    after: Array
    highest: Array
    own: Array
    own_bias: Array
    upstream: Array
    cross: Array
    momentum: Array
    decay: Array
    alpha: Array
    alpha_low: Array
    alpha_high: Array
    without_own: Mask
    without_upstream: Mask
    bias: Array
    bias_zero: Mask
    bias_raise: Array
    centring: Array
    negative: Array
    crossing: Indices
    residual: float
    exact: bool
    outside: bool = False

    @property
    def dead(self) -> Mask:
        """Which of the units are dead on the batch after the step, shape (K,)."""
        return np.asarray(self.highest <= 0)

    @property
    def factor(self) -> float:
        """Death-free factor of the layer: times less than this, the step kills none of these units."""
        return float(self.alpha.min(initial=np.inf))

    @property
    def culprits(self) -> tuple[Culprit, ...]:
        """What each unit died of."""
        return tuple(self._culprit(i) for i in range(len(self.units)))

    def _culprit(self, i: int) -> Culprit:
        if self.highest[i] > 0:
            return Culprit.NONE
        own, upstream = bool(self.without_own[i]), bool(self.without_upstream[i])
        if upstream:
            return Culprit.TOGETHER if own else Culprit.UPSTREAM
        if not own:
            return Culprit.EACH
        # NaN compares false: what is unknown is not blamed.
        if self.own[i] < 0 and self.momentum[i] < 0.5 * self.own[i]:
            return Culprit.MOMENTUM
        if self.own[i] < 0 and self.decay[i] < 0.5 * self.own[i]:
            return Culprit.DECAY
        return Culprit.OWN

    def only(self, chosen: Mask | Indices) -> Self:
        """The same for some of its units, by mask or position."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in ARRAYS})

    def joined(self, other: Self) -> Self:
        """Two parts of the same layer as one."""
        parts: dict[str, Any] = {
            name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in ARRAYS
        }
        return replace(
            self,
            **parts,
            residual=max(self.residual, other.residual),
            exact=self.exact and other.exact,
            outside=self.outside or other.outside,
        )

    def to_exhibit(self) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        """Facts and arrays of an exhibit; :meth:`from_exhibit` is the inverse."""
        facts = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ARRAYS}
        return facts, {name: getattr(self, name) for name in ARRAYS}

    @classmethod
    def from_exhibit(cls, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[np.generic]]) -> Self:
        """What :meth:`to_exhibit` took apart; a part that is missing is a KeyError."""
        known: dict[str, Any] = {f.name: facts[f.name] for f in fields(cls) if f.name not in ARRAYS}
        return cls(**known | {name: np.asarray(arrays[name]) for name in ARRAYS})


ARRAYS = (
    "units", "stronghold", "before", "after", "highest", "own", "own_bias", "upstream", "cross", "momentum",
    "decay", "alpha", "alpha_low", "alpha_high", "without_own", "without_upstream", "bias", "bias_zero",
    "bias_raise", "centring", "negative", "crossing",
)  # fmt: skip
"""Names of the arrays of a :class:`LayerKill`, each of shape (K,)."""


@dataclass(frozen=True, kw_only=True)
class Kills:
    """What one step did: the answer of ``defib.autopsy``.

    Attributes:
        layers: The layers in which units died, in order of data flow.
        unseen: Layers that could not be looked at, and why.
    """

    layers: tuple[LayerKill, ...]
    unseen: tuple[Unseen, ...] = ()

    @property
    def factor(self) -> float:
        """The whole step times less than this kills nobody; infinite if it killed nobody anyway."""
        return min((layer.factor for layer in self.layers), default=float("inf"))

    @property
    def sentences(self) -> tuple[str, ...]:
        """One sentence a layer and cause."""
        return tuple(s for layer in self.layers for s in sentences(layer)) or ("no unit died",)

    def __str__(self) -> str:
        return "\n".join([*self.sentences, *(f"not seen: {u.what}: {u.why}" for u in self.unseen)])


def sentences(layer: LayerKill) -> tuple[str, ...]:
    """What a layer's units died of, in words, the most frequent cause first."""
    culprits = np.array(layer.culprits)
    found = []
    for culprit in sorted(set(layer.culprits), key=lambda c: -int((culprits == c).sum())):
        part = layer.only(np.asarray(culprits == culprit))
        who = f"{layer.path or 'the model'}: {len(part.units)} of {layer.units_total} units"
        if culprit is Culprit.NONE:
            found.append(f"{who} are alive on this batch after the step")
        else:
            found.append(f"{who} killed by {culprit}; alive if the step had been below {part.factor:.2g}"
                         " of its size")  # fmt: skip
    return tuple(found)


# ------------------------------------------------------------------ what is asked of the probe


@dataclass(frozen=True, kw_only=True)
class Call:
    """One forward pass of a module, kept so that it can be made again.

    Attributes:
        arguments: Positional arguments; tensors are copies.
        options: Keyword arguments.
        generators: States of torch's generators when it began, CPU first and then each accelerator;
            None for their state now.
        autocast: Device types with the format that autocast ran in there.
        outside: Some argument was computed by other modules, with a gradient.
        witness: What :func:`defib.torchgraph.witness.witness` says of its output; None if unknown.
    """

    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    generators: tuple[Any, ...] | None = None
    autocast: tuple[tuple[str, Any], ...] = ()
    outside: bool = False
    witness: Any = None


@dataclass(frozen=True, kw_only=True)
class OwnStep:
    """What an optimiser kept for one parameter around the step.

    Attributes:
        kind: The optimiser's class ("AdamW").
        settings: The settings of its group at that step ("lr", "momentum", "betas", ...).
        before: Momentum (a tensor) before the step; None if there was none yet.
        after: Momentum after it; None if unknown.
    """

    kind: str
    settings: Mapping[str, Any]
    before: Any = None
    after: Any = None


@dataclass(frozen=True, kw_only=True)
class Inquest:
    """One step to be looked into.

    Attributes:
        model: The module.
        before: Its parameters and buffers by name, before the step (tensors).
        after: The same after it.
        calls: The forward passes of that step.
        suspects: For each layer (a module's path within the model) its units, shape (K,); None for all
            that the step killed on these calls.
        steps: By parameter name, what its optimiser kept; may be empty.
        seconds: Time that may be spent on the search for ``alpha`` in deep layers; 0 for none, and NaN.
    """

    model: Any
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    calls: tuple[Call, ...]
    suspects: Mapping[str, Indices] | None = None
    steps: Mapping[str, OwnStep] = field(default_factory=dict)
    seconds: float = 60.0


Prober = Callable[[Inquest], Kills]
"""Answers an inquest; ``probe.kill.inquire`` is one."""
