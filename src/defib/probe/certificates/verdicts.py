"""From bounds and samples to one verdict for each unit.

Letters: ``U`` units of a layer, ``P`` numbers of a unit (positions).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from defib.core.certificate import LayerCertificate, Method, UnitCertificate, UnitVerdict
from defib.core.errors import DefibError
from defib.core.inference import rate_bound
from defib.probe.certificates.bends import Activated
from defib.probe.certificates.bounds import Bounds

UNJUDGED = {"exp", "abs"}
"""Elementwise functions that have an entry among the activations and are nobody's units."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Unit:
    """What belongs to one activation.

    Attributes:
        node: The activation in the graph for one sample.
        step: Its step there.
        layer: Path of the layer.
        call: Which activation of that layer.
        axis: Axis of the units in what enters it.
    """

    node: fx.Node
    step: Activated
    layer: str
    call: int
    axis: int

    @property
    def argument(self) -> fx.Node:
        """The node that enters it."""
        return self.step.parents[0]

    def rows(self, values: Tensor) -> Tensor:
        """Numbers unit by unit: shape (U, P) for one sample's, whose first dimension is 1."""
        return (
            values.movedim(self.axis, 0).reshape(values.shape[self.axis], -1)
            if values.dim()
            else values[None, None]
        )


def inside(low: Tensor, high: Tensor, pieces: Sequence[tuple[float, float]]) -> Tensor:
    """Which units have all their numbers inside of one piece each: shape (U,) from (U, P)."""
    found = torch.zeros_like(low, dtype=torch.bool)
    for first, last in pieces:
        found |= (low >= first) & (high <= last)
    return found.all(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Looked:
    """What the samples showed of one activation.

    Attributes:
        samples: Samples of the domain that were looked at.
        witness: For each unit the index of a sample that fires it, -1 for none; shape (U,).
    """

    samples: int
    witness: Tensor


def layer_certificate(unit: Unit, main: Bounds, every: Bounds | None, looked: Looked) -> LayerCertificate:
    """The verdicts of all units of one activation.

    Args:
        unit: The activation.
        main: Bounds on the domain.
        every: Bounds on every input; None if they were not computed.
        looked: What the samples showed.

    Returns:
        The layer's certificate.

    Raises:
        DefibError: If a sample fires a unit that was proved never to fire: a fault of defib.
    """
    off, lines = unit.step.off(), unit.step.straight()
    known = main.known[unit.argument]
    plain = main.plain.get(unit.argument, known)
    low, high = unit.rows(known.low), unit.rows(known.high)
    exact = [unit.rows(e) for e in main.exact[unit.argument]]
    first = unit.rows(plain.low), unit.rows(plain.high)
    methods = [(Method.INTERVAL, *first), (Method.LINEAR, low, high)]
    if every is not None:
        wide = every.known[unit.argument]
        methods.insert(0, (Method.EVERY_INPUT, unit.rows(wide.low), unit.rows(wide.high)))
    never = [(m, inside(a, b, off)) for m, a, b in methods]
    always = [(m, inside(a, b, lines)) for m, a, b in methods]
    doubtful = inside(exact[0], exact[1], off)
    found = []
    for i in range(len(low)):
        verdict, method = _verdict(i, never, always, doubtful, looked)
        witness = int(looked.witness[i])
        if verdict is UnitVerdict.NEVER_FIRES and witness >= 0:
            raise DefibError(
                f"sample {witness} fires unit {i} of {unit.layer}, which was proved never to fire"
            )
        ends = float(low[i].min()), float(high[i].max())
        found.append(
            UnitCertificate(
                unit=i,
                verdict=verdict,
                low=ends[0],
                high=ends[1],
                method=method,
                witness=witness if witness >= 0 else None,
                rate_bound=rate_bound(looked.samples) if verdict is UnitVerdict.NEVER_SEEN else math.nan,
                margin=_margin(low[i], high[i], off) if verdict is UnitVerdict.NEVER_FIRES else math.nan,
            )
        )
    flat = unit.step.bent.curve.tail == 0  # off is constant, not only too small for the derivative to be seen
    affine = {UnitVerdict.ALWAYS_LINEAR} | ({UnitVerdict.NEVER_FIRES} if flat else set())
    return LayerCertificate(
        layer=unit.layer, call=unit.call, activation=unit.step.bent.activation.name, entries=low.shape[1],
        units=tuple(found), refined=unit.argument in main.refined,
        collapsible=all(u.verdict in affine for u in found),
    )  # fmt: skip


def _verdict(
    i: int, never: Sequence[tuple[Method, Tensor]], always: Sequence[tuple[Method, Tensor]], doubtful: Tensor,
    looked: Looked,
) -> tuple[UnitVerdict, Method | None]:  # fmt: skip
    """The strongest statement about one unit, and what it rests on."""
    for verdict, proofs in ((UnitVerdict.NEVER_FIRES, never), (UnitVerdict.ALWAYS_LINEAR, always)):
        for method, holds in proofs:
            if bool(holds[i]):
                return verdict, method
    if int(looked.witness[i]) >= 0:
        return UnitVerdict.FIRES, Method.SAMPLES
    if bool(doubtful[i]):
        return UnitVerdict.UNDECIDABLE, None
    return (UnitVerdict.NEVER_SEEN if looked.samples else UnitVerdict.OPEN), None


def _margin(low: Tensor, high: Tensor, off: Sequence[tuple[float, float]]) -> float:
    """Smallest distance of a unit's numbers from the edge of the flat piece that they lie in."""
    room = torch.stack([torch.minimum(low - a, b - high) for a, b in off]).amax(0)
    return float(room.min())
