"""Does a small gradient mean that training has succeeded, and can one tell when it does not?

Claim
-----
A low derivative means that the error is at its lowest. Repeat until the gradient is near 0:
then training has succeeded. But also: these unwanted states are not easily told from a minimum.

Prediction
----------
A gradient is small at a minimum with nothing left to learn; at a minimum where contradicting
samples cancel; in front of a dead layer; at saddles (all weights 0, with one hidden layer
or two); where units are saturated; and where the loss has been scaled so that it underflows.
Only the first two are at their lowest error. The norm of the gradient cannot tell them apart,
because near each of them it may have any small size. Several numbers together can: the
cancellation index |mean g_i| / mean |g_i| over samples i (about 1 / sqrt(n) for random
directions, far less at a stationary point of conflicting samples), the size of the samples'
gradients, the share of exact zeros, the smallest curvature over the largest, what float16
loses, the loss over that of the best constant.

Method
------
Each state planted in random tanh and ReLU nets, then moved a random small distance. The numbers
are judged by their nearest neighbour: a state is told if the state most similar in the
numbers, of all other nets, is of the same kind. Then descent from each: of the runs whose
gradient is small at the end, the share whose loss is at its lowest. Every kind of state is
planted equally often; the shares are of these, not of what occurs in practice.

References:
----------
Dauphin et al. 2014, Identifying and attacking the saddle point problem; McCandlish et al.
2018, An empirical model of large-batch training (the noise of per-sample gradients).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import grad, vmap

from defib.lab.dials import dial
from defib.lab.estimate import ALWAYS, Region, at_most, grouped_share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, line
from defib.lab.flat import FlatNet, hessian


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(100, "nets planted with each state", quick=40, paper=400)
    samples: int = dial(24, "samples of each data set")
    width: int = dial(6, "hidden units")
    descent: int = dial(300, "steps of descent from each state", quick=100)
    rate: float = dial(0.1, "learning rate of the descent")
    small: float = dial(1e-3, "a gradient norm below this is small")
    lowest: float = dial(0.01, "a loss is at its lowest within this share of the targets' variance")
    told: float = dial(0.5, "largest share of states told right that counts as not easily told")
    convex: bool = dial(False, "whether the nets are linear, and the states their different starts")


class SmallGradientStates(Experiment[Dials]):
    """Seven planted states of small gradient, and their numbers."""

    slug = "small-gradient-states"
    title = "Does a small gradient mean that training has succeeded, and can one tell when it does not?"
    topic = Topic.STATIONARY
    rows = ("S0-12", "S0-13", "S4-2")
    dials = Dials
    perturbations = (
        Perturbation(
            why="in a linear model every start ends in one state, at the lowest error: nothing to tell",
            dials={"convex": True, "descent": 1000},
            changes=("S0-12", "S0-13", "S4-2"),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        states = _linear_states(dials, run) if dials.convex else _states(dials, run)
        numbers = {name: _numbers(state) for name, state in run.track(states.items())}
        joint = torch.cat(list(numbers.values()))
        kinds = torch.arange(len(states)).repeat_interleave(dials.networks)
        by_all, by_norm = _told(joint, kinds), _told(joint[:, :1], kinds)
        small = torch.cat([s.slope() < dials.small for s in states.values()])
        low = torch.cat([s.excess() <= dials.lowest for s in states.values()])
        ends = [s.descend(dials.descent, dials.rate) for s in states.values()]
        stopped = torch.cat([s.slope() < dials.small for s in ends])
        success = torch.cat([s.excess() <= dials.lowest for s in ends])
        every, few = torch.ones_like(small), at_most(dials.told)

        def part(row: str, says: str, hits: Tensor, of: Tensor, region: Region) -> Part:
            # Net k of every state has the same data: the states of one net are one repetition.
            hit, asked = ((which.reshape(len(states), -1)).sum(0) for which in (hits & of, of))
            return Part(row=row, says=says, estimate=grouped_share(hit, asked), region=region)

        parts = (
            part("S0-12", "by the gradient's norm alone they are not told", by_norm, every, few),
            part("S0-12", "by several numbers together they are not told", by_all, every, few),
            part("S0-13", "where the gradient is small the error is at its lowest", low, small, ALWAYS),
            part("S4-2", "descent that has come to a small gradient has succeeded", success, stopped, ALWAYS),
        )
        return Measurement(parts=parts, figure=_figure(numbers))


@dataclass(frozen=True, kw_only=True)
class _State:
    """Nets in one state, each with its data. R nets, N samples.

    Attributes:
        net: Their shape.
        theta: Parameters, shape (R, P).
        x: Inputs, shape (R, N, D).
        y: Targets, shape (R, N).
        scale: Factor of the loss, shape (R,).
        floor: The lowest mean squared error there is, shape (R,).
    """

    net: FlatNet
    theta: Tensor
    x: Tensor
    y: Tensor
    scale: Tensor
    floor: Tensor

    def one(self, theta: Tensor, x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        """The loss of one net."""
        return scale * (self.net(theta, x)[..., 0] - y).square().mean()

    def of_all(self, function: Callable[..., Tensor]) -> Tensor:
        """Of every net's parameters, data and scale."""
        found: Tensor = vmap(function)(self.theta, self.x, self.y, self.scale)
        return found

    def slope(self) -> Tensor:
        """Norm of the gradient, shape (R,)."""
        norms: Tensor = self.of_all(grad(self.one)).norm(dim=1)
        return norms

    def excess(self) -> Tensor:
        """The mean squared error above the lowest, as a share of the targets' variance, shape (R,)."""
        return (self.of_all(self.one) / self.scale - self.floor) / self.y.var(1)

    def descend(self, steps: int, rate: float) -> "_State":
        """The same nets after some steps."""
        state = self
        for _ in range(steps):
            state = replace(state, theta=state.theta - rate * state.of_all(grad(self.one)))
        return state


def _states(dials: Dials, run: LabRun) -> dict[str, _State]:
    """The seven states, each moved by a random small distance."""
    generator = run.torch(0)
    r, n, d = dials.networks, dials.samples, 3
    tanh = FlatNet(sizes=(d, dials.width, 1), activation=torch.tanh)
    deep = FlatNet(sizes=(d, dials.width, dials.width, 1), activation=torch.tanh)
    relu = FlatNet(sizes=(d, dials.width, 1), activation=torch.relu)
    x = torch.randn(r, n, d, generator=generator, dtype=torch.float64)
    teacher = tanh.start(r, generator, gain=2.0, bias=0.5)
    y = vmap(tanh)(teacher, x)[..., 0]
    one, zero = torch.ones(r, dtype=torch.float64), torch.zeros(r, dtype=torch.float64)

    def at(net: FlatNet, theta: Tensor, scale: Tensor = one) -> _State:
        distance = 10 ** -(4 + 4 * torch.rand(r, 1, generator=generator, dtype=torch.float64))
        moved = theta + distance * torch.randn(theta.shape, generator=generator, dtype=torch.float64)
        return _State(net=net, theta=moved, x=x, y=y, scale=scale, floor=zero)

    fitted = at(tanh, teacher)
    dead = relu.start(r, generator, bias=0.0)
    dead[:, d * dials.width : (d + 1) * dials.width] = -50
    flat = [torch.zeros(r, net.count, dtype=torch.float64) for net in (tanh, deep)]
    for theta in (dead, *flat):
        theta[:, -1] = y.mean(1)
    random = tanh.start(r, generator, bias=0.5)
    tiny = 10 ** -(8.5 + torch.rand(r, generator=generator, dtype=torch.float64))
    return {
        "minimum": fitted,
        "minimum, contradicting samples": replace(
            fitted, x=torch.cat([x, x], 1), y=torch.cat([y + 1, y - 1], 1), floor=one
        ),
        "dead layer": at(relu, dead),
        "all weights 0": at(tanh, flat[0]),
        "all weights 0, two hidden layers": at(deep, flat[1]),
        "saturated units": at(tanh, _saturated(tanh, random, x, y)),
        "a loss that underflows": at(tanh, random, tiny),
    }


def _saturated(net: FlatNet, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Hidden weights made huge, output layer solved by least squares."""
    hidden = net.sizes[1]
    theta = theta.clone()
    theta[:, : -hidden - 1] *= 1e5

    def features(one: Tensor, inputs: Tensor) -> Tensor:
        weight, bias = net.layers(one)[0]
        return torch.tanh(inputs @ weight.T + bias)

    h = vmap(features)(theta, x)
    h = torch.cat([h, torch.ones_like(h[..., :1])], 2)
    theta[:, -hidden - 1 :] = (torch.linalg.pinv(h) @ y[..., None])[..., 0]
    return theta


def _linear_states(dials: Dials, run: LabRun) -> dict[str, _State]:
    """Ends of descent for linear models, from three kinds of start."""
    generator = run.torch(0)
    r = dials.networks
    net = FlatNet(sizes=(3, 1), activation=torch.tanh)
    x = torch.randn(r, dials.samples, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(r, dials.samples, generator=generator, dtype=torch.float64)
    h = torch.cat([x, torch.ones_like(x[..., :1])], 2)
    floor = (h @ torch.linalg.pinv(h) @ y[..., None] - y[..., None]).square().mean((1, 2))
    start = net.start(r, generator)
    starts = {"from 0": 0 * start, "from random weights": start, "from large weights": 10 * start}
    one = torch.ones(r, dtype=torch.float64)
    return {
        name: _State(net=net, theta=theta, x=x, y=y, scale=one, floor=floor).descend(
            dials.descent, dials.rate
        )
        for name, theta in starts.items()
    }


NUMBERS = (
    "log10 |g|",
    "log10 mean |g_i|",
    "log10 cancellation index",
    "share of zeros",
    "lowest / largest curvature",
    "share that float16 loses",
    "loss / constant's loss",
)


def _numbers(state: _State) -> Tensor:
    """The numbers of each net, shape (R, 7)."""
    floor = 1e-20

    def each(theta: Tensor, x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        found: Tensor = vmap(grad(state.one), (None, 0, 0, None))(theta, x, y, scale)
        return found

    samples = state.of_all(each)
    mean = samples.mean(1)
    sizes = samples.norm(dim=2).mean(1)
    curvatures = torch.linalg.eigvalsh(state.of_all(hessian(state.one)))
    zero = mean == 0
    lost = (mean.half() == 0) & ~zero
    constant = state.scale * state.y.var(1, unbiased=False)
    return torch.stack(
        [
            mean.norm(dim=1).clamp(min=floor).log10(),
            sizes.clamp(min=floor).log10(),
            (mean.norm(dim=1) / sizes.clamp(min=floor)).clamp(min=floor).log10(),
            zero.double().mean(1),
            curvatures[:, 0] / curvatures[:, -1].clamp(min=floor),
            lost.double().mean(1),
            state.of_all(state.one) / constant,
        ],
        1,
    )


def _told(numbers: Tensor, kinds: Tensor) -> Tensor:
    """Whether the nearest other net, in standardised numbers, is of the same kind; shape (K,)."""
    scaled = (numbers - numbers.mean(0)) / numbers.std(0).clamp(min=1e-12)
    distance = torch.cdist(scaled, scaled)
    distance.fill_diagonal_(torch.inf)
    return kinds[distance.argmin(1)] == kinds


def _figure(numbers: dict[str, Tensor]) -> Figure:
    return Figure(
        title="Numbers of states with a small gradient (medians)",
        x="number",
        y="median over nets",
        lines=tuple(
            line(name, range(len(NUMBERS)), found.median(0).values) for name, found in numbers.items()
        ),
        kind=Kind.BAR,
        labels=NUMBERS,
    )
