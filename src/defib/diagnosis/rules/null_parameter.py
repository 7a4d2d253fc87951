"""Biases that the normalisation right behind them takes away again.

## What it measures

Layers with a bias right before a batch or instance norm, and whether the gradient of that bias is
zero or rounding noise against that of the layer's weights, as it must be: the norm subtracts the
mean, so the output does not depend on the bias.

## Why it hurts

It does not. These parameters are never learned and never matter, but they are stored, stepped and
decayed, and their noise in place of a gradient is easily taken for a vanished one.

## Causes

- `null-before-norm`: the layer in front of a norm was made with a bias.

## Prognosis

Their gradient stays at rounding noise; Adam turns that noise into steps of full size, which change
nothing in the output.

## Example

`nn.Conv2d(64, 64, 3)` before `nn.BatchNorm2d(64)`: the 64 biases have gradients of 1e-9 beside
weights with gradients of 0.1.

## False alarms

This is information only, and it is measured: in evaluation mode the norm does not subtract the
batch's mean, the bias counts, and nothing is said.

## References

- Ioffe, Szegedy: Batch Normalization (2015), section 3.2.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.optimizer import Norms
from defib.core.run import RunView
from defib.core.wiring import Layer, Wiring
from defib.diagnosis.cases import Plan, norms_of, run_of
from defib.diagnosis.rule import Case, Expected, Limit, Rule

_CENTRING = ("BatchNorm", "SyncBatchNorm", "InstanceNorm")


class NullParameter(Rule):
    """Biases right before a norm."""

    slug = "null-parameter"
    fault = Fault.HEALTHY
    title = "biases that the normalisation right behind them takes away again"
    rank = 88
    causes = (Cause.NULL_BEFORE_NORM,)
    limits = (
        Limit(
            name="noise",
            default=1e-3,
            unit="1",
            meaning="gradient of the bias over that of the weights, in the median of the readings",
            reason="the rounding of float32 leaves 1e-6; a bias that counts has a gradient of the order of "
            "the weights' over the size of the inputs",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding, for all of them."""
        if run.norms is None or not len(run.norms.steps):
            return
        noise: dict[str, float] = {}
        for wiring in run.wirings:
            layer = _before_norm(run, wiring)
            ratio = _ratio(run.norms, layer) if layer is not None else float("nan")
            if layer is not None and ratio <= self.limit("noise"):
                noise[layer.path] = ratio
        if not noise:
            return
        first = next(iter(noise))
        yield self.found(
            Cause.NULL_BEFORE_NORM,
            Severity.INFO,
            f"the biases of {len(noise)} layers right before a norm change nothing; first: {first}",
            evidence=(
                Evidence(name="layers with such a bias", value=len(noise), unit="layers"),
                Evidence(name="their gradient over that of the weights, largest", value=max(noise.values())),
            ),
            confidence=Confidence.MEASURED,
            layer=first,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a bias before batch norm",
            build=lambda: _normed(1e-9),
            expect=(Expected(cause=Cause.NULL_BEFORE_NORM, severity=Severity.INFO, layer="conv"),),
        ),
        Case(name="the norm is in evaluation mode, so the bias counts", build=lambda: _normed(0.3)),
        Case(name="no norm", build=lambda: run_of(Plan(path="fc1"), norms=_sizes("fc1", 1e-9))),
    )


def _sizes(path: str, bias: float) -> Norms:
    """Gradients of a layer's weight and bias."""
    return norms_of({f"{path}.weight": np.full(20, 1.0), f"{path}.bias": np.full(20, bias)})


def _normed(bias: float) -> RunView:
    """A convolution, a batch norm and a ReLU; the gradient of the convolution's bias is given."""
    run = run_of(Plan(path="bn"), norms=_sizes("conv", bias))
    norm = replace(run.layers[0], kind="BatchNorm2d")
    conv = replace(norm, path="conv", kind="Conv2d", parameters=("conv.weight", "conv.bias"))
    wiring = replace(run.wirings[0], modules=("conv", "bn"), normalised=True)
    return replace(run, layers=(conv, norm, *run.layers[1:]), wirings=(wiring,))


def _before_norm(run: RunView, wiring: Wiring) -> Layer | None:
    """The layer right in front of a norm that subtracts a mean over the batch or the positions."""
    norm = run.layer(wiring.site.path)
    if norm is None or not norm.kind.startswith(_CENTRING) or wiring.site.path not in wiring.modules[1:]:
        return None
    return run.layer(wiring.modules[0])


def _ratio(norms: Norms, layer: Layer) -> float:
    """Gradient of the bias over that of the weight, in the median; NaN if not both were read."""
    names = (f"{layer.path}.bias", f"{layer.path}.weight")
    if not set(names) <= set(norms.parameters):
        return float("nan")
    bias, weight = (norms.gradient[:, norms.parameters.index(name)] for name in names)
    some = np.isfinite(bias) & np.isfinite(weight) & (weight > 0)
    return float(np.median(bias[some] / weight[some])) if some.any() else float("nan")
