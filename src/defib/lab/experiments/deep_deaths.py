"""Do dead units of deeper layers come back?

Claim
-----
A dead unit cannot recover; one that is dead at initialisation is never activated. Against
it: a unit may leave the dead state because earlier layers are updated; values drift around
during training, and drift can also kill all data flow through a unit.

Prediction
----------
A unit that is negative for all samples gets no gradient, and without momentum and decay its
weights w stand still. In the first layer its inputs stand still as well: it stays dead. In a
deeper layer its inputs h move, because the layers below learn through other units. One step
changes its sum by three terms, exactly:

    ds = dw . h_old + db      (its own update)
       + w_old . dh           (drift of what feeds it)
       + dw . dh              (both).

Drift alone can kill a unit, and for a dead one it is all that is left: it can revive it.

Method
------
Nets of three hidden layers on digits in [0, 1], plain SGD at a large learning rate; after
every step all sums on all samples. A death is a step after which a unit is negative for all
samples; a return is a step within the window after which it is not. Some units of each
layer are dead from the start.

References:
----------
Shin, Karniadakis 2020, Trainability of ReLU networks and data-dependent initialization:
units dead at the start may become active in training, except in the first layer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import Estimate, Region, at_least, at_most, exact, grouped_share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.nets import batches
from defib.lab.stacks import Stack, cross_entropy, dead, draw

LAYERS = 3


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    networks: int = dial(8, "networks trained", quick=4, paper=40)
    samples: int = dial(200, "digits, all looked at after every step")
    width: int = dial(32, "units of each of the three hidden layers")
    planted: int = dial(12, "units of each layer that are dead from the start")
    margin: float = dial(0.05, "how far below 0 their largest sum is put")
    rate: float = dial(0.5, "learning rate of SGD")
    batch: int = dial(32, "samples of a batch")
    steps: int = dial(600, "steps of training", quick=150)
    window: int = dial(100, "steps within which a return is looked for", quick=50)
    still: bool = dial(False, "whether the first two layers are frozen")
    some: float = dial(0.2, "share of units that counts as some")
    rounding: float = dial(1e-10, "error of a sum that counts as rounding")


@dataclass(kw_only=True)
class Seen:
    """What is counted in training, for every layer and network: shape (LAYERS, R).

    Attributes:
        deaths: Units that fell silent.
        returns: Of these, units that fired again within the window.
        by_drift: Deaths that the unit's own update alone would not have caused.
        woken: Units planted dead that fired at some time.
        residual: Largest error of the three terms.
        own_change: Largest change of a weight of a unit in a step in which it was dead.
    """

    deaths: Tensor
    returns: Tensor
    by_drift: Tensor
    woken: Tensor
    residual: float = 0.0
    own_change: float = 0.0


class DeepDeaths(Experiment[Dials]):
    """Counting deaths and returns, layer by layer."""

    slug = "deep-deaths"
    title = "Do dead units of deeper layers come back by themselves?"
    topic = Topic.DYING_RELU
    rows = ("S1-6", "S1-7", "S2-45", "S4-26")
    dials = Dials
    perturbations = (
        Perturbation(
            why="if the lower layers are frozen nothing that feeds a dead unit moves",
            dials={"still": True},
            changes=("S1-6", "S1-7", "S2-45"),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        seen = _train(dials, run)
        deaths = seen.deaths[1:].sum(0)
        planted = torch.full((dials.networks,), dials.planted)
        some, few = at_least(dials.some), at_most(dials.some)

        def part(row: str, says: str, estimate: Estimate, region: Region) -> Part:
            return Part(row=row, says=says, estimate=estimate, region=region)

        first = grouped_share(seen.returns[0], seen.deaths[0])
        deep = grouped_share(seen.returns[1:].sum(0), deaths)
        woken = grouped_share(seen.woken[1:].sum(0), planted * (LAYERS - 1))
        return Measurement(
            parts=(
                part(
                    "S1-6",
                    "the three terms are the whole change of a sum; largest error",
                    exact(seen.residual),
                    at_most(dials.rounding),
                ),
                part(
                    "S1-6",
                    "some deaths of deeper units need the drift of what feeds them",
                    grouped_share(seen.by_drift[1:].sum(0), deaths),
                    some,
                ),
                part("S1-7", "some dead units of deeper layers return", deep, some),
                part(
                    "S1-7",
                    "their own weights stand still meanwhile; largest change",
                    exact(seen.own_change, n=int(deaths.sum())),
                    at_most(0.0),
                ),
                part("S4-26", "dead units of the first layer do not return", first, few),
                part("S4-26", "nor do those of deeper layers", deep, few),
                part(
                    "S2-45",
                    "units of the first layer that are dead at the start never fire",
                    grouped_share(seen.woken[0], planted),
                    few,
                ),
                part("S2-45", "nor do those of deeper layers", woken, few),
            ),
            figure=_figure(seen, dials.networks * dials.planted),
        )


def _train(dials: Dials, run: LabRun) -> Seen:
    """Trains the stack and looks at every unit after every step.

    Letters: R networks, N samples, H units.

    Returns:
        The counts.
    """
    data = digits(centred=False)
    x, y = data.x[: dials.samples].double(), data.y[: dials.samples]
    generator = run.torch(0)
    sizes = (x.shape[1], *[dials.width] * LAYERS, 10)
    stack = draw(dials.networks, sizes, generator, dtype=torch.float64)
    _plant(stack, x, dials)
    if dials.still:
        for p in stack.parameters()[:4]:
            p.requires_grad_(False)
    moving = [p for p in stack.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(moving, lr=dials.rate)
    none = torch.zeros(LAYERS, dials.networks)
    seen = Seen(deaths=none, returns=none.clone(), by_drift=none.clone(), woken=none.clone())
    watch = _Watch(stack, x, dials)
    order = list(batches(len(x), dials.batch, dials.steps, generator))
    for step, chosen in enumerate(run.track(order)):
        optimiser.zero_grad()
        loss = cross_entropy(stack.sums(x[chosen], torch.relu)[-1], y[chosen])
        torch.autograd.backward(loss.sum())
        before = _copied(stack)
        optimiser.step()
        watch.look(step, before, seen)
    for layer in range(LAYERS):
        seen.woken[layer] = watch.fired[layer][:, : dials.planted].sum(1)
    return seen


def _copied(stack: Stack) -> Stack:
    """Its parameters as they are now."""
    return Stack(
        weights=tuple(w.detach().clone() for w in stack.weights),
        biases=tuple(b.detach().clone() for b in stack.biases),
    )


def _plant(stack: Stack, x: Tensor, dials: Dials) -> None:
    """Lowers the biases of the first units of every layer until they are dead."""
    with torch.no_grad():
        for layer in range(LAYERS):
            top = stack.sums(x, torch.relu)[layer].amax(1, keepdim=True)
            stack.biases[layer][..., : dials.planted] -= top[..., : dials.planted] + dials.margin


class _Watch:
    """The states of all units, step by step."""

    def __init__(self, stack: Stack, x: Tensor, dials: Dials) -> None:
        self.stack, self.x, self.dials = stack, x, dials
        with torch.no_grad():
            self.sums = stack.sums(x, torch.relu)[:LAYERS]
        self.dead = [dead(s) for s in self.sums]
        self.fired = [~d for d in self.dead]
        never = torch.full_like(self.dead[0], -1, dtype=torch.int64)
        self.since = [never.clone() for _ in range(LAYERS)]

    def look(self, step: int, before: Stack, seen: Seen) -> None:
        """Compares the state after a step with the one before it."""
        with torch.no_grad():
            sums = self.stack.sums(self.x, torch.relu)[:LAYERS]
        for layer, new in enumerate(sums):
            now, was, since = dead(new), self.dead[layer], self.since[layer]
            change = (self.stack.weights[layer].detach() - before.weights[layer]).abs().amax(2)
            if was.any():
                seen.own_change = max(seen.own_change, float(change[was].max()))
            died = now & ~was
            if layer:
                own, rest = self._terms(layer, sums, before)
                seen.residual = max(seen.residual, float((self.sums[layer] + own + rest - new).abs().max()))
            back = was & ~now & (since >= 0)
            if step < self.dials.steps - self.dials.window:
                seen.deaths[layer] += died.sum(1)
                since[died] = step
                if layer:
                    seen.by_drift[layer] += (died & ~dead(self.sums[layer] + own)).sum(1)
            seen.returns[layer] += (back & (step - since <= self.dials.window)).sum(1)
            since[back] = -1
            self.fired[layer] |= ~now
            self.dead[layer] = now
        self.sums = sums

    def _terms(self, layer: int, sums: list[Tensor], before: Stack) -> tuple[Tensor, Tensor]:
        """The own term of every sum's change, and the two others together; (R, N, H) each.

        Returns:
            Own term; drift and cross term.
        """
        old, new = torch.relu(self.sums[layer - 1]), torch.relu(sums[layer - 1])
        step = (self.stack.weights[layer].detach() - before.weights[layer]).transpose(1, 2)
        bias = self.stack.biases[layer].detach() - before.biases[layer]
        drift = (new - old) @ before.weights[layer].transpose(1, 2)
        return old @ step + bias, drift + (new - old) @ step


def _figure(seen: Seen, planted: int) -> Figure:
    rates = (seen.returns.sum(1) / seen.deaths.sum(1).clamp(min=1)).tolist()
    return Figure(
        title="Dead units that come back, layer by layer",
        x="layer",
        y="share",
        kind=Kind.BAR,
        labels=tuple(f"hidden layer {k + 1}" for k in range(LAYERS)),
        lines=(
            bars("died in training, back within the window", rates),
            bars("dead at the start, fired later", (seen.woken.sum(1) / planted).tolist()),
        ),
    )
