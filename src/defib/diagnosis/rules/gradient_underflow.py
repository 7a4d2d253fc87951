"""Gradients in half precision that are rounded to zero on their way back.

## What it measures

At every activation whose tensors are in a half format: the share of exact zeros among the entries
of the gradient that arrives there, and the size of those that are not zero, as it is in that format
(with the loss scale still on it). Zeros beside entries of ordinary size have other reasons (pooling,
dropout, units that are off); zeros beside entries at the end of the format's range are lost. From the
share that is lost follows how large the gradient was, and from that the loss scale that lifts it.

## Why it hurts

float16 has no positive number below 6e-8 (2^-24); what is smaller than half of that becomes zero.
The layers below get no gradient for those entries, and in the extreme none at all, though in float32
they would learn.

## Causes

- `below-precision`: the gradient is too small for the format, for want of a loss scale, or with a
  scale that is too small.

## Prognosis

It gets worse as the loss falls, for the gradient falls with it.

## Example

Ten sigmoid layers in float16 without a loss scale: 67 % of the gradient's entries at the activations
are lost, and all of those of the first layers.

## False alarms

A run that learns is information. bfloat16 has the range of float32 and is hardly ever affected.

## References

- Micikevicius et al.: Mixed Precision Training (2018).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.reading import Reading
from defib.core.run import RunView
from defib.core.site import Signal
from defib.core.tally import Tally
from defib.diagnosis.cases import Plan, falling_loss, flat_loss, run_of
from defib.diagnosis.measures.late import late
from defib.diagnosis.measures.learning import Learning, learning
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.rule import Case, Expected, Limit, Rule, harms


@dataclass(frozen=True, kw_only=True)
class Format:
    """A floating-point format: smallest subnormal and normal number, and largest number."""

    least: float
    normal: float
    most: float


FORMATS = {
    "float16": Format(least=2.0**-24, normal=2.0**-14, most=65504.0),
    "bfloat16": Format(least=2.0**-133, normal=2.0**-126, most=3.3895e38),
}


@dataclass(frozen=True, kw_only=True)
class Arriving:
    """The gradient that arrives at one activation.

    Attributes:
        path: The layer.
        format: Its numbers' format.
        zero: Share of exact zeros.
        size: Root mean square of the others, without the loss scale; NaN if there are none.
        top: Largest absolute entry, without the loss scale.
    """

    path: str
    format: Format
    zero: float
    size: float
    top: float


class GradientUnderflow(Rule):
    """Gradients that a half format rounds to zero."""

    slug = "gradient-underflow"
    fault = Fault.UNDERFLOW
    title = "gradients in half precision are rounded to zero"
    rank = 26
    causes = (Cause.BELOW_PRECISION,)
    limits = (
        Limit(
            name="lost",
            default=0.1,
            unit="1",
            meaning="share of exact zeros in the gradient that arrives at an activation",
            reason="normal entries lose a tenth when their deviation is four times the smallest number",
        ),
        Limit(
            name="reach",
            default=16.0,
            unit="1",
            meaning="size of the other entries over the format's smallest number, at most",
            reason="four times, as above, and four times again for heavy tails; zeros beside larger "
            "entries have other reasons",
        ),
    )
    consequences = harms(
        ("vanishing-gradient", "what is rounded to zero has vanished, in this format only"),
        ("zero-gradient", "layers below those get nothing at all"),
        ("dead-unit", "a unit whose gradient is rounded to zero looks silent"),
        ("constant-predictor", "layers that get no gradient learn nothing"),
        ("lr-too-low", "weights whose gradient is lost do not move"),
        ("update-lost", "gradients this small are below the optimiser's eps"),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding, for the layer nearest to the input that loses its gradient."""
        wires = Wires(run)
        arriving = [
            a
            for layer in late(run, wires, 1)
            if (a := _arriving(layer.wiring.dtype, layer.path, layer.tallies))
        ]
        scale = _scale(run)
        ending = [a for a in arriving if self._at_the_end(a, scale)]
        if not ending:
            return
        lost = [a for a in arriving if a in ending or np.isnan(a.size)]
        yield self._finding(lost, arriving, scale, learning(run))

    def _at_the_end(self, arriving: Arriving, scale: float) -> bool:
        """Whether entries are lost, and the others lie at the end of the format."""
        near = arriving.size * scale <= self.limit("reach") * arriving.format.least
        return bool(arriving.zero >= self.limit("lost") and near)

    def _finding(
        self, lost: list[Arriving], arriving: list[Arriving], scale: float, state: Learning
    ) -> Finding:
        """The finding, with the loss scale that lifts the smallest gradient into the normal numbers."""
        worst = max(lost, key=lambda a: a.zero)
        form = worst.format
        ending = [a for a in arriving if self._at_the_end(a, scale)]
        least = min(*(_true_size(a, scale) for a in ending), *(a.size for a in arriving if a.size > 0))
        wanted = 2.0 ** math.ceil(math.log2(form.normal / least))
        most = 2.0 ** math.floor(math.log2(form.most / max(a.top for a in arriving if a.top > 0)))
        return self.found(
            Cause.BELOW_PRECISION,
            Severity.ERROR if state.stuck else Severity.INFO,
            f"{worst.zero:.0%} of the gradient that arrives at {worst.path} is rounded to zero in its "
            f"format; with a loss scale of {wanted:g} its smallest size would be a normal number",
            evidence=(
                Evidence(name="layers that lose gradient", value=len(lost), unit="layers"),
                Evidence(name="share of exact zeros, most in a layer", value=worst.zero),
                Evidence(name="smallest size, without loss scale", value=least),
                Evidence(name="smallest number of the format", value=form.least),
                Evidence(name="loss scale in force", value=scale),
                Evidence(name="loss scale that lifts that size to the smallest normal number", value=wanted),
                Evidence(name="largest loss scale before these gradients overflow", value=most),
                *state.evidence,
            ),
            confidence=Confidence.MEASURED,
            layer=lost[0].path,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="the first layer's gradient is at the end of float16",
            build=lambda: _half(1e-7, 0.4, flat_loss()),
            expect=(Expected(cause=Cause.BELOW_PRECISION, severity=Severity.ERROR, layer="fc1"),),
        ),
        Case(
            name="the same while the loss falls",
            build=lambda: _half(1e-7, 0.4, falling_loss()),
            expect=(Expected(cause=Cause.BELOW_PRECISION, severity=Severity.INFO, layer="fc1"),),
        ),
        Case(name="a loss scale lifts it", build=lambda: _half(1e-7, 0.0, falling_loss(), scale=65536.0)),
        Case(name="zeros beside entries of ordinary size", build=lambda: _half(1e-3, 0.5, flat_loss())),
        Case(
            name="the same sizes in bfloat16", build=lambda: _half(1e-7, 0.4, flat_loss(), dtype="bfloat16")
        ),
        Case(name="the same sizes in float32", build=lambda: _half(1e-7, 0.4, flat_loss(), dtype="float32")),
    )


def _half(
    size: float,
    zero: float,
    loss: np.ndarray[tuple[int], np.dtype[np.float64]],
    dtype: str = "float16",
    scale: float = 1.0,
) -> RunView:
    """Two layers in that format; at the first, gradients of that size arrive, with that share of zeros."""
    run = run_of(Plan(path="fc1"), Plan(path="fc2"), loss=loss, scale=np.full(len(loss), scale))
    return replace(
        run,
        wirings=tuple(replace(w, dtype=dtype) for w in run.wirings),
        readings=tuple(_with_zeros(r, size, zero) for r in run.readings),
    )


def _with_zeros(reading: Reading, size: float, share: float) -> Reading:
    """One reading of that run."""
    if reading.site.path != "fc1" or reading.signal is not Signal.ACTIVATION_GRAD:
        return reading
    tally = reading.tally
    rest = tally.count * (1 - share)
    return replace(
        reading,
        tally=replace(
            tally,
            zero=tally.count * share,
            squares=rest * size**2,
            low=-3 * size + 0 * rest,
            high=3 * size + 0 * rest,
        ),
    )


def _arriving(dtype: str, path: str, tallies: dict[Signal, Tally]) -> Arriving | None:
    """The gradient at one activation; None if it is not in a half format or was not read."""
    form, tally = FORMATS.get(dtype), tallies.get(Signal.ACTIVATION_GRAD)
    if form is None or tally is None or not tally.finite.sum():
        return None
    rest = float(tally.finite.sum() - tally.zero.sum())
    return Arriving(
        path=path,
        format=form,
        zero=float(tally.zero.sum() / tally.finite.sum()),
        size=float(np.sqrt(tally.squares.sum() / rest)) if rest > 0 else float("nan"),
        top=float(max(tally.high.max(), -tally.low.min())),
    )


def _true_size(arriving: Arriving, scale: float) -> float:
    """Root mean square before rounding, without the loss scale.

    What is left over-states it. Of normal numbers of deviation s those below half of the smallest
    number d are lost, a share z = P(|x| < d / 2), so that s = (d / 2) / q with q the quantile of
    (1 + z) / 2.

    Returns:
        The smaller of that and of what is left.
    """
    if not 0 < arriving.zero < 1:
        return arriving.size
    quantile = NormalDist().inv_cdf((1 + arriving.zero) / 2)
    return min(arriving.size, arriving.format.least / 2 / scale / quantile) if quantile > 0 else arriving.size


def _scale(run: RunView) -> float:
    """The loss scale in the second half of the run; 1 without a scaler."""
    values = run.optimizers[0].scale.values if run.optimizers else np.zeros(0)
    values = values[len(values) // 2 :]
    values = values[np.isfinite(values) & (values > 0)]
    return float(np.median(values)) if len(values) else 1.0
