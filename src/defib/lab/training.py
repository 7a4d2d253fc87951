"""An ordinary training, drawn at random: what the proving ground plants its pathologies in.

A plant changes a :class:`Training` in place before it begins; the same draw without the
plant is its healthy twin. Plain torch: nothing here knows of defib's rules.

Letters: ``N`` samples.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from defib.lab.draws import Draw, Kind
from defib.lab.nets import batches
from defib.lab.ordinary import data, network

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
    x, y, x_test, y_test = data(of, generator)
    with torch.random.fork_rng():
        torch.manual_seed(of.seed)
        net = network(of, x)
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
