"""An ordinary training, drawn at random: what the proving ground plants its pathologies in.

Depth, width, activation, normalisation, initialisation, optimiser, rate, batch and data are
drawn from ranges in which such networks usually learn. A plant changes a
:class:`Training` in place before it begins; the same draw without the plant is its
healthy twin. Plain torch: nothing here knows of defib's rules.

Letters: ``N`` samples, ``D`` inputs, ``C`` classes, ``S`` tokens of a sequence.
"""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from defib.lab.data import digits
from defib.lab.nets import batches


class Kind(StrEnum):
    """What is learned."""

    DIGITS = "digits"
    """Ten classes of 8 x 8 images, by fully connected layers."""
    IMAGES = "images"
    """The same by convolutions."""
    BINARY = "binary"
    """Inside or outside of a shell, by one logit."""
    REGRESSION = "regression"
    """A smooth function of eight inputs."""
    SEQUENCES = "sequences"
    """Which of four tokens a sequence holds, by a recurrent layer."""


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
}


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One training as it was drawn.

    Attributes:
        kind: What is learned.
        seed: Of data, weights and batches.
        depth: Hidden layers.
        width: Units (channels) of each.
        activation: Behind each.
        norm: "none", "batch" or "layer", in front of the activation.
        init: "default" (torch's own) or "matched" (He for one-sided activations, else Xavier).
        optimiser: "sgd", "momentum", "adam", "adamw" or "rmsprop".
        rate: Learning rate.
        batch: Samples a step.
        steps: Steps.
    """

    kind: Kind
    seed: int
    depth: int
    width: int
    activation: str
    norm: str
    init: str
    optimiser: str
    rate: float
    batch: int
    steps: int


RATES = {
    "sgd": (0.05, 0.3),
    "momentum": (0.01, 0.06),
    "adam": (1e-3, 5e-3),
    "adamw": (1e-3, 5e-3),
    "rmsprop": (5e-4, 2e-3),
}
"""Learning rates at which networks of this size usually learn: ends of a log-uniform range."""


def draw(kinds: Iterable[Kind], seed: int) -> Draw:
    """A training at random.

    Args:
        kinds: What may be learned.
        seed: Settles everything.

    Returns:
        The draw.
    """
    chance = np.random.default_rng([seed, 1])
    kind = list(kinds)[int(chance.integers(len(list(kinds))))]
    recurrent = kind is Kind.SEQUENCES
    optimisers = ["adam", "adamw", "rmsprop"] if recurrent else list(RATES)
    optimiser = str(chance.choice(optimisers))
    low, high = RATES[optimiser]
    return Draw(
        kind=kind,
        seed=seed,
        depth=1 if recurrent else int(chance.integers(2, 4 if kind is Kind.IMAGES else 5)),
        width=int(chance.choice([8, 12, 16] if kind is Kind.IMAGES else [24, 32, 48, 64])),
        activation=str(chance.choice(["relu", "relu", "leaky", "tanh", "gelu", "silu", "elu"])),
        norm=str(chance.choice(["none", "none", "batch", "layer"])),
        init=str(chance.choice(["default", "matched"])),
        optimiser=optimiser,
        rate=float(math.exp(chance.uniform(math.log(low), math.log(high)))),
        batch=int(chance.choice([32, 48, 64])),
        steps=int(chance.integers(200, 350)),
    )


Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(kw_only=True)
class Training:
    """A training that is about to begin, or has ended; plants change it in place.

    Attributes:
        draw: How it was drawn.
        net: The network.
        x: Training inputs, shape (N, ...).
        y: Training targets, as the loss takes them.
        truth: The true training targets.
        x_test: Inputs that its skill is measured on, in the form in which the loop feeds them.
        y_test: Their true targets.
        loss: Of outputs and targets.
        optimiser: Makes the optimiser of the parameters.
        order: Indices of each step's batch.
        step: Takes one step on a batch and gives its loss.
        chance: Where a plant's own chance comes from.
        log: Takes numbers that the script logs by itself.
        rate: Called with the step's number before each step; the ordinary training keeps its rate.
        losses: The loss of every step, once it has run.
        start: The weights that it began with.
        stepped: The optimiser, once it has run.
        every: Steps between looks at the loss on the test part, which are logged; 0 for none.
        held: Step and loss of each of those looks.
    """

    draw: Draw
    net: nn.Module
    x: Tensor
    y: Tensor
    truth: Tensor
    x_test: Tensor
    y_test: Tensor
    loss: Loss
    optimiser: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    order: list[Tensor]
    step: "Callable[[Training, torch.optim.Optimizer, Tensor, Tensor], Tensor]"
    chance: torch.Generator
    log: Callable[[str, float], None] = lambda _name, _value: None
    rate: Callable[[torch.optim.Optimizer, int], None] = lambda _optimiser, _number: None
    losses: list[float] = field(default_factory=list)
    start: dict[str, Tensor] = field(default_factory=dict)
    stepped: torch.optim.Optimizer | None = None
    every: int = 0
    held: list[tuple[int, float]] = field(default_factory=list)

    def run(self, optimiser: torch.optim.Optimizer) -> None:
        """Trains to the end."""
        self.stepped = optimiser
        for number, chosen in enumerate(self.order):
            self.rate(optimiser, number)
            self.losses.append(float(self.step(self, optimiser, self.x[chosen], self.y[chosen]).detach()))
            if self.every and number % self.every == self.every - 1:
                value = float(self.loss(self.answers(), self.y_test))
                self.held.append((number, value))
                self.log("val_loss", value)

    def answers(self) -> Tensor:
        """The trained network's outputs on the test inputs."""
        self.net.eval()
        with torch.no_grad():
            found: Tensor = self.net(self.x_test)
        self.net.train()
        return found.float()

    def skill(self) -> float:
        """How good its answers are on samples that it was not trained on.

        Returns:
            1 for perfect answers, 0 for those of the best constant: of classes the accuracy beyond the
            most frequent class's, of a regression R^2. Answers that are not finite have no skill.
        """
        answers, truth = self.answers(), self.y_test
        if not bool(answers.isfinite().all()):
            return 0.0
        if self.draw.kind is Kind.REGRESSION:
            answers = answers.reshape(truth.shape)
            return max(
                0.0, 1 - float((answers - truth).square().mean() / (truth - truth.mean()).square().mean())
            )
        if self.draw.kind is Kind.BINARY:
            guess = (answers.reshape(-1) > 0).long()
            truth = truth.reshape(-1).long()
        else:
            guess, truth = answers.argmax(1), truth.long()
        chance = float(torch.bincount(truth).max()) / len(truth)
        return max(0.0, (float((guess == truth).float().mean()) - chance) / (1 - chance))


def ordinary_step(job: Training, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    """Zero the gradients, forward, backward, step."""
    optimiser.zero_grad()
    loss = job.loss(job.net(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return loss


def begin(of: Draw) -> Training:
    """The healthy training of a draw, ready to run."""
    generator = torch.Generator().manual_seed(of.seed)
    x, y, x_test, y_test = _data(of, generator)
    with torch.random.fork_rng():
        torch.manual_seed(of.seed)
        net = _net(of, x)
    losses: dict[Kind, Loss] = {
        Kind.REGRESSION: functional.mse_loss,
        Kind.BINARY: functional.binary_cross_entropy_with_logits,
    }
    job = Training(
        draw=of,
        net=net,
        x=x,
        y=y,
        truth=y,
        x_test=x_test,
        y_test=y_test,
        loss=losses.get(of.kind, functional.cross_entropy),
        optimiser=lambda parameters: _optimiser(of, parameters),
        order=list(batches(len(x), of.batch, of.steps, generator)),
        step=ordinary_step,
        chance=generator,
        every=20 if of.seed % 3 == 0 else 0,
    )
    job.start = copy.deepcopy(net.state_dict())
    return job


def _optimiser(of: Draw, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    if of.optimiser == "momentum":
        return torch.optim.SGD(parameters, lr=of.rate, momentum=0.9)
    makers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    return makers.get(of.optimiser, torch.optim.RMSprop)(parameters, lr=of.rate)


# ------------------------------------------------------------------ data

_TEST = 400


def _data(of: Draw, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training inputs and targets, test inputs and targets."""
    if of.kind in {Kind.DIGITS, Kind.IMAGES}:
        found = digits(seed=of.seed % 1000)
        shape = (-1, 1, 8, 8) if of.kind is Kind.IMAGES else (-1, 64)
        return found.x.reshape(shape), found.y, found.x_test.reshape(shape), found.y_test
    makers = {Kind.BINARY: _shell, Kind.REGRESSION: _smooth, Kind.SEQUENCES: _tokens}
    x, y = makers[of.kind](1600 + _TEST, generator)
    return x[_TEST:], y[_TEST:], x[:_TEST], y[:_TEST]


def _shell(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points of a normal cloud in four dimensions; 1 outside of the median radius; y has shape (N, 1)."""
    x = torch.randn(count, 4, generator=generator)
    radius = x.square().sum(1, keepdim=True)
    return x, (radius > radius.median()).float()


def _smooth(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Eight inputs, a linear part and two ripples, 5 % of noise; y has shape (N, 1), mean 0, deviation 1."""
    x = torch.randn(count, 8, generator=generator)
    along = torch.randn(8, 3, generator=generator) / math.sqrt(8)
    z = x @ along
    y = z[:, :1] + torch.sin(2 * z[:, 1:2]) + torch.tanh(2 * z[:, 2:])
    y = y + 0.05 * torch.randn(count, 1, generator=generator)
    return x, (y - y.mean()) / y.std()


TOKENS = 12
LENGTH = 10


def _tokens(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences of S tokens above 4, with one of the tokens 0 to 3 somewhere: the class."""
    x = torch.randint(4, TOKENS, (count, LENGTH), generator=generator)
    y = torch.randint(0, 4, (count,), generator=generator)
    place = torch.randint(0, LENGTH, (count,), generator=generator)
    x[torch.arange(count), place] = y
    return x, y


# ------------------------------------------------------------------ networks


class Recurrent(nn.Module):
    """Tokens, embedded, through a recurrent layer; its last state through a linear one."""

    def __init__(self, width: int, classes: int, *, gated: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, 16)
        self.body: nn.Module = (nn.GRU if gated else nn.LSTM)(16, width, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.body(self.embed(x))
        found: Tensor = self.head(states[:, -1])
        return found


def _net(of: Draw, x: Tensor) -> nn.Module:
    if of.kind is Kind.SEQUENCES:
        return Recurrent(of.width, 4, gated=of.seed % 2 == 0)
    outputs = 1 if of.kind in {Kind.BINARY, Kind.REGRESSION} else 10
    layers: list[nn.Module] = []
    size = x.shape[1]
    bias = of.norm != "batch"  # which would take it away again
    for _ in range(of.depth):
        if of.kind is Kind.IMAGES:
            layers.append(nn.Conv2d(size, of.width, 3, padding=1, bias=bias))
        else:
            layers.append(nn.Linear(size, of.width, bias=bias))
        if of.norm == "batch":
            layers.append(nn.BatchNorm2d(of.width) if of.kind is Kind.IMAGES else nn.BatchNorm1d(of.width))
        elif of.norm == "layer":
            layers.append(nn.GroupNorm(1, of.width) if of.kind is Kind.IMAGES else nn.LayerNorm(of.width))
        layers.append(ACTIVATIONS[of.activation]())
        size = of.width
    if of.kind is Kind.IMAGES:
        layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten()]
        size *= 4
    layers.append(nn.Linear(size, outputs))
    net = nn.Sequential(*layers)
    if of.init == "matched":
        _match(net, of.activation)
    return net


def _match(net: nn.Module, activation: str) -> None:
    """Initialises hidden layers for their activation; the last layer keeps torch's default."""
    for layer in weighted(net)[:-1]:
        if activation in {"tanh", "sigmoid"}:
            nn.init.xavier_normal_(layer.weight)
        else:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def weighted(net: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """Its linear and convolutional layers, in order."""
    return [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
