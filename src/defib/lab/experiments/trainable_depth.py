"""Is vanishing a matter of yes or no, or of how deep a net may be?

Claim
-----
Vanishing "isn't binary": a better activation only delays it, and the question is how deep a
net can be. The deeper, the worse.

Prediction
----------
Wide tanh nets with weights of variance sw / n and biases of variance sb have a fixed
variance q*, at which a gradient's squared norm is multiplied by chi = sw E[tanh'^2] a
layer. The correlation of two inputs comes to c* and loses a factor e over xi layers, with
1/xi = -ln(sw E[tanh'(s) tanh'(s')]). Nets train up to about 6 xi layers (Schoenholz et
al.). xi is finite on both sides of chi = 1 and grows without bound there, for sb = 0.05 at
sw = 1.761: there is a depth scale for every net, no border between vanishing and not.

Method
------
(1) chi by the formula against the backward gain of finite nets, several sw. (2) Nets of
several depths trained with SGD for the same number of steps on digits, on the ordered side
(sw = 1, 6 xi = 22): accuracy below, at, and beyond 6 xi layers. (3) Nets as deep as those
beyond it, with weights near the critical value, whose 6 xi is 20 times as large.

References:
----------
Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation; Poole et al.
2016, Exponential expressivity in deep neural networks.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from defib.lab.crowd import Crowd, train_crowd
from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, mean, near, paired_difference
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.gauss import expect, expect_pair, fixed_correlation, fixed_variance, slope_of


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    spreads: tuple[float, ...] = dial(
        (1.0, 1.3, 1.76, 2.5), "sw of the finite nets whose gain is measured", quick=(1.0, 2.5)
    )
    bias: float = dial(0.05, "sb, variance of the biases")
    width: int = dial(400, "units of a layer of those nets", quick=256)
    layers: int = dial(20, "their layers")
    nets: int = dial(20, "nets of each sw", quick=8)
    trained_spread: float = dial(1.0, "sw of the nets that are trained")
    other_spread: float = dial(1.7, "sw of other nets of the largest depth")
    shares: tuple[float, ...] = dial((0.2, 0.6, 1.0, 2.5), "their depths, in units of 6 xi", quick=(0.2, 1.6))
    trained_width: int = dial(64, "units of a layer of the nets that are trained", quick=32)
    members: int = dial(6, "nets trained of each depth")
    steps: int = dial(300, "SGD steps", quick=80)
    rate: float = dial(0.05, "learning rate", quick=0.1)
    chance: float = dial(0.3, "accuracy up to which a net counts as untrained (guessing gives 0.1)")
    miss: float = dial(0.04, "by how much a layer's gain may miss the formula")
    skip: bool = dial(False, "whether layers are residual: h + tanh(W h + b) / L^(1/2)")


class TrainableDepth(Experiment[Dials]):
    """Depth scales by formula, and nets trained across them."""

    slug = "trainable-depth"
    title = "Up to which depth does a net train, and is there a border?"
    topic = Topic.GRADIENTS
    rows = ("S4-14", "S4-36")
    dials = Dials
    perturbations = (
        Perturbation(
            why="skip connections carry the signal past every layer: depth does no harm",
            dials={"skip": True},
            changes=("S4-14", "S4-36"),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        reach = _reach(dials.trained_spread, dials.bias)
        depths = [max(1, round(share * reach)) for share in dials.shares]
        spread = dials.trained_spread
        scores = {d: _accuracies(dials, d, spread, run) for d in run.track(dict.fromkeys(depths))}
        other = _accuracies(dials, depths[-1], dials.other_spread, run)
        shallow, deep = scores[depths[0]], scores[depths[-1]]
        means = [mean(scores[depth]) for depth in depths]
        return Measurement(
            parts=(
                *_gains(dials, run),
                Part(
                    row="S4-36",
                    says=f"as deep a net whose weights reach deeper (sw {dials.other_spread:g}, 6 xi = "
                    f"{_reach(dials.other_spread, dials.bias):.0f}) does better: difference in accuracy",
                    estimate=paired_difference(other, deep),
                    region=at_least(0.0),
                ),
                Part(
                    row="S4-36",
                    says=f"a net of {depths[0]} layers, well below 6 xi = {reach:.0f}, trains",
                    estimate=means[0],
                    region=at_least(dials.chance),
                ),
                Part(
                    row="S4-36",
                    says=f"a net of {depths[-1]} layers, well beyond 6 xi, does not",
                    estimate=means[-1],
                    region=at_most(dials.chance),
                ),
                Part(
                    row="S4-14",
                    says=f"deeper is worse: accuracy with {depths[0]} layers minus with {depths[-1]}",
                    estimate=paired_difference(shallow, deep),
                    region=at_least(dials.chance),
                ),
            ),
            figure=Figure(
                title=f"Accuracy on digits after {dials.steps} steps",
                x="layers",
                y="accuracy",
                lines=(
                    line(
                        f"tanh, sw = {dials.trained_spread:g}",
                        depths,
                        [e.value for e in means],
                        low=[e.low for e in means],
                        high=[e.high for e in means],
                    ),
                    line("6 xi", (reach, reach), (0, 1), dashed=True),
                ),
            ),
        )


def _reach(spread: float, bias: float) -> float:
    """6 xi: the depth to which a tanh net trains, by the formula."""
    f = torch.tanh
    q = fixed_variance(f, spread, bias)
    c = fixed_correlation(f, spread, bias, q)
    slope = spread * expect_pair(slope_of(f), q, c)
    return 6 / -math.log(min(slope, 1 - 1e-12))


def _gains(dials: Dials, run: LabRun) -> list[Part]:
    """The backward gain a layer of finite nets beside the formula."""
    parts = []
    for number, spread in enumerate(dials.spreads):
        q = fixed_variance(torch.tanh, spread, dials.bias)
        chi = spread * expect(lambda s: slope_of(torch.tanh)(s).square(), q)
        found = [_gain(dials, spread, q, run.torch(number, k)) for k in range(dials.nets)]
        parts.append(
            Part(
                row="S4-36",
                says=f"at sw = {spread:g} a layer multiplies a gradient by chi^(1/2) = {math.sqrt(chi):.3f}",
                estimate=mean(found),
                region=near(math.sqrt(chi), dials.miss),
            )
        )
    return parts


def _gain(dials: Dials, spread: float, q: float, generator: torch.Generator) -> float:
    """The factor a layer of one net's backward pass, begun at the fixed variance."""
    n = dials.width
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    h = start = torch.tanh(normal(n) * math.sqrt(q)).requires_grad_()
    for _ in range(dials.layers):
        s = normal(n, n) * math.sqrt(spread / n) @ h + normal(n) * math.sqrt(dials.bias)
        h = torch.tanh(s)
    v = normal(n)
    (found,) = torch.autograd.grad(h, start, v)
    return float((found.norm() / v.norm()) ** (1 / dials.layers))


class _Skipping(Crowd):
    """A crowd whose hidden layers of equal size have skip connections."""

    def states(self, x: torch.Tensor) -> list[torch.Tensor]:
        h = x.expand(len(self.weights[0]), *x.shape[-2:])
        found = []
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            found.append(torch.baddbmm(bias, h, weight.transpose(1, 2)))
            out = self.activation(found[-1]) / math.sqrt(len(self.weights))
            h = h + out if 0 < number < len(self.weights) - 1 else self.activation(found[-1])
        return found


def _accuracies(dials: Dials, depth: int, spread: float, run: LabRun) -> "np.ndarray":
    """Test accuracies of nets of that many hidden layers after training."""
    data = digits()
    kind = _Skipping if dials.skip else Crowd
    sizes = (data.x.shape[1], *[dials.trained_width] * depth, 10)
    generator = run.torch(100, depth)
    crowd = kind(dials.members, sizes, torch.tanh, generator, init="lecun", gain=math.sqrt(spread))
    with torch.no_grad():
        for bias in list(crowd.biases)[:-1]:
            bias.normal_(0, math.sqrt(dials.bias), generator=generator)
    optimiser = torch.optim.SGD(crowd.parameters(), lr=dials.rate)
    train_crowd(crowd, optimiser, data.x, data.y, generator, steps=range(dials.steps), size=64)
    return crowd.accuracies(data.x_test, data.y_test).numpy()
