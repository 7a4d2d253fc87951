"""How likely is a deep, narrow ReLU net to be dead at birth?

Claim
-----
How likely a network is to be dead at the start is hard to answer in general.

Prediction
----------
One input, no biases, weights drawn symmetrically: each of the N units of a layer is negative
with probability 1/2, independently, so the net is dead on this input with probability exactly

    1 - (1 - 2^-N)^L,

whatever the distribution of the weights. For all inputs of the real line at once only bounds
are known (Lu et al.): with a1 = 1 - 2^-N, a2 = 1 - 2^(1-N) - (N-1) 2^(-2N), m = L - 1,

    P >= 1 - a1^m + (1 - 2^(1-N)) (1 - 2^-N) / (1 + (N-1) 2^-N) (a2^m - a1^m).

Randomised asymmetric initialisation (one of the weights and the bias of each unit drawn from
Beta(2, 1), the others normal with variance 0.36 / fan-in) makes death rarer.

Method
------
Nets with one input are drawn. Without biases such a net is linear on either side of 0, so two
points, 1 and -1, stand for the whole line. A net is dead if a layer is 0 at both points
(on the line), or at the first (single point).

References:
----------
Lu, Shin, Su, Karniadakis 2019, Dying ReLU and initialization: theory and numerical examples.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import Estimate, Region, at_least, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import relu


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    nets: int = dial(20000, "networks drawn for each shape", quick=4000, paper=200000)
    widths: tuple[int, ...] = dial((2, 3, 5), "units of a layer, N")
    depths: tuple[int, ...] = dial((2, 5, 10, 20), "hidden layers, L")
    bias: float = dial(0.0, "deviation of the biases; the law is for 0")
    skew: float = dial(0.0, "mean of the weights, in deviations; the law is for 0")
    tolerance: float = dial(0.03, "difference of two probabilities that counts as none", quick=0.05)
    spread: float = dial(0.6007, "deviation of the asymmetric initialisation, times sqrt(fan-in)")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Of nets of one shape, dead ones by depth.

    Attributes:
        point: Dead at the first point.
        line: Dead at both.
    """

    point: dict[int, int]
    line: dict[int, int]


class BornDead(Experiment[Dials]):
    """Drawing nets and counting dead ones."""

    slug = "born-dead"
    title = "How likely is a deep, narrow ReLU net to be dead at birth?"
    topic = Topic.DYING_RELU
    rows = ("S1-2",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="weights with a positive mean break the symmetry that the exact law rests on",
            dials={"skew": 0.5},
            changes=("S1-2",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        he = {n: _counts(n, dials, run.torch(0, n), asymmetric=False) for n in run.track(dials.widths)}
        better = {n: _counts(n, dials, run.torch(1, n), asymmetric=True) for n in dials.widths}
        shapes = [(n, depth) for n in dials.widths for depth in dials.depths]
        point = {s: share(he[s[0]].point[s[1]], dials.nets) for s in shapes}
        whole = {s: share(he[s[0]].line[s[1]], dials.nets) for s in shapes}
        rai = {s: share(better[s[0]].line[s[1]], dials.nets) for s in shapes}
        off = _worst(point, {s: point_law(*s) for s in shapes})
        loose = _worst(whole, {s: line_bound(*s) for s in shapes})
        narrow = (dials.widths[0], dials.depths[-2])
        hard = at_least(dials.tolerance)
        return Measurement(
            parts=(
                Part(
                    row="S1-2",
                    says="for one input no simple law gives it: largest distance from 1 - (1 - 2^-N)^L",
                    estimate=off,
                    region=hard,
                ),
                Part(
                    row="S1-2",
                    says="for all inputs the known bound does not give it: largest distance from the bound",
                    estimate=loose,
                    region=hard,
                ),
            ),
            figure=_figure(dials, whole, rai),
            note=f"Width {narrow[0]}, {narrow[1]} layers, on the whole line: {whole[narrow].value:.3f} dead "
            f"with normal weights, {rai[narrow].value:.3f} with randomised asymmetric initialisation.",
        )


def point_law(width: int, depth: int) -> float:
    """Probability that a net is dead on one given input."""
    return float(1 - (1 - 2.0**-width) ** depth)


def line_bound(width: int, depth: int) -> float:
    """Lower bound of the probability that a net of one input is constant on the real line."""
    n, m = width, depth - 1
    a1 = 1 - 2.0**-n
    a2 = 1 - 2.0 ** (1 - n) - (n - 1) * 2.0 ** (-2 * n)
    factor = (1 - 2.0 ** (1 - n)) * (1 - 2.0**-n) / (1 + (n - 1) * 2.0**-n)
    return float(1 - a1**m + factor * (a2**m - a1**m))


def _worst(measured: dict[tuple[int, int], Estimate], law: dict[tuple[int, int], float]) -> Estimate:
    """The largest distance between a share and a law, with an interval that holds for all shapes.

    Each share's interval is taken; the distance is at least the largest distance of an interval,
    and at most the largest distance of any of its ends.

    Returns:
        The estimate.
    """
    value, low, high = 0.0, 0.0, 0.0
    for shape, e in measured.items():
        at = law[shape]
        region = Region(low=e.low, high=e.high)
        value = max(value, abs(e.value - at))
        low = max(low, region.low - at, at - region.high)
        high = max(high, abs(region.low - at), abs(region.high - at))
    return Estimate(value=value, low=low, high=high, n=sum(e.n for e in measured.values()))


def _counts(width: int, dials: Dials, generator: torch.Generator, *, asymmetric: bool) -> Counts:
    """Draws nets layer by layer.

    Letters: T nets, P = 2 points, N units.

    Returns:
        How many are dead after each depth of interest.
    """
    h = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).expand(dials.nets, 2, 1)
    alive_point = torch.ones(dials.nets, dtype=torch.bool)
    alive = torch.ones(dials.nets, dtype=torch.bool)
    counts = Counts(point={}, line={})
    for layer in range(1, max(dials.depths) + 1):
        weight, bias = _layer(h.shape[-1], width, dials, generator, asymmetric=asymmetric)
        h = relu()(torch.baddbmm(bias, h, weight))
        alive_point &= (h[:, 0] > 0).any(1)
        alive &= (h > 0).any(2).any(1)
        if not asymmetric:
            h = h / h.amax((1, 2), keepdim=True).clamp_min(1e-300)
        if layer in dials.depths:
            counts.point[layer] = int((~alive_point).sum())
            counts.line[layer] = int((~alive).sum())
    return counts


def _layer(
    fan_in: int, width: int, dials: Dials, generator: torch.Generator, *, asymmetric: bool
) -> tuple[Tensor, Tensor]:
    """Weights (T, D, N) and biases (T, 1, N) of one layer of every net."""
    t = dials.nets
    drawn = torch.randn(t, fan_in + 1, width, generator=generator, dtype=torch.float64)
    if not asymmetric:
        weight = (drawn[:, :-1] + dials.skew) * math.sqrt(2 / fan_in)
        return weight, drawn[:, -1:] * dials.bias
    drawn *= dials.spread / math.sqrt(fan_in)
    chosen = torch.randint(0, fan_in + 1, (t, 1, width), generator=generator)
    # The larger of two uniform numbers is distributed as Beta(2, 1).
    beta = torch.rand(t, 2, width, generator=generator, dtype=torch.float64).amax(1, keepdim=True)
    drawn.scatter_(1, chosen, beta)
    return drawn[:, :-1], drawn[:, -1:]


def _figure(
    dials: Dials, whole: dict[tuple[int, int], Estimate], rai: dict[tuple[int, int], Estimate]
) -> Figure:
    lines = []
    for n in dials.widths:
        shapes = [(n, depth) for depth in dials.depths]
        lines += [
            line(
                f"width {n}",
                dials.depths,
                [whole[s].value for s in shapes],
                low=[whole[s].low for s in shapes],
                high=[whole[s].high for s in shapes],
            ),
            line(f"width {n}: bound", dials.depths, [line_bound(*s) for s in shapes], dashed=True),
        ]
    narrow = [(dials.widths[0], depth) for depth in dials.depths]
    lines.append(
        line(f"width {narrow[0][0]}, asymmetric initialisation", dials.depths, [rai[s].value for s in narrow])
    )
    return Figure(
        title="Nets of one input that are constant on the whole line at birth",
        x="hidden layers",
        y="probability",
        log_x=True,
        lines=tuple(lines),
    )
