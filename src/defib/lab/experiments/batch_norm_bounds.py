"""Does batch norm in front of a ReLU prevent dead units?

Claim
-----
A batch norm layer in front of a ReLU effectively prevents dead units. Batch norm is the
centring of all feature values.

Prediction
----------
On a training batch of N samples a channel's normalised values z have mean 0 and mean square
1; then max z >= 1/sqrt(N-1) and max z <= sqrt(N-1), and both are attained (one outlier low,
one outlier high). The unit gets gamma z + beta. So with gamma > 0 it is alive for certain if
beta > -gamma / sqrt(N-1): at the start, beta = 0, always. It is dead for certain if beta <=
-gamma sqrt(N-1). In between it depends on the data. Training moves beta, and the bound has
gone. In evaluation mode batch norm is a fixed affine map: nothing is centred on the batch
at hand.

Method
------
Both bounds on the batches that attain them and on random ones. Then a net with one
hidden layer of 64 units on the digits, batch norm before the ReLU, SGD with momentum: units
dead on all training samples at the start and after training at a moderate and at a large
learning rate. Last the mean and the deviation of the channels of a new batch, in training
mode and in evaluation mode.

References:
----------
Ioffe, Szegedy 2015, Batch normalization. The bounds follow from sum z = 0, sum z^2 = N.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import Estimate, at_most, exact, grouped_share, mean, near
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import Lambda, batches, fill, linears, relu, train


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    sizes: tuple[int, ...] = dial((2, 8, 32, 128), "batch sizes at which the bounds are tried")
    new: int = dial(2000, "samples of the new batch")
    draws: int = dial(2000, "random batches for each size", quick=500)
    networks: int = dial(8, "networks trained", quick=2, paper=20)
    width: int = dial(64, "hidden units")
    batch: int = dial(64, "samples of a batch in training")
    steps: int = dial(200, "steps of training", quick=100)
    rates: tuple[float, ...] = dial((0.01, 0.1, 1.0, 3.0), "learning rates; the last is the large one")
    momentum: float = dial(0.9, "momentum of SGD")
    learn_beta: bool = dial(True, "whether training moves beta and gamma")
    offset: float = dial(2.0, "mean of the inputs of the new batch, in deviations")
    spread: float = dial(3.0, "deviation of the new batch's channels")
    some: float = dial(0.05, "share of units that counts as some")
    rounding: float = dial(1e-6, "breach of a bound that counts as rounding")
    tolerance: float = dial(0.02, "difference of two numbers that counts as none")


class BatchNormBounds(Experiment[Dials]):
    """The exact conditions, and what training does to them."""

    slug = "batch-norm-bounds"
    title = "Does batch norm in front of a ReLU prevent dead units?"
    topic = Topic.DYING_RELU
    rows = ("S0-17", "S4-38")
    dials = Dials
    perturbations = (
        Perturbation(
            why="as long as beta and gamma stay as they were at the start the guarantee holds",
            dials={"learn_beta": False},
            changes=("S0-17",),
        ),
        Perturbation(
            why="a batch of deviation 1 around 0 looks the same centred only, and in every mode",
            dials={"offset": 0.0, "spread": 1.0},
            changes=("S4-38",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        error = max(_bound_error(size, dials, run.torch(0, size)) for size in dials.sizes)
        grid = [(rate, number) for rate in dials.rates for number in range(dials.networks)]
        starts: list[int] = []
        counts: dict[float, list[int]] = {rate: [] for rate in dials.rates}
        for rate, number in run.track(grid):
            start, end = _trained(rate, dials, run.torch(1, number))
            counts[rate].append(end)
            if rate == dials.rates[0]:  # the same nets begin at every rate
                starts.append(start)
        few = at_most(dials.some)

        def of_units(dead: list[int]) -> Estimate:
            return grouped_share(dead, [dials.width] * len(dead))

        parts = [
            Part(
                row="S0-17",
                says="with gamma > 0 and beta = 0 every unit fires on its batch: the largest value is "
                "1/sqrt(N-1) to sqrt(N-1); worst breach, and distance where a bound is attained",
                estimate=exact(error, n=dials.draws * len(dials.sizes)),
                region=at_most(dials.rounding),
            ),
            Part(row="S0-17", says="no unit is dead at the start", estimate=of_units(starts), region=few),
        ]
        parts += [
            Part(
                row="S0-17",
                says=f"no unit is dead after training at rate {rate:g}",
                estimate=of_units(counts[rate]),
                region=few,
            )
            for rate in (dials.rates[0], dials.rates[-1])
        ]
        return Measurement(
            parts=(*parts, *_centring(dials, run.torch(2))),
            figure=_figure(dials, {rate: of_units(dead) for rate, dead in counts.items()}),
        )


def _bound_error(size: int, dials: Dials, generator: torch.Generator) -> float:
    """By how much a batch breaches the bounds, or fails to attain them where it must."""
    low, high = 1 / math.sqrt(size - 1), math.sqrt(size - 1)
    norm = nn.BatchNorm1d(dials.draws, eps=1e-14, affine=False, dtype=torch.float64)
    top = norm(torch.randn(size, dials.draws, generator=generator, dtype=torch.float64)).amax(0)
    outlier = torch.zeros(size, dials.draws, dtype=torch.float64)
    outlier[0] = 1.0
    attained_high = norm(outlier).amax(0) - high
    attained_low = norm(-outlier).amax(0) - low
    breaches = [low - top, top - high, attained_high.abs(), attained_low.abs()]
    return max(0.0, *(float(b.max()) for b in breaches))


def _trained(rate: float, dials: Dials, generator: torch.Generator) -> tuple[int, int]:
    """Units dead on all training samples (statistics of all of them), at the start and at the end."""
    data = digits(centred=False)
    net = nn.Sequential(
        nn.utils.skip_init(nn.Linear, data.x.shape[1], dials.width),  # type: ignore[no-untyped-call]
        nn.BatchNorm1d(dials.width),
        Lambda(relu()),
        nn.utils.skip_init(nn.Linear, dials.width, 10),  # type: ignore[no-untyped-call]
    )
    for layer in linears(net):
        fill(layer.weight, "he", generator)
        nn.init.zeros_(layer.bias)
    net[1].requires_grad_(dials.learn_beta)

    def dead() -> int:
        with torch.no_grad():
            return int((net[1](net[0](data.x)) <= 0).all(0).sum())

    start = dead()
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, momentum=dials.momentum)
    order = batches(len(data.x), dials.batch, dials.steps, generator)
    train(net, optimiser, nn.functional.cross_entropy, data.x, data.y, order)
    return start, dead()


def _centring(dials: Dials, generator: torch.Generator) -> list[Part]:
    """Mean and deviation of the channels of a batch, after a norm that has seen standard data."""
    norm = nn.BatchNorm1d(dials.width, dtype=torch.float64)

    def batch(spread: float, offset: float) -> Tensor:
        x = torch.randn(dials.new, dials.width, generator=generator, dtype=torch.float64)
        return spread * x + offset

    norm(batch(1.0, 0.0))
    norm.eval()
    with torch.no_grad():
        new = batch(dials.spread, dials.offset)
        evaluated = norm(new)
        norm.train()
        trained = norm(new)

    def part(says: str, estimate: Estimate) -> Part:
        return Part(row="S4-38", says=says, estimate=estimate, region=near(0.0, dials.tolerance))

    largest = exact(float(trained.mean(0).abs().max()), n=dials.width)
    widening = trained.std(0, correction=0) - new.std(0, correction=0)
    return [
        part("in training every channel's mean becomes 0; largest", largest),
        part("and nothing else: change of a channel's deviation", mean(widening)),
        part("in evaluation too the mean of a batch's channels becomes 0", mean(evaluated.mean(0))),
    ]


def _figure(dials: Dials, dead: dict[float, Estimate]) -> Figure:
    return Figure(
        title="Dead units with batch norm before the ReLU, after training",
        x="learning rate",
        y="share of dead units",
        log_x=True,
        lines=(
            line(
                "measured",
                dead,
                [e.value for e in dead.values()],
                low=[e.low for e in dead.values()],
                high=[e.high for e in dead.values()],
            ),
            line("claim", (dials.rates[0], dials.rates[-1]), (0, 0), dashed=True),
        ),
    )
