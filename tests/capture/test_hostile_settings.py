"""Scripts that turn warnings and numpy's floating-point faults into errors, or change torch's defaults."""

import warnings

import numpy as np
import pytest
import torch
from memory import Memory
from torch import nn

import defib
from defib.capture.session import start

STEPS = 12
LARGEST = float(np.finfo(np.float32).max)


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).to(dtype)


def train(model: nn.Module, times: float, lr: float = 1e-3) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    x = torch.randn(16, 6, dtype=torch.float64)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(x).square().mean() * times
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# 1e39 is beyond float32, the square of 1e200 beyond float64; 1e-42 is subnormal in float32.
@pytest.mark.parametrize("times", [1e39, 1e200, 1e-42, 1e-300, float("nan"), float("inf")])
@pytest.mark.parametrize("curvature", [False, True])
def test_a_run_is_recorded_whole_where_every_warning_is_an_error(tmp_path, times, curvature):
    model = network()
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        with defib.watch(model, output=tmp_path / "run.rec", every=1, curvature=curvature) as run:
            losses = train(model, times, lr=1e-42)
    view = run.view
    assert view.facts["faults"] == 0
    assert not {e.kind for e in view.events} & {"watcher-fault", "curvature-fault", "gap"}
    assert not any("encoded" in entry.why for entry in view.unseen)
    assert view.overhead is not None
    assert view.facts["overhead"]["readings"] == STEPS
    assert view.objective is not None
    expected = [
        np.float32(np.clip(loss, -LARGEST, LARGEST)) if np.isfinite(loss) else loss for loss in losses
    ]
    for values in (view.optimizers[0].loss.values, view.objective.columns["loss"]):
        np.testing.assert_array_equal(values.astype(np.float32), np.array(expected, np.float32))


def test_an_empty_target_and_an_empty_layer_leave_no_warning(sink: Memory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that there is nothing to initialise
        model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 0), nn.ReLU(), nn.Linear(0, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = start(model, sink=sink, every=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(STEPS):
            optimizer.zero_grad()
            y = model(torch.randn(16, 6))
            nn.functional.mse_loss(y[:, :0], torch.zeros(16, 0), reduction="sum").backward()
            optimizer.step()
    watch.close()
    assert watch.faults == 0
    assert watch.readings == STEPS
    assert not [kind for _, kind, _ in sink.events if kind == "watcher-fault"]


def test_torchs_default_device_is_not_ours(tmp_path):
    model, x = network(torch.float32), torch.randn(16, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        torch.device("meta"),
        defib.watch(model, output=tmp_path / "run.rec", every=1, curvature=True) as run,
    ):
        for _ in range(STEPS):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.mse_loss(model(x), x[:, :3]))
            optimizer.step()
    assert run.view.facts["faults"] == 0
    assert run.view.facts["curvature"]["measured"] > 0
    assert "curvature-fault" not in {event.kind for event in run.view.events}


def test_a_complex_number_that_is_trained_is_no_loss_and_no_fault(sink: Memory):
    parameter = nn.Parameter(torch.ones(3, dtype=torch.complex64))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    watch = start(sink=sink, every=1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (parameter * 2).sum().backward(torch.tensor(1 + 0j))
        optimizer.step()
    assert watch.steps == STEPS
    watch.close()
    assert watch.faults == 0
