"""Does one negative value block back-propagation, or are there paths around it?

Claim
-----
One negative value blocks back-propagation completely. Against it: cells upstream of a
deactivated cell still learn through other paths around it; hard zeros do not hurt so long as
the gradient can flow along some paths.

Prediction
----------
A path goes through one unit of each hidden layer. It is active on a sample if all its units
fire. The number of active paths is the product, layer by layer, of the numbers of units that
fire. A sample sends gradient to the first layer if and only if it has an active path (weights
in general position). In a fresh net half of the units fire on a sample, so about 2^-L of all
paths are active at depth L, and a sample has none with probability about L 2^-N at width N.
A path makes learning possible; it does not make it as good: fewer paths, fewer features.

Method
------
Fresh nets and random inputs: whether a sample has an active path (counted), whether its
gradient in the first layer is 0 (autograd, float64). One unit of the second layer silenced:
do the units of the first still get gradient? Last, nets on the digits most of whose units
in one layer are dead, against whole ones: training loss.

References:
----------
Glorot, Bordes, Bengio 2011, Deep sparse rectifier neural networks, section 3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, exact, grouped_share, paired_difference
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import batches, relu
from defib.lab.stacks import Stack, draw, fit


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(20, "networks of each width", quick=10)
    samples: int = dial(100, "random inputs of each")
    inputs: int = dial(16, "inputs of a network")
    depth: int = dial(6, "hidden layers")
    width: int = dial(16, "units of a layer of the net that is judged")
    narrow: tuple[int, ...] = dial((2, 3, 4, 6, 8), "narrower nets, in which paths can be missing")
    bias: float = dial(0.1, "deviation of the biases of fresh networks")
    margin: float = dial(0.5, "how far below 0 a silenced unit's largest sum is put")
    slope: float = dial(0.0, "slope of the activation for negative inputs; 0 is ReLU")
    trained: int = dial(12, "networks trained", quick=6)
    trained_width: int = dial(32, "hidden units of these")
    spared: int = dial(3, "of these, units that are not dead")
    steps: int = dial(300, "steps of training", quick=100)
    rate: float = dial(0.1, "learning rate of SGD")
    batch: int = dial(64, "samples of a batch")
    some: float = dial(0.05, "share that counts as some")
    worse: float = dial(0.05, "difference of losses that counts as none")


class ActivePaths(Experiment[Dials]):
    """Counting paths and looking at gradients."""

    slug = "active-paths"
    title = "Does one negative value block back-propagation, or are there paths around it?"
    topic = Topic.SPARSITY
    rows = ("S0-28", "S2-14", "S4-22")
    dials = Dials
    perturbations = (
        Perturbation(
            why="in a chain of single units there is no way around",
            dials={"width": 1},
            changes=("S0-28", "S4-22"),
        ),
        Perturbation(
            why="with all units spared the zeros that are left do not hurt",
            dials={"spared": 32},
            changes=("S2-14",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        widths = sorted({dials.width, *dials.narrow})
        seen = {w: _samples(w, dials, run.torch(0, w)) for w in run.track(widths)}
        negative, blocked = seen[dials.width].negative, seen[dials.width].blocked
        wrong = sum(int((s.blocked != (s.paths == 0)).sum()) for s in seen.values())
        n = sum(s.paths.numel() for s in seen.values())
        whole, maimed = (_loss(dials, run.torch(2), spared) for spared in (dials.trained_width, dials.spared))
        return Measurement(
            parts=(
                Part(
                    row="S4-22",
                    says="a sample on which some unit is negative sends no gradient to the first layer",
                    estimate=grouped_share((negative & blocked).sum(1), negative.sum(1)),
                    region=at_least(1 - dials.some),
                ),
                Part(
                    row="S0-28",
                    says="around a silenced unit of the second layer every unit of the first gets gradient",
                    estimate=grouped_share(*_around(dials, run.torch(1))),
                    region=at_least(1 - dials.some),
                ),
                Part(
                    row="S2-14",
                    says="a sample sends gradient if and only if it has an active path; exceptions",
                    estimate=exact(wrong, n=n),
                    region=at_most(0.0),
                ),
                Part(
                    row="S2-14",
                    says="zeros do not hurt as long as paths are left: "
                    f"loss with {dials.spared} of {dials.trained_width} units minus that of all",
                    estimate=paired_difference(maimed, whole),
                    region=at_most(dials.worse),
                ),
            ),
            figure=_figure(seen, dials),
        )


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Of every sample of every network of one width, shape (R, N).

    Attributes:
        paths: Share of all paths that is active.
        negative: Whether some unit is negative.
        blocked: Whether the gradient in the first layer is exactly 0.
    """

    paths: Tensor
    negative: Tensor
    blocked: Tensor


def _samples(width: int, dials: Dials, generator: torch.Generator) -> Seen:
    """Looks at fresh networks of a width, all samples by themselves."""
    _, sums = _fresh(width, dials, generator)
    paths = torch.ones(sums[0].shape[:2], dtype=torch.float64)
    for s in sums[:-1]:
        paths = paths * (s > 0).double().mean(2)
    # A sample's gradient in the first layer is that of its output there: d out / d s, times its input.
    (gradient,) = torch.autograd.grad(sums[-1].sum(), sums[0])
    negative = torch.stack([(s < 0).any(2) for s in sums[:-1]]).any(0)
    return Seen(paths=paths, negative=negative, blocked=(gradient == 0).all(2))


def _fresh(width: int, dials: Dials, generator: torch.Generator) -> tuple[Stack, list[Tensor]]:
    """Networks with He weights and small biases, and their sums on random inputs."""
    sizes = (dials.inputs, *[width] * dials.depth, 1)
    stack = draw(dials.networks, sizes, generator, bias=dials.bias, dtype=torch.float64)
    shape = (dials.networks, dials.samples, dials.inputs)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return stack, stack.sums(x, relu(dials.slope))


def _around(dials: Dials, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Units of each network's first layer that get gradient around a silenced unit, and that fire; (R,)."""
    stack, sums = _fresh(dials.width, dials, generator)
    with torch.no_grad():
        stack.biases[1][..., 0] -= sums[1][..., 0].amax(1, keepdim=True) + dials.margin
    shape = (dials.networks, dials.samples, dials.inputs)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    sums = stack.sums(x, relu(dials.slope))
    (gradient,) = torch.autograd.grad(sums[-1].sum(), stack.weights[0])
    fires = (sums[0] > 0).any(1)
    return (fires & (gradient != 0).any(2)).sum(1), fires.sum(1)


def _loss(dials: Dials, generator: torch.Generator, spared: int) -> list[float]:
    """The loss after training with all but ``spared`` hidden units dead; the mean of the last tenth."""
    data = digits(centred=True)
    sizes = (data.x.shape[1], dials.trained_width, 10)
    stack = draw(dials.trained, sizes, generator)
    with torch.no_grad():
        top = stack.sums(data.x, torch.relu)[0].amax(1, keepdim=True)
        stack.biases[0][..., spared:] -= top[..., spared:] + dials.margin
    optimiser = torch.optim.SGD(stack.parameters(), lr=dials.rate)
    order = batches(len(data.x), dials.batch, dials.steps, generator)
    losses = fit(stack, optimiser, data.x, data.y, order, torch.relu)
    return list(losses[-(dials.steps // 10) :].mean(0).double())


def _figure(seen: dict[int, Seen], dials: Dials) -> Figure:
    blocked = [
        grouped_share(s.blocked.sum(1), torch.full((len(s.blocked),), dials.samples)) for s in seen.values()
    ]
    return Figure(
        title=f"Samples that send no gradient through {dials.depth} layers",
        x="units of a layer",
        y="share of samples",
        lines=(
            line(
                "measured",
                seen,
                [e.value for e in blocked],
                low=[e.low for e in blocked],
                high=[e.high for e in blocked],
            ),
            line(
                "no active path",
                seen,
                [1 - (1 - 2.0**-w) ** dials.depth for w in seen],
                dashed=True,
            ),
        ),
    )
