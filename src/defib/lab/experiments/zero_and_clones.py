"""What does a net learn whose weights all begin at zero, or all at one value?

Claim
-----
With zero weights and ReLU, "outputs are zero and stay zero".

Prediction
----------
Hidden weights do stay: a ReLU unit's output 0 gives its outgoing weights gradient 0, and
those, being 0, pass nothing back. But the output's bias learns, so the output becomes the
best constant. If instead all weights have one value c, all units of a layer get the same
gradient for ever: H units remain copies of one.

Method
------
Regression with one hidden layer, full batches, Adam. From zero weights: the largest change
of a hidden weight, the last output's size, and its distance from the targets' mean. From
weights of one value: how many units differ in the end, by the singular values of the hidden
weights, and the loss against nets of random weights.

References:
----------
Goodfellow, Bengio, Courville 2016, Deep learning, section 8.4, on symmetry.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch

from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, exact, mean, paired_difference
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.nets import ACTIVATIONS


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    problems: int = dial(20, "random data sets", quick=6)
    samples: int = dial(64, "samples of each")
    inputs: int = dial(4, "inputs")
    width: int = dial(16, "H, hidden units")
    steps: int = dial(1500, "full-batch steps of Adam", quick=300)
    rate: float = dial(0.01, "its learning rate")
    activation: str = dial("relu", "activation of the hidden units")
    output_bias: bool = dial(True, "whether the output has a bias")
    deviation: float = dial(0.5, "deviation of the random weights")
    constant: float = dial(0.3, "the one value c of all weights")
    same: float = dial(1e-6, "a singular value below this share of the largest counts as 0")
    still: float = dial(1e-3, "outputs up to this size count as zero")


class ZeroAndClones(Experiment[Dials]):
    """Training from zero weights and from equal weights."""

    slug = "zero-and-clones"
    title = "Does a ReLU net with zero weights put out zero for ever?"
    topic = Topic.INITIALISATION
    rows = ("S2-39",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="without an output bias nothing learns from zero weights: outputs do stay zero",
            dials={"output_bias": False},
            changes=("S2-39",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        zero = _trained(dials, 0.0, 0.0, run)
        equal = _trained(dials, dials.constant, 0.0, run)
        random = _trained(dials, 0.0, dials.deviation, run)
        return Measurement(
            parts=(
                Part(
                    row="S2-39",
                    says="from zero weights hidden weights stay zero (largest change)",
                    estimate=exact(zero.moved.max().item(), n=dials.problems),
                    region=at_most(0.0),
                ),
                Part(
                    row="S2-39",
                    says="and outputs stay zero (mean size)",
                    estimate=mean(zero.output.numpy()),
                    region=at_most(dials.still),
                ),
                Part(
                    row="S2-39",
                    says="weights of one value stay copies of one unit (independent units in the end)",
                    estimate=exact(equal.rank.max().item(), n=dials.problems, unit="units"),
                    region=at_most(1.0),
                ),
                Part(
                    row="S2-39",
                    says="and such a net learns less: its loss minus that from random weights",
                    estimate=paired_difference(equal.loss.numpy(), random.loss.numpy()),
                    region=at_least(0.0),
                ),
            ),
            figure=Figure(
                title="After training",
                x="first weights",
                y="loss over the best constant's; independent units over H",
                lines=(
                    bars("loss", [float(a.loss.mean()) for a in (zero, equal, random)]),
                    bars("units", [float(a.rank.mean()) / dials.width for a in (zero, equal, random)]),
                ),
                kind=Kind.BAR,
                labels=("all 0", "all equal", "random"),
            ),
            note=f"From zero weights outputs end within {zero.off.max():.1e} of the targets' mean.",
        )


class _Ends(NamedTuple):
    """What training led to, one number a data set.

    Attributes:
        moved: Largest change of a hidden weight.
        output: Mean size of the outputs.
        off: Largest distance of an output from the targets' mean.
        rank: Independent rows among hidden weights and biases.
        loss: Squared error over the targets' variance.
    """

    moved: torch.Tensor
    output: torch.Tensor
    off: torch.Tensor
    rank: torch.Tensor
    loss: torch.Tensor


def _trained(dials: Dials, value: float, deviation: float, run: LabRun) -> _Ends:
    """Trains a net on every data set from weights of one value, all at once."""
    draw, start = run.torch(0), run.torch(1)
    shape = (dials.problems, dials.samples)
    x = torch.randn(*shape, dials.inputs, generator=draw, dtype=torch.float64)
    y = (x[..., :1] * x[..., 1:2] + 1).detach()
    sizes = ((dials.inputs, dials.width), (1, dials.width), (dials.width, 1), (1, 1))
    filled = partial(torch.full, dtype=torch.float64)
    parameters = [filled((dials.problems, *size), 0.0 if size[0] == 1 else value) for size in sizes]
    for place in (0, 2):
        noise = torch.randn(parameters[place].shape, generator=start, dtype=torch.float64)
        parameters[place] += deviation * noise
    first = parameters[0].clone()
    f = ACTIVATIONS[dials.activation]
    w, b, v, c = (p.requires_grad_() for p in parameters)
    c.requires_grad_(dials.output_bias)
    optimiser = torch.optim.Adam(parameters, lr=dials.rate)
    for _ in run.track(range(dials.steps)):
        optimiser.zero_grad()
        torch.autograd.backward((f(x @ w + b) @ v + c - y).square().mean((1, 2)).sum())
        optimiser.step()
    with torch.no_grad():
        out = f(x @ w + b) @ v + c
        values = torch.linalg.svdvals(torch.cat((w, b), 1))
        return _Ends(
            moved=(w - first).abs().amax((1, 2)),
            output=out.abs().mean((1, 2)),
            off=(out - y.mean(1, keepdim=True)).abs().amax((1, 2)),
            rank=(values > dials.same * values.amax(1, keepdim=True)).sum(1).double(),
            loss=(out - y).square().mean((1, 2)) / y.var((1, 2), correction=0),
        )
