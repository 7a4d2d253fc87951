"""Can the signals of learning be watched without disturbing it?

Claim
-----
The signals of learning can be monitored, and statistics of them be taken.

Prediction
----------
Reading an activation or a gradient needs no arithmetic that the training does not do anyway:
watched and unwatched runs end in the same weights, bit by bit, as long as the watcher draws
no chance from the training's generator and changes nothing in place. Its statistics are exact
where they are counts (units that were positive for no sample), and a mean over a random tenth
of the samples is right within the root law: its error is about deviation / sqrt(samples).

Method
------
The same ReLU network trained on the digits with and without forward and backward hooks that
keep counts and norms. Compared: the final weights; the dead units that hooks counted over an
epoch of the trained net against those of one full pass, computed from the weights without
hooks; the share of active units, from a tenth of the samples against all of them, in standard
errors.

References:
----------
PyTorch's documentation of module hooks.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import at_most, exact, mean
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line
from defib.lab.nets import batches, linears, mlp, train


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(5, "networks", quick=2, paper=20)
    width: int = dial(64, "units of each of two hidden layers")
    steps: int = dial(300, "steps of training", quick=80)
    rate: float = dial(0.1, "learning rate of SGD with momentum 0.9")
    batch: int = dial(32, "samples of a batch")
    sampled: int = dial(140, "samples of the cheap statistic, of 1,397")
    draws: int = dial(400, "repetitions of the cheap statistic", quick=200)
    bound: float = dial(1.5, "largest squared error that is within the law, in squared standard errors")
    intrusive: bool = dial(
        False, "whether the watcher looks at half of each batch, drawn from the training's generator"
    )


class MonitoredSignals(Experiment[Dials]):
    """Training with and without a watcher."""

    slug = "monitored-signals"
    title = "Can the signals of learning be watched without disturbing it?"
    topic = Topic.CAUSALITY
    rows = ("S0-39",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="a watcher that draws chance from the training's generator changes its batches",
            dials={"intrusive": True},
            changes=("S0-39",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        difference, miscounted, silent, errors = 0.0, 0, 0, []
        watchers: list[_Watcher] = []
        for number in run.track(range(dials.networks)):
            plain, _ = _train(dials, run, number, watched=False)
            net, watcher = _train(dials, run, number, watched=True)
            for p, q in zip(plain.parameters(), net.parameters(), strict=True):
                difference = max(difference, float((p - q).detach().abs().max()))
            wrong, dead = _miscounted(net, dials, run.torch(number, 1))
            miscounted, silent = miscounted + wrong, silent + dead
            errors.append(_standard_errors(net, dials, run.torch(number, 2)))
            watchers.append(watcher)
        parts = (
            Part(
                row="S0-39",
                says="watched and unwatched training end in the same weights, to the bit",
                estimate=exact(difference, n=dials.networks),
                region=at_most(0.0),
            ),
            Part(
                row="S0-39",
                says="dead units that hooks count batch by batch are those of a full pass; exceptions",
                estimate=exact(miscounted, n=2 * dials.networks * dials.width, unit="units"),
                region=at_most(0.0),
            ),
            Part(
                row="S0-39",
                says="a tenth of the samples gives the active share to within the root law",
                estimate=mean(torch.cat(errors).square(), unit="squared standard errors"),
                region=at_most(dials.bound),
            ),
        )
        told = watchers[0]
        return Measurement(
            parts=parts,
            figure=Figure(
                title="What the hooks of one run tell",
                x="step",
                y="share, norm",
                lines=(
                    line("active share of hidden layer 1", range(len(told.active)), told.active),
                    line("gradient norm at its output", range(len(told.norms)), told.norms),
                ),
                log_y=True,
            ),
            note=f"{silent} units were dead.",
        )


class _Watcher:
    """Keeps the active share and the gradient norm of a module, step by step, and who ever fired."""

    def __init__(self, module: nn.Module, drawn_from: torch.Generator | None) -> None:
        self.active: list[float] = []
        self.norms: list[float] = []
        self.fired: Tensor | None = None
        self.drawn_from = drawn_from
        module.register_forward_hook(self._forward)
        module.register_full_backward_hook(self._backward)

    def _forward(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen = output.detach()
        if self.drawn_from is not None:
            seen = seen[torch.randperm(len(seen), generator=self.drawn_from)[: len(seen) // 2]]
        self.active.append(float((seen > 0).double().mean()))
        now = (seen > 0).any(0)
        self.fired = now if self.fired is None else self.fired | now

    def _backward(self, _module: nn.Module, _inputs: Any, outputs: tuple[Tensor, ...]) -> None:
        self.norms.append(float(outputs[0].norm()))


def _train(dials: Dials, run: LabRun, number: int, *, watched: bool) -> tuple[nn.Sequential, _Watcher]:
    data = digits()
    net = mlp((64, dials.width, dials.width, 10), torch.relu, run.torch(number, 3))
    order = run.torch(number, 4)
    watcher = _Watcher(net[1] if watched else nn.Identity(), order if dials.intrusive else None)
    optimiser = torch.optim.SGD(net.parameters(), dials.rate, momentum=0.9)
    chosen = batches(len(data.x), dials.batch, dials.steps, order)
    train(net, optimiser, nn.functional.cross_entropy, data.x, data.y, chosen)
    return net, watcher


def _states(net: nn.Sequential, x: Tensor) -> Tensor:
    """Pre-activations of both hidden layers, shape (N, 2 * width)."""
    first, second, _ = linears(net)
    with torch.no_grad():
        s = first(x)
        return torch.cat([s, second(torch.relu(s))], 1)


def _miscounted(net: nn.Sequential, dials: Dials, generator: torch.Generator) -> tuple[int, int]:
    """Units that are dead by one way of counting and not by the other; units that are dead."""
    x = digits().x
    order = torch.randperm(len(x), generator=generator)
    watchers = [_Watcher(net[place], generator if dials.intrusive else None) for place in (1, 3)]
    with torch.no_grad():
        for chosen in torch.split(order, dials.batch):
            net(x[chosen])
    counted = torch.cat([watcher.fired for watcher in watchers if watcher.fired is not None])
    full = _states(net, x).amax(0) > 0
    return int((counted != full).sum()), int((~full).sum())


def _standard_errors(net: nn.Sequential, dials: Dials, generator: torch.Generator) -> Tensor:
    """Errors of the active share from a few samples, in standard errors, shape (draws,)."""
    per_sample = (_states(net, digits().x) > 0).double().mean(1)
    drawn = torch.randint(len(per_sample), (dials.draws, dials.sampled), generator=generator)
    deviation = float(per_sample.std()) / math.sqrt(dials.sampled)
    return (per_sample[drawn].mean(1) - per_sample.mean()) / deviation
