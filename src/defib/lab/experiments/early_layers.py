"""Are the first layers the slowest to learn, and does the gradient tell how fast they do?

Claim
-----
"The first layers are the slowest to train." What learning is are "the changes to the
parameters", not the gradient.

Prediction
----------
In an 8-layer sigmoid net as torch draws it, a gradient shrinks by about 0.14 a layer, so
the first layer's is some 10^-6 of the last one's, and so is SGD's relative change of its
weights. Adam divides by the gradient's own size: every layer's change is about the learning
rate, unless the gradient is below Adam's epsilon. In a tanh net of large weights gradients
explode and the first layer is the fastest. In a ReLU net without biases doubling one layer
and halving another changes nothing, so that |W| |dL/dW| is of one size in all layers,
however fast signals vanish: what a weight's gradient loses on the way back, its input has
not yet lost on the way forward. So the claim holds for SGD with saturating units below the
critical point, and neither for Adam, nor above it, nor for ReLU.

Method
------
One step on digits; for each layer the norm of the gradient and the norm of the change over
the norm of the weights; the first layer's over the last hidden layer's, in decades, mean
over nets.

References:
----------
Glorot and Bengio 2010; Kingma and Ba 2015, Adam.
"""

from dataclasses import dataclass

import numpy as np
import torch

from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, mean
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import ACTIVATIONS, linears, mlp


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    nets: int = dial(20, "networks of each kind", quick=8)
    depth: int = dial(8, "hidden layers")
    width: int = dial(64, "units of each")
    batch: int = dial(256, "samples of the step")
    activation: str = dial("sigmoid", "activation of the net that vanishes")
    init: str = dial("default", "how its weights are drawn")
    exploding: float = dial(4.0, "gain of the weights of the tanh net that explodes")
    rate: float = dial(0.1, "learning rate of SGD")
    adam_rate: float = dial(1e-3, "learning rate of Adam")
    epsilon: float = dial(1e-16, "epsilon of Adam")
    divided: bool = dial(True, "whether the adaptive optimiser is Adam; else SGD again")
    slower: float = dial(1.0, "decades by which a layer must change less to be called slower")


class EarlyLayers(Experiment[Dials]):
    """Relative changes of weights, layer by layer, in the first step."""

    slug = "early-layers"
    title = "Are the first layers the slowest to learn?"
    topic = Topic.GRADIENTS
    rows = ("S0-40", "S4-16")
    dials = Dials
    perturbations = (
        Perturbation(
            why="SGD's changes are the gradient's: they tell the same",
            dials={"divided": False},
            changes=("S0-40",),
        ),
        Perturbation(
            why="orthogonal linear layers pass gradients on: SGD is not slower in the first",
            dials={"activation": "linear", "init": "orthogonal", "exploding": 1.0},
            changes=("S4-16",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        arms = {
            "SGD, vanishing": (dials.activation, dials.init, 1.0, False),
            "Adam, vanishing": (dials.activation, dials.init, 1.0, dials.divided),
            "SGD, exploding": ("tanh", "lecun", dials.exploding, False),
            "SGD, ReLU": ("relu", "default", 1.0, False),
        }
        found = {
            name: np.array([_step(dials, *arm, run.torch(k)) for k in range(dials.nets)])
            for name, arm in run.track(arms.items())
        }
        unit = "decades"
        behind = {name: steps[:, 1, 0] - steps[:, 1, -1] for name, steps in found.items()}
        gradient = found["Adam, vanishing"][:, 0, 0] - found["Adam, vanishing"][:, 0, -1]
        layers = range(1, dials.depth + 1)
        slowest = at_most(-dials.slower)
        return Measurement(
            parts=(
                *(
                    Part(
                        row="S4-16",
                        says=f"{name}: the first layer changes less than the last hidden one",
                        estimate=mean(behind[name], unit=unit),
                        region=slowest,
                    )
                    for name in arms
                ),
                Part(
                    row="S0-40",
                    says="the change tells another story than the gradient: first over last, difference",
                    estimate=mean(behind["Adam, vanishing"] - gradient, unit=unit),
                    region=at_least(dials.slower),
                ),
            ),
            figure=Figure(
                title="Relative change of each layer's weights in one step",
                x="layer",
                y="log10 |change| / |weights|",
                lines=tuple(line(name, layers, steps[:, 1].mean(0)) for name, steps in found.items()),
            ),
        )


def _step(
    dials: Dials, activation: str, init: str, gain: float, adam: bool, generator: torch.Generator
) -> "np.ndarray":
    """log10 of gradient norms and of relative changes of the hidden layers: shape (2, depth)."""
    data = digits()
    chosen = torch.randperm(len(data.x), generator=generator)[: dials.batch]
    x, y = data.x[chosen].double(), data.y[chosen]
    sizes = (x.shape[1], *[dials.width] * dials.depth, 10)
    net = mlp(sizes, ACTIVATIONS[activation], generator, init=init, gain=gain, dtype=torch.float64)
    optimiser: torch.optim.Optimizer
    if adam:
        optimiser = torch.optim.Adam(net.parameters(), lr=dials.adam_rate, eps=dials.epsilon)
    else:
        optimiser = torch.optim.SGD(net.parameters(), lr=dials.rate)
    torch.autograd.backward(torch.nn.functional.cross_entropy(net(x), y))
    hidden = [layer.weight for layer in linears(net)[:-1]]
    before = [weight.detach().clone() for weight in hidden]
    optimiser.step()
    gradients = [weight.grad.norm().item() for weight in hidden if weight.grad is not None]
    moved = [weight.detach() - old for weight, old in zip(hidden, before, strict=True)]
    changes = [(move.norm() / old.norm()).item() for move, old in zip(moved, before, strict=True)]
    return np.log10(np.maximum([gradients, changes], 1e-300))
