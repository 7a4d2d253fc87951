"""What is a sparse code good for?

Claim
-----
Sparse codes disentangle: the set of active units is roughly conserved under small changes of
the input. Their size varies with the input. They are more likely to be linearly separable.
They are distributed but sparse: far more patterns than units occur. So zeros are an advantage.

Prediction
----------
A unit changes its state only if its sum s is within the change of the input of 0: for small
noise of relative size e the share of changed states is about e / pi (two normal sums of
correlation 1 / sqrt(1 + e^2) differ in sign with probability arctan(e) / pi). Of n points in
general position in D dimensions a linear classifier separates a random two-colouring almost
surely if n < D, almost never if n > 2D (Cover). A wide ReLU code raises D from that of the
inputs to that of the code; so does any other non-linear code, dense or not.

Method
------
A trained net on the digits: states of its last hidden layer on test digits, clean and with
noise; number of active units, number of distinct patterns on the training digits. Random
two-colourings of random points: the share that is separable (a linear program) from the
inputs, from a random ReLU code, from a tanh code of the same weights, which has no zeros.
Test error of ReLU nets against leaky ones, and the share of products by 0.

References:
----------
Glorot, Bordes, Bengio 2011, Deep sparse rectifier neural networks, section 2.2. Cover 1965,
Geometrical and statistical properties of systems of linear inequalities.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from defib.lab.data import Split, digits
from defib.lab.dials import dial
from defib.lab.estimate import CONFIDENCE, Estimate, Region, at_least, at_most, mean, paired_difference
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import Activation, batches, relu
from defib.lab.stacks import Stack, draw, fit


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(40, "networks trained", quick=8)
    width: int = dial(64, "units of each of the two hidden layers")
    rate: float = dial(0.1, "learning rate of SGD")
    batch: int = dial(64, "samples of a batch")
    steps: int = dial(400, "steps of training", quick=80)
    noise: float = dial(0.1, "noise on an input, in deviations")
    loud: tuple[float, ...] = dial((0.03, 0.3, 1.0), "other noises, for the figure")
    slope: float = dial(0.0, "slope of the activation for negative inputs; 0 is ReLU")
    leaky: float = dial(0.01, "slope of the net without zeros that it is compared with")
    shift: float = dial(0.0, "what is added to all sums of the code that is looked at")
    colourings: int = dial(60, "random two-colourings", quick=55)
    points: int = dial(60, "points that are coloured")
    point_inputs: int = dial(16, "dimensions of the points")
    code: int = dial(120, "units of the random code")
    conserved: float = dial(0.1, "share of states that may change for a set to be roughly conserved")
    varies: float = dial(0.05, "deviation of the number of active units, over its mean, that counts")
    more: float = dial(0.1, "difference of shares that counts as more likely")
    far_more: float = dial(4.0, "patterns for each unit that count as far more than units")
    sparse: float = dial(0.6, "share of active units that still counts as sparse")
    saved: float = dial(0.3, "share of products by 0 that counts as an advantage")
    better: float = dial(0.005, "difference of test errors that counts as better")


class SparseCode(Experiment[Dials]):
    """Four properties of the states of a ReLU layer."""

    slug = "sparse-code"
    title = "What is a sparse code good for?"
    topic = Topic.SPARSITY
    rows = ("S2-9", "S2-10", "S2-11", "S2-12", "S4-29")
    dials = Dials
    perturbations = (
        Perturbation(
            why="noise as large as the input conserves nothing",
            dials={"noise": 1.0},
            changes=("S2-9",),
        ),
        Perturbation(
            why="sums shifted far up make every unit fire on every input",
            dials={"shift": 100.0},
            changes=("S2-10", "S2-12", "S4-29"),
        ),
        Perturbation(
            why="a code no wider than the inputs separates no more",
            dials={"code": 16},
            changes=("S2-11",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        data = digits(centred=True)
        stack, error = _trained(relu(dials.slope), data, dials, run)
        _, other = _trained(relu(dials.leaky), data, dials, run)
        flips = {
            noise: _flips(stack, data, noise, dials, run.torch(2)) for noise in (dials.noise, *dials.loud)
        }
        active = _states(stack, data.x, dials)
        return Measurement(
            parts=(
                *_properties(dials, flips, active),
                *_separable(dials, run),
                _part(
                    "S4-29",
                    "zeros save work: share of products by 0",
                    1 - _share(active),
                    at_least(dials.saved),
                ),
                Part(
                    row="S4-29",
                    says="zeros make nets better: test error of leaky ReLU minus that of ReLU",
                    estimate=paired_difference(other, error),
                    region=at_least(dials.better),
                ),
            ),
            figure=_figure(flips),
        )


def _part(row: str, says: str, numbers: Tensor, region: Region) -> Part:
    return Part(row=row, says=says, estimate=mean(numbers), region=region)


def _share(active: Tensor) -> Tensor:
    """The share of active units of each network: (R, N, H) to (R,)."""
    return active.double().mean((1, 2))


def _properties(dials: Dials, flips: dict[float, Tensor], active: Tensor) -> list[Part]:
    counts = active.sum(2).double()
    patterns = torch.tensor([len(torch.unique(net, dim=0)) for net in active], dtype=torch.float64)
    return [
        _part(
            "S2-9",
            "small noise changes few states; share",
            flips[dials.noise],
            at_most(dials.conserved),
        ),
        _part(
            "S2-10",
            "the number of active units varies: deviation over mean",
            counts.std(1) / counts.mean(1),
            at_least(dials.varies),
        ),
        _part(
            "S2-12",
            "far more patterns than units occur: patterns for each unit",
            patterns / active.shape[2],
            at_least(dials.far_more),
        ),
        _part("S2-12", "and they are sparse: share of active units", _share(active), at_most(dials.sparse)),
    ]


def _trained(activation: Activation, data: Split, dials: Dials, run: LabRun) -> tuple[Stack, Tensor]:
    """Trained networks and their test errors, shape (R,); the same draws for every activation."""
    generator = run.torch(1)
    sizes = (data.x.shape[1], dials.width, dials.width, 10)
    stack = draw(dials.networks, sizes, generator)
    optimiser = torch.optim.SGD(stack.parameters(), lr=dials.rate)
    order = list(batches(len(data.x), dials.batch, dials.steps, generator))
    fit(stack, optimiser, data.x, data.y, run.track(order), activation)
    with torch.no_grad():
        guesses = stack.sums(data.x_test, activation)[-1].argmax(2)
    return stack, (guesses != data.y_test).double().mean(1)


def _states(stack: Stack, x: Tensor, dials: Dials) -> Tensor:
    """Which units of the last hidden layer are active, (R, N, H)."""
    with torch.no_grad():
        return stack.sums(x, relu(dials.slope))[-2] + dials.shift > 0


def _flips(stack: Stack, data: Split, noise: float, dials: Dials, generator: torch.Generator) -> Tensor:
    """The share of states that noise changes, shape (R,)."""
    x = data.x_test
    disturbed = x + noise * x.std() * torch.randn(x.shape, generator=generator)
    return (_states(stack, x, dials) != _states(stack, disturbed, dials)).double().mean((1, 2))


def _separable(dials: Dials, run: LabRun) -> list[Part]:
    """How often a random two-colouring is separable: in the inputs, in a ReLU code, in a dense code."""
    numpy = run.numpy(3)
    hits: dict[str, list[float]] = {"inputs": [], "sparse": [], "dense": []}
    for _ in run.track(range(dials.colourings)):
        x = numpy.standard_normal((dials.points, dials.point_inputs))
        s = x @ numpy.standard_normal((dials.point_inputs, dials.code)) / math.sqrt(dials.point_inputs)
        colours = numpy.choice([-1.0, 1.0], dials.points)
        codes = {"inputs": x, "sparse": np.maximum(s, dials.slope * s), "dense": np.tanh(s)}
        for name, code in codes.items():
            hits[name].append(float(_splits(code, colours)))

    def more(says: str, than: str) -> Part:
        estimate: Estimate = _sure(paired_difference(hits["sparse"], hits[than]), dials.colourings)
        return Part(row="S2-11", says=says, estimate=estimate, region=at_least(dials.more))

    return [
        more("more colourings are separable in a sparse code than in the inputs; difference", "inputs"),
        more("more than in an equally wide dense code; difference", "dense"),
    ]


def _sure(estimate: Estimate, n: int) -> Estimate:
    """A difference of shares that was the same in every pair: its interval by the rule of n trials."""
    if estimate.low < estimate.high:
        return estimate
    half = 1 - ((1 - CONFIDENCE) / 2) ** (1 / n)
    return Estimate(value=estimate.value, low=estimate.value - half, high=estimate.value + half, n=n)


def _splits(
    code: "np.ndarray[tuple[int, int], np.dtype[np.float64]]",
    colours: "np.ndarray[tuple[int], np.dtype[np.float64]]",
) -> bool:
    """Whether some hyperplane separates the colours: is there (w, c) with colour (w x + c) >= 1?"""
    from scipy.optimize import linprog

    rows = -colours[:, None] * np.concatenate([code, np.ones((len(code), 1))], 1)
    free = [(None, None)] * rows.shape[1]
    found = linprog(np.zeros(rows.shape[1]), A_ub=rows, b_ub=-np.ones(len(rows)), bounds=free)
    return bool(found.status == 0)


def _figure(flips: dict[float, Tensor]) -> Figure:
    noises = sorted(flips)
    estimates = [mean(flips[noise]) for noise in noises]
    return Figure(
        title="Changed states in the last hidden layer",
        x="noise / deviation of the input",
        y="share of units that change state",
        log_x=True,
        log_y=True,
        lines=(
            line(
                "measured",
                noises,
                [e.value for e in estimates],
                low=[e.low for e in estimates],
                high=[e.high for e in estimates],
            ),
            line(
                "normal sums: arctan(e) / pi", noises, [math.atan(e) / math.pi for e in noises], dashed=True
            ),
        ),
    )
