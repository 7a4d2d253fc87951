"""Random silent units, and what a real torch optimiser makes of them when every gradient is zero."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from defib.core.prognosis import Prognosis
from defib.core.remains import Part, Remains

SAMPLES, WIDTH = 96, 10


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One optimiser with one choice of settings.

    Attributes:
        name: What the table calls it.
        kind: Class in ``torch.optim``.
        weight: The weight group's settings.
        bias: What the bias group has otherwise.
        steps: Zero-gradient steps to take.
        history: Steps with random gradients before.
        dtype: Of the parameters.
        schedule: Learning rates of the zero-gradient steps, over the initial one; empty for constant.
    """

    name: str
    kind: str
    weight: dict[str, Any]
    bias: dict[str, Any] = field(default_factory=dict)
    steps: int = 1000
    history: int = 20
    dtype: str = "float32"
    schedule: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What happened.

    Attributes:
        first: Steps until each unit fired first, in float64 from the real parameters; -1 not at all.
        own: The same with the forward pass in the parameters' own format.
        values: The parameters after the last step, weight and bias.
    """

    first: NDArray[np.int64]
    own: NDArray[np.int64]
    values: tuple[torch.Tensor, torch.Tensor]


def bury(setting: Setting, units: int, seed: int) -> tuple[Remains, "Run"]:
    """Makes silent units with a history of random gradients, and what defib would have kept of them."""
    run = Run(setting, units, seed)
    groups = run.optimizer.param_groups
    parts = tuple(
        Part(
            name=name,
            values=parameter.detach().to(_plain(parameter)).numpy().reshape(units, -1).copy(),
            kind=setting.kind,
            settings={k: v for k, v in group.items() if k != "params"},
            state=_state(run.optimizer.state[parameter], units),
            dtype=setting.dtype,
            lrs=_lrs(setting, group["lr"]),
        )
        for name, parameter, group in zip(("weight", "bias"), run.parameters, groups, strict=True)
    )
    remains = Remains(
        path="fc1",
        units=np.arange(units),
        step=setting.history,
        parts=parts,
        features=run.features.numpy(),
        first_layer=True,
        samples_seen=SAMPLES,
    )
    return remains, run


class Run:
    """A layer of silent units with its real optimiser."""

    def __init__(self, setting: Setting, units: int, seed: int) -> None:
        self.setting = setting
        generator = torch.Generator().manual_seed(seed)
        kind = getattr(torch, setting.dtype)
        self.features = torch.rand(SAMPLES, WIDTH, generator=generator, dtype=torch.float64).to(kind).double()
        weight, bias = _silent(self.features, units, generator, kind)
        self.parameters = (torch.nn.Parameter(weight.clone()), torch.nn.Parameter(bias.clone()))
        groups = [{"params": [p]} | more for p, more in zip(self.parameters, ({}, setting.bias), strict=True)]
        self.optimizer = getattr(torch.optim, setting.kind)(groups, **setting.weight)
        size = 10.0 ** (2 * torch.rand(units, generator=generator) - 1)
        lean = torch.randn(units, generator=generator)
        for _ in range(setting.history):
            for p in self.parameters:
                grad = torch.randn(p.shape, generator=generator) + lean.reshape(-1, *[1] * (p.dim() - 1))
                p.grad = (grad * size.reshape(-1, *[1] * (p.dim() - 1))).to(kind)
            self.optimizer.step()
        with torch.no_grad():
            for p, before in zip(self.parameters, (weight, bias), strict=True):
                p.copy_(before)

    def play(self) -> Truth:
        """Steps with zero gradients and looks at every step."""
        weight, bias = self.parameters
        first = torch.full((len(weight),), -1)
        own = first.clone()
        start = [group["lr"] for group in self.optimizer.param_groups]
        narrow = self.features.to(weight.dtype)
        for k in range(self.setting.steps):
            for p in self.parameters:
                p.grad = torch.zeros_like(p)
            if self.setting.schedule:
                factor = self.setting.schedule[min(k, len(self.setting.schedule) - 1)]
                for group, lr in zip(self.optimizer.param_groups, start, strict=True):
                    group["lr"] = lr * factor
            self.optimizer.step()
            with torch.no_grad():
                _note(first, (self.features @ weight.double().T + bias.double() > 0).any(0), k + 1)
                _note(own, (torch.nn.functional.linear(narrow, weight, bias) > 0).any(0), k + 1)
        return Truth(first=first.numpy(), own=own.numpy(), values=(weight.detach(), bias.detach()))


def predicted(prognoses: tuple[Prognosis, ...], remains: Remains) -> NDArray[np.int64]:
    """Steps ahead at which each unit is said to fire first; -1 if it is not said to."""
    first = np.full(len(remains.units), -1)
    for unit, step in steps_of(prognoses):
        first[unit] = step - remains.step
    return first


def steps_of(prognoses: tuple[Prognosis, ...]) -> Iterator[tuple[int, int]]:
    """Units that return, with their steps."""
    for prognosis in prognoses:
        if prognosis.steps:
            yield from zip(prognosis.units, prognosis.steps, strict=True)


def units_of(prognoses: tuple[Prognosis, ...], **wanted: object) -> set[int]:
    """Units of the prognoses whose fields have the wanted values."""
    return {u for p in prognoses if all(getattr(p, k) == v for k, v in wanted.items()) for u in p.units}


def _silent(
    features: torch.Tensor, units: int, generator: torch.Generator, kind: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and biases of random units that fire for no sample; a third has a positive bias."""
    weights, biases = [], []
    for wanted, lifted in ((units - units // 3, False), (units // 3, True)):
        found = 0
        while found < wanted:
            weight = torch.randn(4096, WIDTH, generator=generator)
            bias = torch.randn(4096, generator=generator) - 1
            if lifted:
                weight = 0.3 * weight - 0.5 * torch.rand(4096, 1, generator=generator)
                bias = 0.5 * torch.rand(4096, generator=generator)
            weight, bias = weight.to(kind), bias.to(kind)
            below = ((features @ weight.double().T + bias.double()) <= 0).all(0)
            weights.append(weight[below][: wanted - found])
            biases.append(bias[below][: wanted - found])
            found += len(biases[-1])
    return torch.cat(weights), torch.cat(biases)


def _state(state: dict[str, Any], units: int) -> dict[str, Any]:
    """An optimiser's state as plain numbers and arrays of shape (U, D)."""
    kept: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and value.dim():
            kept[name] = value.detach().to(_plain(value)).numpy().reshape(units, -1).copy()
        else:
            kept[name] = value.detach().numpy().copy() if isinstance(value, torch.Tensor) else value
    return kept


def _plain(tensor: torch.Tensor) -> torch.dtype:
    """A format that numpy has."""
    return torch.float32 if tensor.dtype == torch.bfloat16 else tensor.dtype


def _lrs(setting: Setting, lr: float) -> NDArray[np.float64] | None:
    """The coming learning rates."""
    return lr * np.array(setting.schedule) if setting.schedule else None


def _note(first: torch.Tensor, firing: torch.Tensor, k: int) -> None:
    """Notes the first step."""
    first[firing & (first < 0)] = k
