"""Small networks on which swaps of activations are tried, and what must come of them."""

from dataclasses import replace

import torch
from torch import nn

from defib.therapy.train_state import TrainState
from defib.therapy.treatment import Case


def classifier(activation: type[nn.Module] = nn.ReLU, lr: float = 0.1) -> TrainState:
    """A small trained network for the cases of swaps: two hidden layers, momentum in its optimiser."""
    model = nn.Sequential(nn.Linear(4, 6), activation(), nn.Linear(6, 6), activation(), nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    return TrainState(model=model, optimizers=(optimizer,))


def functional() -> TrainState:
    """The same without an activation module, as a network has it that calls functions."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    return TrainState(model=model, optimizers=(torch.optim.SGD(model.parameters(), lr=0.1),))


def cases(kind: type[nn.Module], start: type[nn.Module] = nn.ReLU) -> tuple[Case, ...]:
    """One layer, the whole net, and what must be refused, for a swap that puts in modules of a class."""

    def at(state: TrainState, path: str) -> bool:
        return isinstance(state.module(path), kind)

    return (
        Case(
            name="one activation is exchanged, the other is left",
            build=lambda: classifier(start),
            dose={"activations": ("1",)},
            holds=lambda s: at(s, "1") and not at(s, "3"),
        ),
        Case(
            name="without a dose all are",
            build=lambda: classifier(start),
            dose={},
            holds=lambda s: at(s, "1") and at(s, "3"),
        ),
        Case(name="activations called as functions", build=functional, dose={}, refused=True),
        Case(
            name="a layer is no activation",
            build=lambda: classifier(start),
            dose={"activations": ("0",)},
            refused=True,
        ),
    )


def keeping_cases(kind: type[nn.Module]) -> tuple[Case, ...]:
    """The same for modules that give what a ReLU gives: the answers must stay as they are."""

    def inputs() -> tuple[torch.Tensor]:
        return (torch.randn(5, 4, generator=torch.Generator().manual_seed(1)),)

    return tuple(one if one.refused else replace(one, preserves=True, inputs=inputs) for one in cases(kind))
