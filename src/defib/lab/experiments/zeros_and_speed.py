"""Is a ReLU's hard zero the reason why it trains fast?

Claim
-----
The partial derivative of a ReLU is always zero for negative input, which is why it trains
fast. The derivative of an active ReLU is 1, while a sigmoid's is arbitrarily small.

Prediction
----------
relu'(s) = 0 for s < 0 and 1 for s > 0, exactly. sigmoid'(s) = sigma (1 - sigma) is at most 1/4
and falls as e^-|s|: arbitrarily small for large |s|, but near 1/4 at ordinary sums. If the
zero made training fast, then activations that have none would be slower: a leaky ReLU with a
small slope, or |s|, whose derivative is 1 on one side and -1 on the other.

Method
------
Derivatives by autograd. Then nets with two hidden layers on the digits, ReLU, leaky ReLU of
two slopes, |s| and sigmoid, each with the initialisation of its gain, at one learning rate,
on the same batches; the logarithm of the training loss at the end, network by network.

References:
----------
Glorot, Bordes, Bengio 2011, Deep sparse rectifier neural networks. He, Zhang, Ren, Sun 2015,
Delving deep into rectifiers (gain sqrt(2 / (1 + slope^2))).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, exact, median, paired_difference
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import Activation, batches, relu
from defib.lab.stacks import draw, fit


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(24, "networks of each activation", quick=12)
    width: int = dial(48, "units of each of the two hidden layers")
    slope: float = dial(0.01, "slope of the leaky ReLU, which has no zeros")
    drawn_slope: float = dial(0.3, "slope of another leaky ReLU, for the figure")
    zero_slope: float = dial(0.0, "slope of the ReLU for negative inputs: the zero of the claim")
    rate: float = dial(0.2, "learning rate of SGD")
    batch: int = dial(64, "samples of a batch")
    steps: int = dial(250, "steps of training", quick=120)
    far: float = dial(30.0, "a sum far from 0")
    tiny: float = dial(1e-12, "a derivative that counts as arbitrarily small")
    deviation: float = dial(1.0, "deviation of ordinary sums")
    small: float = dial(0.1, "a derivative that counts as small")
    ahead: float = dial(0.05, "difference of the logarithm of losses that counts as faster")


class ZerosAndSpeed(Experiment[Dials]):
    """ReLU, leaky ReLU and sigmoid in a race."""

    slug = "zeros-and-speed"
    title = "Is a ReLU's hard zero the reason why it trains fast?"
    topic = Topic.SPARSITY
    rows = ("S0-27", "S2-1")
    dials = Dials
    perturbations = (
        Perturbation(
            why="with a slope for negative inputs the derivative there is not 0",
            dials={"zero_slope": 0.1},
            changes=("S0-27",),
        ),
        Perturbation(
            why="at sums of deviation 20 a sigmoid's derivative is small as a rule",
            dials={"deviation": 20.0},
            changes=("S2-1",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        races = {name: _losses(*arm, dials, run) for name, arm in run.track(_arms(dials).items())}
        small = _leaky(dials.slope)
        ends = {name: _end(losses) for name, losses in races.items()}
        s = torch.randn(10000, generator=run.torch(1), dtype=torch.float64)
        s *= dials.deviation
        rectified, smooth = _derivative(relu(dials.zero_slope), s), _derivative(torch.sigmoid, s)
        distant = _derivative(torch.sigmoid, torch.tensor([-dials.far, dials.far], dtype=torch.float64))
        return Measurement(
            parts=(
                Part(
                    row="S0-27",
                    says="for negative input the derivative is 0; largest",
                    estimate=exact(float(rectified[s < 0].abs().max()), n=len(s)),
                    region=at_most(0.0),
                ),
                Part(
                    row="S0-27",
                    says=f"without the exact zero it is slower: ln loss of {small} minus ln loss of ReLU",
                    estimate=paired_difference(ends[small], ends["ReLU"]),
                    region=at_least(dials.ahead),
                ),
                Part(
                    row="S0-27",
                    says="without any zero it is slower: ln loss of |s| minus ln loss of ReLU",
                    estimate=paired_difference(ends["|s|"], ends["ReLU"]),
                    region=at_least(dials.ahead),
                ),
                Part(
                    row="S2-1",
                    says="the derivative of an active ReLU is 1; largest distance",
                    estimate=exact(float((rectified[s > 0] - 1).abs().max()), n=len(s)),
                    region=at_most(0.0),
                ),
                Part(
                    row="S2-1",
                    says=f"a sigmoid's can be arbitrarily small (at {dials.far:g})",
                    estimate=exact(float(distant.max())),
                    region=at_most(dials.tiny),
                ),
                Part(
                    row="S2-1",
                    says="and is small at ordinary, normal sums; median",
                    estimate=median(smooth),
                    region=at_most(dials.small),
                ),
            ),
            figure=Figure(
                title="Training loss, at one learning rate",
                x="step",
                y="cross-entropy, median network",
                log_y=True,
                lines=tuple(
                    line(name, range(len(losses)), losses.median(1).values) for name, losses in races.items()
                ),
            ),
        )


def _derivative(function: Activation, s: Tensor) -> Tensor:
    """Element by element, by autograd."""
    s = s.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(s).sum(), s)
    return gradient


def _leaky(slope: float) -> str:
    return f"leaky ReLU {slope:g}"


def _arms(dials: Dials) -> dict[str, tuple[Activation, str, float]]:
    """Activation, initialisation and its gain, by name."""

    def leaky(slope: float) -> tuple[Activation, str, float]:
        return relu(slope), "he", 1 / math.sqrt(1 + slope**2)

    return {
        "ReLU": leaky(dials.zero_slope),
        _leaky(dials.slope): leaky(dials.slope),
        _leaky(dials.drawn_slope): leaky(dials.drawn_slope),
        "|s|": (torch.abs, "lecun", 1.0),
        "sigmoid": (torch.sigmoid, "xavier", 1.0),
    }


def _losses(activation: Activation, init: str, gain: float, dials: Dials, run: LabRun) -> Tensor:
    """The losses of a training, shape (steps, R); the same batches for every activation."""
    data = digits(centred=True)
    generator = run.torch(0)
    sizes = (data.x.shape[1], dials.width, dials.width, 10)
    stack = draw(dials.networks, sizes, generator, init=init, gain=gain)
    optimiser = torch.optim.SGD(stack.parameters(), lr=dials.rate)
    order = batches(len(data.x), dials.batch, dials.steps, generator)
    return fit(stack, optimiser, data.x, data.y, order, activation)


def _end(losses: Tensor) -> Tensor:
    """The logarithm of each network's mean loss over the last tenth of the steps."""
    return losses[-max(1, len(losses) // 10) :].double().mean(0).log()
