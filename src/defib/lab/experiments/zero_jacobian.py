"""Do the Hessian, momentum or regularisation help where the Jacobian is zero?

Claim
-----
With the Hessian, momentum or regularisation, zeros across the Jacobian do not block learning.

Prediction
----------
A dead ReLU unit is 0 in a whole neighbourhood of its parameters. All derivatives are 0 there,
the second as well: its rows of the Hessian are exactly 0, for its weights, its bias and its
outgoing weights' own block, so Newton's step leaves it where it is. Momentum carries it on in
the direction that killed it. Decay that is not coupled to an adaptive optimiser multiplies
its sums by a positive factor and keeps their sign. L2 in Adam is different: its steps do not
keep the ratio of weights to bias.

Method
------
The full Hessian (torch.func) of a small net with a planted dead unit. Units that a random
step killed: the share that coasts back. Dead units under zero gradients in torch's SGD,
AdamW and Adam with L2: the share that fires again within the steps.

References:
----------
Derived above; for the three kinds of decay see Loshchilov, Hutter 2019, Decoupled weight
decay regularization.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, jacrev

from defib.lab.dials import dial
from defib.lab.estimate import Estimate, at_least, exact, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.nets import linears, mlp, relu


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(20, "networks of which the Hessian is taken", quick=5)
    width: int = dial(5, "hidden units of each; one is dead")
    samples: int = dial(30, "samples that a net or a unit sees")
    inputs: int = dial(6, "inputs, in [0, 1]")
    margin: float = dial(0.5, "how far below 0 the dead unit's largest sum is put")
    slope: float = dial(0.0, "slope of the activation for negative inputs; 0 is ReLU")
    units: int = dial(20000, "random units hit by one random step", quick=5000)
    momentum: float = dial(0.9, "momentum")
    step_rate: float = dial(0.3, "learning rate of the killing step")
    standing: float = dial(1e-6, "change of a sum in a step that counts as standing still")
    dead_units: int = dial(400, "dead units under decay", quick=200)
    rate: float = dial(0.01, "learning rate under decay")
    decay: float = dial(0.01, "weight decay")
    steps: int = dial(3000, "steps under decay", quick=2000)
    curved: float = dial(1e-9, "entry of a Hessian that counts as not 0")
    most: float = dial(0.5, "share of the units that must come back if nothing blocks")


class ZeroJacobian(Experiment[Dials]):
    """Three devices that are said to help."""

    slug = "zero-jacobian"
    title = "Do the Hessian, momentum or regularisation help where the Jacobian is zero?"
    topic = Topic.ESCAPE
    rows = ("S0-33",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="without decay no optimiser moves a dead unit: then the claim fails in every part",
            dials={"decay": 0.0},
            changes=("S0-33",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        curvature = max(_curvature(dials, run.torch(0, k)) for k in run.track(range(dials.networks)))
        back = {"momentum": _coasters(dials, run.torch(1)), **_decayed(dials, run.torch(2))}
        return Measurement(
            parts=(
                Part(
                    row="S0-33",
                    says="the Hessian shows a way: largest entry in the dead unit's own rows",
                    estimate=exact(curvature, n=dials.networks),
                    region=at_least(dials.curved),
                ),
                *(
                    Part(
                        row="S0-33",
                        says=f"{name} frees most dead units",
                        estimate=estimate,
                        region=at_least(dials.most),
                    )
                    for name, estimate in back.items()
                ),
            ),
            figure=Figure(
                title="Dead units that come back without any gradient",
                x="device",
                y="share",
                kind=Kind.BAR,
                labels=tuple(back),
                lines=(bars("dead units", [e.value for e in back.values()]),),
            ),
        )


def _curvature(dials: Dials, generator: torch.Generator) -> float:
    """The largest absolute entry in the Hessian's rows of the dead unit's weights and bias."""
    shape = (dials.samples, dials.inputs)
    x = torch.rand(shape, generator=generator, dtype=torch.float64)
    y = torch.randn(dials.samples, 1, generator=generator, dtype=torch.float64)
    net = mlp((dials.inputs, dials.width, 1), relu(dials.slope), generator, dtype=torch.float64)
    hidden = linears(net)[0]
    with torch.no_grad():
        hidden.bias[0] -= hidden(x)[:, 0].max() + dials.margin

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.nn.functional.mse_loss(functional_call(net, parameters, (x,)), y)

    second = jacrev(jacrev(loss))({name: p.detach() for name, p in net.named_parameters()})
    rows = [block[0] for name in ("0.weight", "0.bias") for block in second[name].values()]
    return max(float(row.abs().max()) for row in rows)


def _coasters(dials: Dials, generator: torch.Generator) -> Estimate:
    """Of the units that one random step kills, the share that momentum carries back.

    Letters: U units, N samples, D inputs; the last of D + 1 columns is the bias.

    Returns:
        The share.
    """
    x = torch.rand(dials.units, dials.samples, dials.inputs, generator=generator, dtype=torch.float64)
    x = torch.cat([x, torch.ones_like(x[..., :1])], -1)
    shape = (3, dials.units, dials.inputs + 1, 1)
    p, buffer, gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
    s = (x @ p).squeeze(-1)
    step = (x @ (dials.momentum * buffer + gradient)).squeeze(-1) * dials.step_rate
    after = s - step
    killed = (s > 0).any(1) & (after <= 0).all(1)
    back = torch.zeros_like(killed)
    while float(step.abs().max()) > dials.standing:
        step = dials.momentum * step
        after = after - step
        back |= (after > 0).any(1)
    return share(int((killed & back).sum()), int(killed.sum()))


def _decayed(dials: Dials, generator: torch.Generator) -> dict[str, Estimate]:
    """The share of dead units that fire again under each optimiser's decay."""
    x = torch.rand(dials.samples, dials.inputs, generator=generator, dtype=torch.float64)
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    drawn = torch.randn(40 * dials.dead_units, dials.inputs + 1, generator=generator, dtype=torch.float64)
    p = drawn[(drawn @ x.T < 0).all(1)][: dials.dead_units]
    names = ("SGD with decay", "AdamW", "Adam with L2")
    units = {name: torch.nn.Parameter(p.clone()) for name in names}
    rate, decay = dials.rate, dials.decay
    sgd, adamw, adam = ([unit] for unit in units.values())
    optimisers: dict[str, torch.optim.Optimizer] = {
        "SGD with decay": torch.optim.SGD(sgd, lr=rate, weight_decay=decay, momentum=dials.momentum),
        "AdamW": torch.optim.AdamW(adamw, lr=rate, weight_decay=decay),
        "Adam with L2": torch.optim.Adam(adam, lr=rate, weight_decay=decay),
    }
    back = {}
    for name, unit in units.items():
        unit.grad = torch.zeros_like(p)
        fired = torch.zeros(len(p), dtype=torch.bool)
        for _ in range(dials.steps):
            optimisers[name].step()
            with torch.no_grad():
                fired |= (unit @ x.T > 0).any(1)
        back[name] = share(int(fired.sum()), len(p))
    return back
