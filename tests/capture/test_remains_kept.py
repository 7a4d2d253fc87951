"""What is kept of dead units is what the model and its optimiser hold, and keeping it harms nothing."""

import os
import signal
import time

import numpy as np
import pytest
import torch
from memory import Memory
from torch import nn

import defib
from defib.capture import recorder
from defib.capture import remains as custody
from defib.capture.session import start
from defib.core.remains import Remains
from defib.core.remains_exhibit import KIND, recover
from defib.core.run import Exhibit
from defib.record.reader import read

optim = torch.optim


def kept(sink: Memory) -> dict[str, Remains]:
    """The last remains of each layer."""
    found = {}
    for (kind, path, step), (facts, arrays) in sink.exhibits.items():
        if kind == KIND:
            found[path] = recover(Exhibit(kind=kind, path=path, step=step, facts=facts, arrays=arrays))
    return found


def net(kill=(1, 4), hidden=6):
    model = nn.Sequential(nn.Linear(5, hidden), nn.ReLU(), nn.Linear(hidden, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].bias[list(kill)] -= 50
        model[2].bias[2] -= 50
    return model


def train(model, optimizer, steps=30, rows=16, shape=(5,), flush=None):
    data = torch.randn(4 * rows, *shape)
    for t in range(steps):
        x = data[torch.arange(rows) * 4 % len(data) + t % 4]
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        if flush is not None and t == flush[0]:
            flush[1]()
    return data


SETTINGS = {
    "SGD": lambda p: optim.SGD(p, lr=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1),
    "AMSGrad": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
    "capturable": lambda p: optim.Adam(p, lr=torch.tensor(0.01), foreach=False),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "NAdam": lambda p: optim.NAdam(p, lr=0.01),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_rows_are_those_of_the_model_and_of_its_optimizer(name, sink):
    torch.manual_seed(0)
    model = net()
    optimizer = SETTINGS[name](model.parameters())
    session = start(model, sink=sink)
    data = train(model, optimizer)
    session.close()
    assert session.faults == 0, sink.events
    first = kept(sink)["0"]
    assert first.units.tolist() == [1, 4]
    assert (first.step, first.first_layer, first.threshold) == (30, True, 0.0)
    kinds = {"capturable": "Adam", "momentum": "SGD", "AMSGrad": "AdamW"}
    for part in first.parts:
        parameter = getattr(model[0], part.name)
        np.testing.assert_array_equal(part.values, parameter.detach()[[1, 4]].reshape(2, -1).numpy())
        state = optimizer.state[parameter]
        assert set(part.state) == {k for k, v in state.items() if v is not None}
        for key, value in part.state.items():
            wanted = state[key]
            if np.ndim(value):
                np.testing.assert_array_equal(value, wanted[[1, 4]].reshape(2, -1).numpy())
            else:
                assert value == float(wanted)
        assert part.kind == kinds.get(name, name if name != "capturable" else "Adam")
        group = optimizer.param_groups[0]
        assert part.settings["lr"] == pytest.approx(float(group["lr"]))
        assert part.settings.get("weight_decay") == group.get("weight_decay")
        assert not part.gradient_is_none
    offered = {row.tobytes() for row in data.numpy()}
    assert {row.tobytes() for row in first.features} <= offered
    assert len({row.tobytes() for row in first.features}) == len(first.features) > 10


class Every(Memory):
    """Keeps every exhibit, not just the last of its kind."""

    def exhibit(self, kind, path, step, facts, arrays):
        super().exhibit(kind, path, step, facts, arrays)
        if kind == KIND and path == "0":
            shown = Exhibit(kind=kind, path=path, step=step, facts=facts, arrays=arrays)
            self.remains = [*getattr(self, "remains", []), recover(shown)]


@pytest.mark.parametrize("every", [1, 7, 1000])
def test_the_state_is_that_of_the_step_it_names_wherever_the_flush_falls(every, monkeypatch):
    """A flush falls before a step or, on a step that is read, after it."""
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(custody, "BYTES_A_SECOND", 1 << 50)
    torch.manual_seed(0)
    sink, model = Every(), net()
    optimizer = optim.Adam(model.parameters(), lr=0.01, weight_decay=0.1)
    session = start(model, sink=sink, every=every)
    seen = [model[0].weight.detach().clone()]
    for _ in range(60):
        train(model, optimizer, steps=1)
        seen.append(model[0].weight.detach().clone())
    session.close()
    assert session.faults == 0
    assert len({r.step for r in sink.remains}) > 5
    for found in sink.remains:
        weight = next(p for p in found.parts if p.name == "weight")
        np.testing.assert_array_equal(weight.values, seen[found.step][found.units].numpy())
        assert weight.state["step"] == found.step


class Counting(Memory):
    """Counts how often each layer's remains are written."""

    def exhibit(self, kind, path, step, facts, arrays):
        super().exhibit(kind, path, step, facts, arrays)
        self.written = [*getattr(self, "written", []), path]


def test_a_layer_whose_silence_has_not_grown_is_not_written_again_with_one_whose_has(monkeypatch):
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(custody, "BYTES_A_SECOND", 1)  # so that nothing is written for its age
    torch.manual_seed(0)
    sink, model = Counting(), net(hidden=12)
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    session = start(model, sink=sink, every=5)
    train(model, optimizer, steps=40)
    before = list(sink.written)
    assert set(before) == {"0", "2"}
    with torch.no_grad():
        model[0].bias[[0, 2, 3]] -= 50
    train(model, optimizer, steps=40)
    assert sink.written[len(before) :] == ["0"]
    assert kept(sink)["0"].units.tolist() == [0, 1, 2, 3, 4]
    session.close()


def test_a_deeper_layer_has_the_features_of_its_last_reading(sink):
    torch.manual_seed(0)
    model = net()
    session = start(model, sink=sink, every=3)
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    train(model, optimizer, steps=31)
    session.close()
    deep = kept(sink)["2"]
    assert (deep.first_layer, deep.units.tolist(), deep.features.shape) == (False, [2], (16, 6))
    assert (deep.features[:, [1, 4]] == 0).all(), "the dead units of the layer below"


def test_two_groups_and_a_parameter_without_an_optimizer(sink):
    torch.manual_seed(0)
    model = net()
    rest = [p for m in model[1:] for p in m.parameters()]
    groups = [{"params": [model[0].weight], "weight_decay": 0.3}, {"params": rest}]
    session = start(model, sink=sink)
    optimizer = optim.SGD(groups, lr=0.01)
    train(model, optimizer)
    session.close()
    parts = {p.name: p for p in kept(sink)["0"].parts}
    assert parts["weight"].settings["weight_decay"] == 0.3
    assert (parts["bias"].kind, parts["bias"].settings, parts["bias"].state) == ("", {}, {})


def test_another_groups_decay_is_the_biases_own(sink):
    torch.manual_seed(0)
    model = net()
    biases = [p for n, p in model.named_parameters() if n.endswith("bias")]
    weights = [p for n, p in model.named_parameters() if n.endswith("weight")]
    groups = [{"params": weights, "weight_decay": 0.3}, {"params": biases, "weight_decay": 0.0}]
    session = start(model, sink=sink)
    optimizer = optim.SGD(groups, lr=0.01)
    train(model, optimizer)
    session.close()
    assert {p.name: p.settings["weight_decay"] for p in kept(sink)["0"].parts} == {"weight": 0.3, "bias": 0.0}


class Adam(optim.SGD):
    """Somebody else's optimiser of a known name."""


def test_somebody_elses_optimizer_of_a_known_name_is_not_taken_for_torchs(sink):
    torch.manual_seed(0)
    model = net()
    session = start(model, sink=sink)
    optimizer = Adam(model.parameters(), lr=0.01)
    train(model, optimizer)
    session.close()
    assert {p.kind for p in kept(sink)["0"].parts} == {f"{__name__}.Adam"}


def convolution():
    return nn.Sequential(nn.Conv2d(2, 5, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(45, 2))


def test_a_convolution_has_one_row_a_position(sink):
    torch.manual_seed(0)
    model = convolution()
    with torch.no_grad():
        model[0].bias[3] -= 50
    session = start(model, sink=sink)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    train(model, optimizer, shape=(2, 5, 5))
    session.close()
    found = kept(sink)["0"]
    assert (found.units.tolist(), found.features.shape[1], found.first_layer) == ([3], 18, True)
    weight = next(p.values for p in found.parts if p.name == "weight")
    np.testing.assert_array_equal(weight[0], model[0].weight.detach()[3].flatten().numpy())


NOT_FOLLOWED = {
    "batch norm between": lambda: nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)
    ),
    "grouped convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (5, 1)), nn.Conv1d(5, 10, 1, groups=5), nn.ReLU(), nn.Flatten(), nn.Linear(10, 2)
    ),
    "leaky": lambda: nn.Sequential(nn.Linear(5, 6), nn.LeakyReLU(0.1), nn.Linear(6, 2)),
}


@pytest.mark.parametrize("name", NOT_FOLLOWED)
def test_what_is_not_followed_is_not_kept(name, sink):
    torch.manual_seed(0)
    model = NOT_FOLLOWED[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter[0] = -50
    session = start(model, sink=sink)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    train(model, optimizer)
    session.close()
    assert session.faults == 0
    assert kept(sink) == {}


def test_of_very_many_dead_units_some_are_kept_and_how_many_there_are_is_told(sink):
    torch.manual_seed(0)
    model = net(kill=range(900), hidden=1000)
    session = start(model, sink=sink)
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    train(model, optimizer)
    session.close()
    [(facts, _)] = [e for (kind, path, _), e in sink.exhibits.items() if (kind, path) == (KIND, "0")]
    assert facts["silent"] >= 900
    units = kept(sink)["0"].units
    assert len(units) == custody.UNITS
    assert len(set(units.tolist())) == custody.UNITS


def test_wide_inputs_are_kept_within_their_memory(sink, monkeypatch):
    monkeypatch.setattr(custody, "LAYER_BYTES", 100_000)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4000, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        model[0].bias[:] -= 500
    session = start(model, sink=sink)
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    train(model, optimizer, shape=(4000,))
    session.close()
    found = kept(sink)["0"]
    assert 0 < found.features.nbytes <= 100_000
    assert 0 < sum(p.values.nbytes for p in found.parts) <= 100_000


def test_a_fault_in_the_keeping_ends_the_keeping_and_not_the_watch(sink, monkeypatch):
    def broken(*_args, **_options):
        raise RuntimeError("boom")

    monkeypatch.setattr(custody, "rows_of", broken)
    torch.manual_seed(0)
    model = net()
    session = start(model, sink=sink)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    train(model, optimizer)
    session.close()
    assert session.faults == 0
    assert kept(sink) == {}
    assert [e[2] for e in sink.events if e[1] == "watcher-fault"] == [
        {"error": "remains of dead units: RuntimeError: boom", "off": False}
    ]
    assert sink.lives[0, "0"][0]["steps"] == 30


def test_data_that_wants_a_gradient_is_not_taken_for_data_that_stands_still(sink):
    torch.manual_seed(0)
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    session = start(model, sink=sink, every=1)
    for _ in range(30):
        x = torch.randn(16, 5, requires_grad=True)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    session.close()
    assert not kept(sink)["0"].first_layer


def test_the_last_flush_of_a_killed_run_is_there(tmp_path):
    child = os.fork()
    if child == 0:
        try:
            torch.manual_seed(0)
            model = net()
            optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
            run = defib.watch(model, optimizer, output=tmp_path / "x.rec")
            start_time = time.monotonic()
            while time.monotonic() - start_time < 5.5:
                train(model, optimizer, steps=20)
            del run
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    run = read(tmp_path / "x.rec")
    assert run.facts["status"] == "interrupted"
    found = {e.path: recover(e) for e in run.exhibits if e.kind == KIND}
    assert found["0"].units.tolist()[:2] == [1, 4]
    assert found["0"].step > 0.3 * run.steps
