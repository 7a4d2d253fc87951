"""Death by step, unit by unit, equals what a plain forward pass over every batch says.

The truth is computed before each step with numpy-like brute force: a unit is
alive on a step if its pre-activation is above 0 for at least one entry of that
batch. What is reported is read from parameter gradients alone.

Letters: ``U`` units, ``T`` steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from memory import Memory
from numpy.typing import NDArray
from torch import Tensor, nn

from defib.capture.session import start

T = 30
KILL = -1e4


@dataclass(frozen=True, kw_only=True)
class Net:
    """A network with one hidden layer to look at.

    Attributes:
        model: The network.
        path: The layer whose units are meant.
        switch: Where a unit is pushed under water: its bias, or its row of weights.
        truth: Pre-activations of that layer for a batch, units along axis 1.
        shape: Of one sample.
    """

    model: nn.Module
    path: str
    switch: Tensor
    truth: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]


NETS: dict[str, Callable[[], Net]] = {}


def net(build: Callable[[], Net]) -> Callable[[], Net]:
    NETS[build.__name__] = build
    return build


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


@net
def linear() -> Net:
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 3))
    return Net(model=model, path="0", switch=model[0].bias, truth=model[0].forward, shape=(5,))


@net
def linear_alone_with_nothing_else_to_read() -> Net:
    """One bias only: joining a single gradient must still be a copy."""
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 3, bias=False))
    return Net(model=model, path="0", switch=model[0].bias, truth=model[0].forward, shape=(5,))


@net
def in_place() -> Net:
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(inplace=True), nn.Linear(12, 3))
    return Net(model=model, path="0", switch=model[0].bias, truth=model[0].forward, shape=(5,))


@net
def functional() -> Net:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.out = nn.Linear(5, 12), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.hidden(x).clamp(min=0))

    model = Functional()
    return Net(model=model, path="hidden", switch=model.hidden.bias, truth=model.hidden.forward, shape=(5,))


@net
def weight_applied_by_hand() -> Net:
    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.out = nn.Linear(5, 12), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(F.relu_(x @ self.hidden.weight.T + self.hidden.bias))

    model = ByHand()
    return Net(model=model, path="hidden", switch=model.hidden.bias, truth=model.hidden.forward, shape=(5,))


@net
def convolution() -> Net:
    model = nn.Sequential(nn.Conv2d(2, 12, 3), nn.ReLU(), Flat(), nn.Linear(12 * 9, 3))
    return Net(model=model, path="0", switch=model[0].bias, truth=model[0].forward, shape=(2, 5, 5))


@net
def batch_norm_before_relu() -> Net:
    model = nn.Sequential(
        nn.Conv2d(2, 12, 3, bias=False), nn.BatchNorm2d(12), nn.ReLU(), Flat(), nn.Linear(12 * 9, 3)
    )

    def truth(x: Tensor) -> Tensor:
        z = model[0](x)
        return F.batch_norm(z, None, None, model[1].weight, model[1].bias, training=True)

    return Net(model=model, path="1", switch=model[1].bias, truth=truth, shape=(2, 5, 5))


@net
def rows_of_a_linear_without_bias() -> Net:
    model = nn.Sequential(nn.Linear(5, 12, bias=False), nn.ReLU(), nn.Linear(12, 3))
    return Net(model=model, path="0", switch=model[0].weight, truth=model[0].forward, shape=(5,))


@net
def rows_of_a_convolution_without_bias() -> Net:
    model = nn.Sequential(nn.Conv2d(2, 12, 3, bias=False), nn.ReLU(), Flat(), nn.Linear(12 * 9, 3))
    return Net(model=model, path="0", switch=model[0].weight, truth=model[0].forward, shape=(2, 5, 5))


@net
def columns_of_a_transposed_convolution_without_bias() -> Net:
    model = nn.Sequential(nn.ConvTranspose2d(2, 12, 3, bias=False), nn.ReLU(), Flat(), nn.Linear(12 * 49, 3))
    return Net(model=model, path="0", switch=model[0].weight, truth=model[0].forward, shape=(2, 5, 5))


@net
def transposed_convolution_in_groups_without_bias() -> Net:
    model = nn.Sequential(
        nn.ConvTranspose2d(4, 12, 3, groups=2, bias=False), nn.ReLU(), Flat(), nn.Linear(12 * 49, 3)
    )
    # Units 0 to 5 read the first two inputs, units 6 to 11 the others.
    first_group = model[0].weight.detach()[:2].transpose(0, 1)
    return Net(model=model, path="0", switch=first_group, truth=model[0].forward, shape=(4, 5, 5))


@net
def transposed_convolution() -> Net:
    model = nn.Sequential(nn.ConvTranspose2d(2, 12, 3), nn.ReLU(), Flat(), nn.Linear(12 * 49, 3))
    return Net(model=model, path="0", switch=model[0].bias, truth=model[0].forward, shape=(2, 5, 5))


def drown(net: Net, unit: int) -> Tensor:
    """Push a unit's pre-activation below 0 for every input; returns what was there."""
    with torch.no_grad():
        if net.switch.ndim == 1:
            before = net.switch[unit].clone()
            net.switch[unit] = KILL
        else:  # inputs are positive, so negative weights are enough
            units_second = net.switch.ndim == 4 and net.switch.shape[1] == 12
            row = net.switch[:, unit] if units_second else net.switch[unit]
            before = row.clone()
            row.fill_(-1.0)
    return before


def raise_up(net: Net, unit: int, before: Tensor) -> None:
    with torch.no_grad():
        units_second = net.switch.ndim == 4 and net.switch.shape[1] == 12
        target = net.switch[:, unit] if units_second else net.switch[unit]
        target.copy_(before) if target.ndim else net.switch.__setitem__(unit, before)


def train(net: Net, sink: Memory, every: int | None = 7) -> NDArray[np.bool_]:
    """Units 0 to 4 die at planted steps, 3 and 4 return; returns who really fired, shape (T, U)."""
    optimizer = torch.optim.SGD(net.model.parameters(), lr=1e-3)
    deaths, returns = {0: 0, 1: 9, 2: 23, 3: 5, 4: 12}, {3: 17, 4: 13}
    saved: dict[int, Tensor] = {}
    session = start(net.model, sink=sink, every=every)
    with torch.no_grad():  # these fire on every sample until they are drowned
        for unit in deaths:
            before = drown(net, unit)
            raise_up(net, unit, before.abs() + (2.0 if net.switch.ndim == 1 else 0.0))
    fired = []
    for step in range(T):
        for unit in (u for u, s in deaths.items() if s == step):
            saved[unit] = drown(net, unit)
        for unit in (u for u, s in returns.items() if s == step):
            raise_up(net, unit, saved[unit])
        x, y = torch.rand(4, *net.shape), torch.randint(3, (4,))
        with torch.no_grad():
            fired.append((net.truth(x).transpose(0, 1).flatten(1) > 0).any(1).numpy())
        optimizer.zero_grad()
        F.cross_entropy(net.model(x), y).backward()
        optimizer.step()
    session.close()
    assert session.faults == 0, sink.events
    return np.array(fired)


def first_and_last(fired: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows first_alive, last_alive, alive_steps, by the obvious loop."""
    rows = []
    for unit in range(fired.shape[1]):
        steps = [s for s in range(len(fired)) if fired[s, unit]]
        rows.append((steps[0], steps[-1], len(steps)) if steps else (-1, -1, 0))
    return np.array(rows).T


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", NETS)
def test_reported_liveness_equals_brute_force(name, seed, sink):
    torch.manual_seed(seed)
    net = NETS[name]()

    fired = train(net, sink)

    facts, units = sink.lives[0, net.path]
    assert facts["steps"] == T
    assert facts["last_step"] == T - 1
    assert facts["period"] == 1
    truth = first_and_last(fired)
    assert list(truth[1, :3]) == [-1, 8, 22], "the planted deaths are what the brute force sees"
    assert not fired[5:17, 3].any()
    assert fired[17:, 3].any(), "the unit really returned"
    np.testing.assert_array_equal(units[:3], truth)


def test_the_source_says_what_was_read(sink):
    train(rows_of_a_linear_without_bias(), sink)
    assert sink.lives[0, "0"][0]["source"] == "rows of 0.weight"
    assert sink.lives[0, "2"][0]["source"] == "2.bias"


def test_liveness_survives_an_optimizer_that_dies_before_the_record_is_closed(sink):
    """Most scripts train inside a function: the optimiser is gone when the watch ends."""
    net = linear()
    session = start(net.model, sink=sink, every=1000)

    def training() -> NDArray[np.bool_]:
        optimizer = torch.optim.SGD(net.model.parameters(), lr=1e-3)
        fired = []
        for step in range(T):
            if step == 20:
                drown(net, 1)
            x = torch.rand(4, 5)
            fired.append((net.truth(x) > 0).any(0).numpy())
            optimizer.zero_grad()
            F.cross_entropy(net.model(x), torch.randint(3, (4,))).backward()
            optimizer.step()
        return np.array(fired)

    fired = training()
    session.close()
    facts, units = sink.lives[0, "0"]
    assert facts["steps"] == T
    assert facts["source"] == "0.bias"
    np.testing.assert_array_equal(units[:3], first_and_last(fired))
    assert len(sink.loss()) == T
    assert sink.optimizers[0]["groups"], "what was known of the optimiser stays known"
    assert sink.optimizers[0]["parameters"] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert sink.optimizers[0]["steps"] == T


def test_a_step_without_a_gradient_is_unknown_and_not_silent(sink):
    """A layer left out of some steps has no gradient there: nothing is said of those steps."""
    model = nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.Linear(3, 4)})
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    session = start(model, sink=sink, every=3)
    for step in range(10):
        optimizer.zero_grad()
        x = torch.rand(5, 3) + 0.1
        out = model["a"](x) if step % 2 else model["a"](x) + model["b"](x)
        out.sum().backward()
        optimizer.step()
    session.close()
    assert session.faults == 0, sink.events
    assert sink.lives[0, "a"][0]["steps"] == 10
    assert sink.lives[0, "b"][0]["steps"] == 5
    assert sink.lives[0, "b"][0]["last_step"] == 8
    assert (sink.lives[0, "b"][1] == np.array([[0], [8], [5], [0], [0]])).all()


@pytest.mark.parametrize("capacity", [1, 2, 3, 300])
def test_how_many_steps_wait_for_a_drain_changes_nothing(capacity, sink, monkeypatch):
    """Liveness does not depend on where the run is cut into drains."""
    torch.manual_seed(5)
    net = linear()
    truth_sink = Memory()
    train(net, truth_sink, every=1)
    torch.manual_seed(5)
    net = linear()
    monkeypatch.setattr("defib.capture.recorder.FLUSH_SECONDS", (1e9,) * 2 if capacity == 300 else (0.0,) * 2)
    monkeypatch.setattr("defib.capture.vitals._BYTES", 4 * 15 * capacity)
    train(net, sink, every=1000)
    np.testing.assert_array_equal(sink.lives[0, "0"][1], truth_sink.lives[0, "0"][1])
    assert sink.lives[0, "0"][0]["steps"] == T
