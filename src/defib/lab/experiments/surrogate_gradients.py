"""May a backward pass use another derivative than the true one?

Claim
-----
The derivatives that are passed back "needn't be" the mathematical ones. NecroReLU is ReLU
forward and passes 0.1 back for negative inputs. For tanh one can pass 1 - x^2 instead of 1
- tanh(x)^2.

Prediction
----------
A small step against a vector v changes the loss by -(step) <v, g> with g the true gradient:
it lowers the loss if and only if <v, g> > 0. ReLU's surrogates agree with it in sign almost
everywhere that matters. 1 - x^2 is tanh's derivative if x is its output. With x the input
it has the wrong sign for |x| > 1: for 31.7 per cent of N(0, 1) numbers.

Method
------
ReLU nets on digits at random weights, 64 bits. (1) The loss before and after a small step
against the gradient that the surrogate gives. (2) The same for random mixtures of the true
gradient and noise: does the sign of the change agree with the inner product? (3)
NecroReLU's values and derivatives on a grid. (4) The sign of 1 - x^2 on a tanh net's
inputs, and the cosine between the gradient it gives and the true one.

References:
----------
Bengio, Leonard, Courville 2013, Estimating or propagating gradients through stochastic
neurons; Horuz et al. 2025, The resurrection of the ReLU (SUGAR).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from defib.lab.data import Split, digits
from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, exact, grouped_share, mean, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.gauss import slope_of
from defib.lab.nets import mlp
from defib.nn import NecroReLU, SugarReLU


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    nets: int = dial(60, "random networks", quick=30)
    width: int = dial(32, "units of each of two hidden layers")
    samples: int = dial(200, "digits that the loss is taken over")
    step: float = dial(1e-4, "length of a step, in the weights' units")
    mixtures: int = dial(20, "random directions tried in each net", quick=10)
    necro: float = dial(0.1, "what NecroReLU passes back for negative inputs")
    sign: float = dial(1.0, "what every surrogate's gradient is multiplied by")
    scale: float = dial(1.0, "deviation of tanh's inputs")
    most: float = dial(0.8, "share of nets that counts as 'in general'")
    close: float = dial(0.9, "cosine from which a gradient counts as the true one")


class SurrogateGradients(Experiment[Dials]):
    """Steps along derivatives that are not the true ones."""

    slug = "surrogate-gradients"
    title = "Must the derivative that is passed back be the true one?"
    topic = Topic.ACTIVATIONS
    rows = ("S2-22", "S2-24", "S2-27")
    dials = Dials
    perturbations = (
        Perturbation(
            why="against the true gradient's half-space the loss rises",
            dials={"sign": -1.0},
            changes=("S2-22",),
        ),
        Perturbation(why="this is not the printed 0.1", dials={"necro": 0.3}, changes=("S2-24",)),
        Perturbation(
            why="for small inputs x and tanh x are nearly the same",
            dials={"scale": 0.05},
            changes=("S2-27",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        split = digits()
        surrogates = {"necro": NecroReLU(dials.necro), "sugar": SugarReLU()}
        fell = dict.fromkeys(surrogates, 0)
        agreed: list[int] = []
        cosines: dict[str, list[float]] = {name: [] for name in (*surrogates, "1 - x^2")}
        for k in run.track(range(dials.nets)):
            net = _Net(dials, split, torch.relu, run.torch(k))
            for name, activation in surrogates.items():
                v = [dials.sign * part for part in net.gradient(activation)]
                fell[name] += net.change(v) < 0
                cosines[name].append(_cosine(v, net.true))
            agreed.append(_agreements(dials, net, run.torch(k, 1)))
            smooth = _Net(dials, split, torch.tanh, run.torch(k), gain=dials.scale)
            cosines["1 - x^2"].append(_cosine(smooth.gradient(_WrongTanh.apply), smooth.true))
        return Measurement(
            parts=(
                *(
                    Part(
                        row="S2-22",
                        says=f"a small step along the gradient that {name} passes lowers a ReLU net's loss",
                        estimate=share(count, dials.nets),
                        region=at_least(dials.most),
                    )
                    for name, count in fell.items()
                ),
                Part(
                    row="S2-22",
                    says="a step lowers the loss just if its inner product with the gradient is positive",
                    estimate=grouped_share(agreed, [dials.mixtures] * dials.nets),
                    region=at_least(dials.most),
                ),
                *_necro(dials),
                *_tanh(dials, cosines["1 - x^2"], run),
            ),
            figure=Figure(
                title="Cosine between the gradient that is passed and the true one",
                x="derivative that is passed",
                y="cosine, mean over networks",
                lines=(bars("measured", [sum(values) / len(values) for values in cosines.values()]),),
                kind=Kind.BAR,
                labels=("NecroReLU for ReLU", "SUGAR for ReLU", "1 - x^2 for tanh"),
            ),
        )


class _WrongTanh(torch.autograd.Function):
    """tanh forward, 1 - x^2 backward, x being the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = 1 - x * x
        return gradient * slope


class _Net:
    """One random net on digits: its loss, and what each activation says is its gradient."""

    def __init__(
        self,
        dials: Dials,
        split: Split,
        activation: Callable[[Tensor], Tensor],
        generator: torch.Generator,
        gain: float = 1.0,
    ) -> None:
        init = "he" if activation is torch.relu else "lecun"
        sizes = (split.x.shape[1], dials.width, dials.width, 10)
        net = mlp(sizes, torch.relu, generator, init=init, gain=gain, dtype=torch.float64)
        self.parameters = list(net.parameters())
        self.activation = activation
        self.x, self.y = split.x[: dials.samples].double(), split.y[: dials.samples]
        self.step = dials.step
        self.true = self.gradient(activation)
        self.loss = self.value(self.parameters).item()

    def value(
        self, parameters: Sequence[Tensor], activation: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """The loss with these parameters."""
        h = self.x
        for number, (weight, bias) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
            if number:
                h = (activation or self.activation)(h)
            h = h @ weight.T + bias
        return torch.nn.functional.cross_entropy(h, self.y)

    def gradient(self, activation: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """What backpropagation gives with this activation."""
        return list(torch.autograd.grad(self.value(self.parameters, activation), self.parameters))

    def change(self, v: Sequence[Tensor]) -> float:
        """Of the loss, by a small step against ``v``."""
        size = torch.sqrt(torch.stack([part.square().sum() for part in v]).sum())
        with torch.no_grad():
            moved = [p - self.step / size * part for p, part in zip(self.parameters, v, strict=True)]
            return self.value(moved).item() - self.loss


def _inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return sum(float((x * y).sum()) for x, y in zip(a, b, strict=True))


def _cosine(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return _inner(a, b) / math.sqrt(_inner(a, a) * _inner(b, b))


def _agreements(dials: Dials, net: _Net, generator: torch.Generator) -> int:
    """Of how many mixtures of gradient and noise the step changes the loss as the inner product says."""
    count = 0
    size = _inner(net.true, net.true) ** 0.5
    for _ in range(dials.mixtures):
        noise = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in net.true]
        share_of = torch.randn((), generator=generator, dtype=torch.float64)
        length = _inner(noise, noise) ** 0.5
        v = [share_of * g / size + n / length for g, n in zip(net.true, noise, strict=True)]
        count += (net.change(v) < 0) == (_inner(v, net.true) > 0)
    return count


def _necro(dials: Dials) -> list[Part]:
    """NecroReLU on a grid: ReLU's values, and 1 or 0.1 passed back."""
    x = torch.linspace(-4, 4, 1000, dtype=torch.float64)
    necro = NecroReLU(dials.necro)
    passed = slope_of(necro)(x)
    printed = torch.full_like(x, 0.1).masked_fill(x > 0, 1.0)
    return [
        Part(
            row="S2-24",
            says="NecroReLU's values are ReLU's: largest difference",
            estimate=exact((necro(x) - x.relu()).abs().max().item(), n=len(x)),
            region=at_most(0.0),
        ),
        Part(
            row="S2-24",
            says="it passes 1 back for positive and 0.1 for negative inputs: largest difference",
            estimate=exact((passed - printed).abs().max().item(), n=len(x)),
            region=at_most(1e-12),
        ),
    ]


def _tanh(dials: Dials, cosines: Sequence[float], run: LabRun) -> list[Part]:
    """What is said of 1 - x^2."""
    x = torch.randn(20_000, generator=run.torch(0, 2), dtype=torch.float64) * dials.scale
    return [
        Part(
            row="S2-27",
            says="1 - x^2 has the sign of tanh's derivative: share of inputs where it has not",
            estimate=share(int((1 - x * x < 0).sum()), len(x)),
            region=at_most(1 - dials.close),
        ),
        Part(
            row="S2-27",
            says="the gradient that it gives is the true one (cosine)",
            estimate=mean(cosines),
            region=at_least(dials.close),
        ),
    ]
