"""Does a unit that is negative for every input learn nothing?

Claim
-----
If W x + b < 0 for every input of a ReLU unit, the gradient of the loss with respect to
its weights and its bias is 0. The unit "effectively does not contribute": what it feeds
gets no gradient through it either.

Prediction
----------
dL/dw = sum_i delta_i 1[s_i > 0] h_i: every term of the sum is exactly 0, in floating
point too, as long as relu'(0) = 0. The columns of the next layer's weights that the unit
feeds have gradient sum_i delta_i h_i = 0, because the unit's output h_i is 0.

Method
------
A net with one hidden layer, random data. The bias of some hidden units is lowered until
their largest pre-activation is below 0; one backward pass; the largest absolute gradient
of their rows, biases and outgoing columns, over many networks. The other units' smallest
gradient norm shows that gradients did flow.

References:
----------
Lu, Shin, Su, Karniadakis 2019, Dying ReLU and initialization.
"""

from dataclasses import dataclass

import torch

from defib.lab.dials import dial
from defib.lab.estimate import at_most, exact
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.nets import linears, mlp, relu


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(100, "networks drawn", quick=10, paper=1000)
    samples: int = dial(256, "samples of the data set")
    inputs: int = dial(16, "inputs of the network")
    width: int = dial(32, "hidden units")
    dead: int = dial(8, "hidden units whose bias is lowered")
    margin: float = dial(0.01, "how far below 0 their largest pre-activation is put")
    slope: float = dial(0.0, "slope of the activation for negative inputs; 0 is ReLU")


class DeadUnitGradients(Experiment[Dials]):
    """One backward pass through planted dead units."""

    slug = "dead-unit-gradients"
    title = "Does a ReLU unit that is negative for every input get any gradient?"
    topic = Topic.DYING_RELU
    rows = ("S0-1", "S1-1")
    dials = Dials
    perturbations = (
        Perturbation(
            why="a leaky slope lets gradient and signal through negative units",
            dials={"slope": 0.1},
            changes=("S0-1", "S1-1"),
        ),
        Perturbation(
            why="a positive pre-activation on one sample suffices to get gradient",
            dials={"margin": -0.01},
            changes=("S0-1",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        worst = {"own weights": 0.0, "own bias": 0.0, "outgoing weights": 0.0, "live units' weights": 0.0}
        for number in run.track(range(dials.networks)):
            for name, size in _gradients(dials, run.torch(number)).items():
                worst[name] = max(worst[name], size)
        n = dials.networks * dials.dead
        own = max(worst["own weights"], worst["own bias"])
        return Measurement(
            parts=(
                Part(
                    row="S0-1",
                    says="the weights and the bias of a unit with W x + b < 0 everywhere get gradient 0",
                    estimate=exact(own, n=n),
                    region=at_most(0.0),
                ),
                Part(
                    row="S1-1",
                    says="such a unit does not contribute: the weights that it feeds get gradient 0",
                    estimate=exact(worst["outgoing weights"], n=n),
                    region=at_most(0.0),
                ),
            ),
            figure=Figure(
                title="Largest absolute gradient",
                x="parameters",
                y="largest |gradient|",
                lines=(bars("over all networks", tuple(worst.values())),),
                kind=Kind.BAR,
                labels=tuple(worst),
            ),
        )


def _gradients(dials: Dials, generator: torch.Generator) -> dict[str, float]:
    """The largest absolute gradients of one network's dead and live units."""
    x = torch.randn(dials.samples, dials.inputs, generator=generator)
    y = torch.randn(dials.samples, 1, generator=generator)
    net = mlp((dials.inputs, dials.width, 1), relu(dials.slope), generator)
    hidden, output = linears(net)
    with torch.no_grad():
        top = hidden(x).amax(0)
        hidden.bias[: dials.dead] -= top[: dials.dead] + dials.margin
    torch.autograd.backward(torch.nn.functional.mse_loss(net(x), y))
    rows, biases, columns = (p.grad.abs() for p in (hidden.weight, hidden.bias, output.weight))  # type: ignore[union-attr]
    return {
        "own weights": rows[: dials.dead].max().item(),
        "own bias": biases[: dials.dead].max().item(),
        "outgoing weights": columns[:, : dials.dead].max().item(),
        "live units' weights": rows[dials.dead :].max().item(),
    }
