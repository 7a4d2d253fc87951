"""Curvature in a run: what is measured is right, and no code of the user's runs once more for it."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from memory import Memory
from torch import Tensor, nn

from defib.capture.curvature import Curvatures
from defib.capture.recorder import Recorder
from defib.capture.session import Session
from defib.core.sharpness import SHARPNESS_COLUMNS, Survey, Surveyed
from defib.probe.sharpness import survey

LARGEST = 4.0
Row = dict[str, float]


def watch(model: nn.Module, sink: Memory, every: int | None = 1, measure=survey) -> Session:
    recorder = Recorder(sink, [model], every=1)
    recorder.curvatures = Curvatures(sink, measure, every=every)
    return Session(recorder, sink)


def rows(sink: Memory) -> dict[int, Row]:
    """What was measured, by step."""
    found: dict[int, Row] = {}
    for _, step, columns in sink.streams:
        if "sharp.largest" in columns:
            assert set(columns) == {f"sharp.{name}" for name in SHARPNESS_COLUMNS}
            found[step] = {name: float(columns[f"sharp.{name}"][0]) for name in SHARPNESS_COLUMNS}
    return found


class Quadratic(nn.Module):
    """w . A w / 2 with eigenvalues of A from 0.1 to :data:`LARGEST`."""

    def __init__(self) -> None:
        super().__init__()
        turned, _ = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))
        self.w = nn.Parameter(torch.randn(8, dtype=torch.float64))
        self.a = turned @ torch.diag(torch.linspace(0.1, LARGEST, 8, dtype=torch.float64)) @ turned.T

    def forward(self) -> Tensor:
        return self.w @ self.a @ self.w / 2


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 6, clip: float = 0.0) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model().backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


OPTIMIZERS = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.1), 2.0),
    "momentum": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), 3.8),
    "damped": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5, dampening=0.4), 5.0),
    "nesterov": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), 3.8 / 2.8),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_known_curvature_is_measured_to_a_millionth(name, sink):
    torch.manual_seed(0)
    model = Quadratic()
    build, bound = OPTIMIZERS[name]
    session = watch(model, sink)
    descend(model, build(model.parameters()))
    session.close()
    found = rows(sink)
    assert sorted(found) == [1, 2, 3, 4, 5]  # the optimiser is known from its first step on
    for row in found.values():
        assert row["largest"] == pytest.approx(LARGEST, rel=1e-6)
        assert row["product"] == pytest.approx(0.1 * LARGEST, rel=1e-6)
        assert row["bound"] == pytest.approx(bound, rel=1e-6)
        assert row["reached"] == pytest.approx(1.0, abs=1e-6)
    assert math.isnan(found[1]["along"])
    assert all(0.99 * row["product"] < row["along"] <= row["product"] for s, row in found.items() if s > 1)


ADAPTIVE = {
    "adam": (lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.3), 0.3),
    "adamw": (lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.3), 0.0),
    "amsgrad": (lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True), 0.0),
    "rmsprop": (lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True), 0.0),
    "adagrad": (lambda p: torch.optim.Adagrad(p, lr=0.01, lr_decay=0.1), 0.0),
    "adamax": (lambda p: torch.optim.Adamax(p, lr=0.01), 0.0),
}


def preconditioner(name: str, optimizer: torch.optim.Optimizer, w: Tensor) -> Tensor:
    """What divides the gradient, over the rate; by each optimiser's page in torch's manual."""
    state, group = optimizer.state[w], optimizer.param_groups[0]
    t = float(state["step"])
    if name in {"adam", "adamw", "amsgrad"}:
        square = state["max_exp_avg_sq" if name == "amsgrad" else "exp_avg_sq"]
        size = (square / (1 - 0.999**t)).sqrt() + 1e-8
        return size * (1 - 0.9 ** (t + 1)) / group["lr"]
    if name == "adamax":
        return state["exp_inf"] * (1 - 0.9 ** (t + 1)) / group["lr"]
    if name == "rmsprop":
        return ((state["square_avg"] - state["grad_avg"] ** 2).sqrt() + 1e-8) / group["lr"]
    return (state["sum"].sqrt() + 1e-10) * (1 + t * 0.1) / group["lr"]


@pytest.mark.parametrize("name", ADAPTIVE)
def test_in_an_adaptive_optimisers_geometry_it_equals_a_dense_eigenvalue(name, sink):
    torch.manual_seed(0)
    model = Quadratic()
    build, decay = ADAPTIVE[name]
    optimizer = build(model.parameters())
    session = watch(model, sink)
    truth = {}
    for step in range(8):
        optimizer.zero_grad()
        model().backward()
        if step:
            size = preconditioner(name, optimizer, model.w)
            dense = torch.linalg.eigvals((model.a + decay * torch.eye(8)) / size[:, None])
            truth[step] = float(dense.real.max())
        optimizer.step()
    session.close()
    found = rows(sink)
    assert sorted(found) == sorted(truth)
    for step, row in found.items():
        assert row["product"] == pytest.approx(truth[step], rel=1e-5)
        assert row["largest"] == pytest.approx(LARGEST, rel=1e-6)
    bounds = {"rmsprop": 3.0, "adagrad": 2.0}
    assert found[3]["bound"] == pytest.approx(bounds.get(name, 38.0), rel=1e-6)


def test_clipping_is_told_as_the_share_of_the_gradient_that_arrived(sink):
    torch.manual_seed(0)
    model = Quadratic()
    session = watch(model, sink)
    descend(model, torch.optim.SGD(model.parameters(), lr=0.01), clip=0.5)
    size = float((model.a @ model.w.detach()).norm())
    session.close()
    assert 0.0 < rows(sink)[5]["reached"] < 0.6
    assert rows(sink)[5]["reached"] == pytest.approx(0.5 / size, rel=0.05)


def test_a_scaled_loss_is_measured_as_if_it_were_not(sink):
    torch.manual_seed(0)
    model = Quadratic()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    session = watch(model, sink)
    for _ in range(6):
        optimizer.zero_grad()
        scaler.scale(model()).backward()
        scaler.step(optimizer)
        scaler.update()
    session.close()
    found = rows(sink)
    assert sorted(found) == [1, 2, 3, 4, 5]
    assert found[4]["product"] == pytest.approx(0.1 * LARGEST, rel=1e-6)


def test_an_optimiser_nobody_knows_has_its_curvature_measured_and_no_bound(sink):
    class Mine(torch.optim.SGD):
        pass

    torch.manual_seed(0)
    model = Quadratic()
    session = watch(model, sink)
    descend(model, Mine(model.parameters(), lr=0.1))
    session.close()
    assert rows(sink)[3]["largest"] == pytest.approx(LARGEST, rel=1e-6)
    assert math.isnan(rows(sink)[3]["product"])
    assert math.isnan(rows(sink)[3]["bound"])


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1))


def loop(model: nn.Module, sink: Memory, before, steps: int = 4) -> Curvatures:
    """A plain loop; ``before`` is called with the hidden activation and the loss before each backward."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = watch(model, sink)
    for _ in range(steps):
        optimizer.zero_grad()
        hidden = model[1](model[0](torch.randn(9, 5)))
        loss = F.mse_loss(model[2](hidden), torch.randn(9, 1))
        before(hidden, loss)
        loss.backward()
        optimizer.step()
    curvatures = session._recorder.curvatures
    session.close()
    assert session.faults == 0
    return curvatures


def test_hooks_on_tensors_are_called_once_a_step_and_measuring_is_refused(sink):
    calls = []
    found = loop(net(), sink, lambda hidden, _: hidden.register_hook(lambda g: calls.append(1)))
    assert len(calls) == 4
    assert found.measured == 0
    assert "hooks on tensors" in found.why_off


def test_a_retained_gradient_is_not_added_to(sink):
    kept = []

    def retain(hidden: Tensor, _loss: Tensor) -> None:
        hidden.retain_grad()
        kept.append(hidden)

    torch.manual_seed(1)
    found = loop(net(), sink, retain)
    watched = [h.grad.clone() for h in kept]
    kept.clear()
    torch.manual_seed(1)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i in range(4):
        optimizer.zero_grad()
        hidden = model[1](model[0](torch.randn(9, 5)))
        hidden.retain_grad()
        F.mse_loss(model[2](hidden), torch.randn(9, 1)).backward()
        optimizer.step()
        assert torch.equal(hidden.grad, watched[i])
    assert found.measured == 0


def test_hooks_on_nodes_are_called_once_a_step(sink):
    calls = []
    found = loop(net(), sink, lambda hidden, _: hidden.grad_fn.register_hook(lambda *_: calls.append(1)))
    assert len(calls) == 4
    assert "hooks in the graph" in found.why_off


def test_hooks_that_come_after_the_gradient_is_there_do_not_keep_it_from_being_measured(sink):
    model, calls = net(), []
    model[0].weight.register_post_accumulate_grad_hook(lambda p: calls.append(1))
    found = loop(model, sink, lambda *_: None)
    assert len(calls) == 4
    assert found.measured == 3


class Counted(torch.autograd.Function):
    """x -> 2 x, and counts its backwards."""

    calls = 0

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        Counted.calls += 1
        return 2 * g


def test_a_hand_written_backward_runs_as_often_as_the_script_asks(sink):
    class Doubled(Quadratic):
        def forward(self) -> Tensor:
            return Counted.apply(super().forward())

    Counted.calls = 0
    torch.manual_seed(0)
    model = Doubled()
    session = watch(model, sink)
    descend(model, torch.optim.SGD(model.parameters(), lr=0.01))
    curvatures = session._recorder.curvatures
    session.close()
    assert Counted.calls == 6
    assert "has a backward of its own" in curvatures.why_off


def test_gradients_of_two_backwards_are_not_taken_for_those_of_one(sink):
    def twice(_hidden: Tensor, loss: Tensor) -> None:
        (0.5 * loss).backward(retain_graph=True)

    found = loop(net(), sink, twice)
    assert found.measured == 0
    assert "not that of this loss alone" in found.why_off


def test_what_goes_wrong_in_measuring_is_told_and_training_goes_on(sink):
    def broken(_asked: Survey) -> Surveyed:
        raise ZeroDivisionError("planted")

    torch.manual_seed(0)
    model = Quadratic()
    session = watch(model, sink, measure=broken)
    descend(model, torch.optim.SGD(model.parameters(), lr=0.1), steps=8)
    curvatures = session._recorder.curvatures
    session.close()
    assert session.faults == 0
    assert [e for e in sink.events if e[1] == "curvature-fault"]
    assert "planted" in curvatures.why_off


def test_too_little_memory_is_a_reason_and_nothing_is_tried(sink, monkeypatch):
    monkeypatch.setattr("defib.probe.sharpness.allowed", lambda device: 1000.0)
    torch.manual_seed(0)
    model = Quadratic()
    session = watch(model, sink)
    descend(model, torch.optim.SGD(model.parameters(), lr=0.1))
    curvatures = session._recorder.curvatures
    session.close()
    assert "of memory" in curvatures.why_off


def test_measuring_keeps_to_its_share_of_the_time_unless_told_otherwise(sink):
    torch.manual_seed(0)
    model = Quadratic()
    session = watch(model, sink, every=None)
    descend(model, torch.optim.SGD(model.parameters(), lr=0.1), steps=400)
    curvatures = session._recorder.curvatures
    session.close()
    assert 3 <= curvatures.measured < 60
    steps = np.array(sorted(rows(sink)))
    assert steps[0] == 1
    assert np.diff(steps).max() > 3


def test_afterwards_nothing_of_torch_is_replaced(sink):
    session = watch(net(), sink)
    assert torch.Tensor.register_hook.__module__ == "defib.capture.twice"
    session.close()
    assert torch.Tensor.register_hook.__module__ == "torch._tensor"
    assert "retain_grad" not in vars(torch.Tensor)
