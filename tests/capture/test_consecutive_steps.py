"""Two consecutive steps beside each other are compared exactly, at no harm."""

import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from memory import Memory
from torch import Tensor, nn

from defib.capture import secant
from defib.capture.session import start
from defib.core.optimizer import PAIR_COLUMNS

Row = dict[str, float]


def flat(tensors) -> Tensor:
    return torch.cat([t.detach().double().flatten() for t in tensors])


def rows(sink: Memory, optimizer: int = 0) -> dict[int, Row]:
    """What was compared, by step."""
    found: dict[int, Row] = {}
    for index, step, columns in sink.streams:
        if index == optimizer and "pair.again" in columns:
            assert set(columns) == {f"pair.{name}" for name in PAIR_COLUMNS}
            assert step not in found
            found[step] = {name: float(columns[f"pair.{name}"][0]) for name in PAIR_COLUMNS}
    return found


def truth(g: Tensor, following: Tensor, d: Tensor) -> Row:
    def cosine(a: Tensor, b: Tensor) -> float:
        return float(a @ b / a.norm() / b.norm())

    sizes = {"gradient": float(g.norm()), "next_gradient": float(following.norm()), "update": float(d.norm())}
    return sizes | {"before": cosine(g, d), "after": cosine(following, d), "again": cosine(g, following)}


def small(width: int = 7) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 3))


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, batches: int = 1):
    """An ordinary loop; gradients and parameters before each step."""
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(batches):
            x, y = torch.randn(9, 6), torch.randint(3, (9,))
            (F.cross_entropy(model(x), y) / batches).backward()
        seen.append((flat(p.grad for p in model.parameters()), flat(model.parameters())))
        optimizer.step()
    return seen


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.3),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
}


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_numbers_are_those_of_gradients_and_weights_themselves(name, batches, sink):
    torch.manual_seed(0)
    model = small()
    optimizer = OPTIMIZERS[name](model.parameters())
    session = start(model, sink=sink, every=3)
    seen = trained(model, optimizer, 10, batches)
    session.close()
    assert session.faults == 0, sink.events
    found = rows(sink)
    assert len(found) >= 3
    assert any(step + 1 not in found for step in found), "the step after a sampled one need not be sampled"
    for step, row in found.items():
        (g, before), (following, after) = seen[step], seen[step + 1]
        expected = truth(g, following, after - before)
        assert row == pytest.approx(expected, rel=2e-4, abs=2e-6)


def test_a_large_model_is_compared_by_an_even_sample(sink, monkeypatch):
    monkeypatch.setattr(secant, "SAMPLE", 1000)
    torch.manual_seed(0)
    model = small(2000)
    session = start(model, sink=sink, every=1)
    seen = trained(model, torch.optim.SGD(model.parameters(), lr=0.3), 6)
    session.close()
    for step, row in rows(sink).items():
        expected = truth(seen[step][0], seen[step + 1][0], seen[step + 1][1] - seen[step][1])
        assert row["again"] == pytest.approx(expected["again"], abs=0.15)
        assert row["before"] == pytest.approx(-1, abs=1e-3)
        assert 0 < row["gradient"] < expected["gradient"] / 3


def test_a_step_after_which_other_parameters_have_a_gradient_is_not_compared(sink):
    torch.manual_seed(0)
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = start(model, sink=sink, every=1)
    trained(model, optimizer, 3)
    model[0].requires_grad_(False)
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(model(torch.randn(9, 6)), torch.randint(3, (9,))).backward()
    optimizer.step()
    session.close()
    assert session.faults == 0
    assert set(rows(sink)) == {0, 1}


def test_a_step_that_failed_is_not_compared(sink):
    class Fragile(torch.optim.SGD):
        broken = False

        def step(self, closure=None):
            if self.broken:
                raise RuntimeError("the optimiser's own trouble")
            return super().step(closure)

    torch.manual_seed(0)
    model = small()
    optimizer = Fragile(model.parameters(), lr=0.1)
    session = start(model, sink=sink, every=1)
    trained(model, optimizer, 2)
    optimizer.broken = True
    with pytest.raises(RuntimeError, match="own trouble"):
        trained(model, optimizer, 1)
    optimizer.broken = False
    trained(model, optimizer, 2)
    session.close()
    assert session.faults == 0
    assert 2 not in rows(sink)
    assert 1 in rows(sink)


def test_what_waits_for_the_next_step_holds_nothing_of_the_users(sink):
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = start(model, sink=sink, every=1)
    trained(model, optimizer, 2)
    weights = [weakref.ref(p) for p in model.parameters()]
    del model, optimizer
    assert [w() for w in weights] == [None] * 4
    session.close()


def test_gradients_that_overflow_their_squares_are_compared_all_the_same(sink):
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-30)
    session = start(model, sink=sink, every=1)
    for _ in range(2):
        optimizer.zero_grad()
        (model(torch.full((1, 2), 1e15)) * 1e15).sum().backward()
        optimizer.step()
    session.close()
    (row,) = rows(sink).values()
    assert row["gradient"] == pytest.approx(2**0.5 * 1e30, rel=1e-4)
    assert row["again"] == pytest.approx(1)


def test_the_overshoot_on_a_parabola_is_rate_times_curvature(sink):
    """Loss c w^2 / 2 has curvature c; whatever moves w, the ratio is step over way to the lowest point."""
    curvature = 4.0
    for lr in (0.1, 0.25, 0.45):
        memory, w = Memory(), nn.Linear(1, 1, bias=False)
        optimizer = torch.optim.SGD(w.parameters(), lr=lr)
        session = start(w, sink=memory, every=1)
        for _ in range(3):
            optimizer.zero_grad()
            (curvature / 2 * w(torch.ones(1, 1)).square().sum()).backward()
            optimizer.step()
        session.close()
        for row in rows(memory).values():
            slopes = row["after"] * row["next_gradient"] / (row["before"] * row["gradient"])
            assert 1 - np.nan_to_num(slopes) == pytest.approx(lr * curvature, rel=1e-3)
