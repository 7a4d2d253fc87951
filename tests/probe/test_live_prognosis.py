"""The prognosis of a live model: it finds the dead units itself, touches nothing, says what it cannot see."""

import copy
import hashlib
import pickle
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import defib
from defib.core.errors import UsageError
from defib.core.prognosis import Outlook
from defib.probe.rates import Rates

optim = torch.optim


def everything(model: nn.Module, *optimizers: optim.Optimizer) -> str:
    """All bits that a prognosis might change."""
    found = hashlib.sha256()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found.update(f"{name} {id(tensor)} {id(tensor.grad)}".encode())
        found.update(tensor.detach().numpy().tobytes())
        found.update(b"" if tensor.grad is None else tensor.grad.numpy().tobytes())
    for module in model.modules():
        found.update(f"{module.training} {sorted(vars(module))}".encode())
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            found.update(repr({k: v for k, v in group.items() if k != "params"}).encode())
        for state in optimizer.state.values():
            for key, value in state.items():
                found.update(f"{key} {id(value)}".encode())
                found.update(value.numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode())
    generators = random.getstate(), np.random.get_state(), torch.get_rng_state().numpy().tobytes()
    found.update(pickle.dumps(generators))
    return found.hexdigest()


def net(dropout: float = 0.0) -> nn.Sequential:
    model = nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Dropout(dropout),
        nn.Linear(8, 5), nn.ReLU(inplace=True), nn.Linear(5, 3),
    )  # fmt: skip
    with torch.no_grad():
        model[0].bias[[2, 5]] -= 9.0
        model[4].bias[1] -= 50.0
    return model


def trained(make, dropout: float = 0.0):
    torch.manual_seed(0)
    model, data = net(dropout), torch.randn(60, 6)
    optimizer = make(model.parameters())
    for t in range(10):
        optimizer.zero_grad()
        model(data[t * 6 : t * 6 + 6]).square().mean().backward()
        optimizer.step()
    return model, optimizer, data


def answers(forecast) -> dict[tuple[str, int], tuple]:
    return {
        (p.path, u): (p.outlook, p.mechanism, p.steps[i] if p.steps else None)
        for p in forecast.prognoses
        for i, u in enumerate(p.units)
    }


MAKERS = {
    "Adam": lambda p: optim.Adam(p, lr=0.05, weight_decay=0.1),
    "SGD": lambda p: optim.SGD(p, lr=0.01, momentum=0.99, weight_decay=0.1),
}


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("name", MAKERS)
def test_nothing_is_changed_by_a_bit(name, mode):
    model, optimizer, data = trained(MAKERS[name], dropout=0.5)
    model.train(mode)
    before = everything(model, optimizer)
    forecast = defib.prognose(model, optimizer, DataLoader(TensorDataset(data), batch_size=7, shuffle=True))
    assert any(p.steps for p in forecast.prognoses), "its units were rehearsed as well"
    assert everything(model, optimizer) == before
    for state in optimizer.state.values():
        state[next(iter(state))].add_(1)
        break
    assert everything(model, optimizer) != before, "a change would have been seen"


def test_a_prognosis_is_no_step_of_a_watched_run(tmp_path):
    model, optimizer, data = trained(MAKERS["SGD"])
    with defib.watch(output=tmp_path / "x.rec") as run:  # whatever trains in this process
        model(data).square().mean().backward()
        optimizer.step()
        assert any(p.steps for p in defib.prognose(model, optimizer, data).prognoses)
        assert [o.steps for o in run.view.optimizers] == [1]


@pytest.mark.parametrize("name", MAKERS)
def test_the_dead_units_are_found_and_the_batches_do_not_matter(name):
    model, optimizer, data = trained(MAKERS[name])
    model.eval()
    whole = defib.prognose(model, optimizer, data)
    assert {u for p, u in answers(whole) if p == "0"} == {2, 5}
    assert {u for p, u in answers(whole) if p == "4"} >= {1}
    for given in (
        (data, torch.zeros(60)),
        {"input": data},
        [data],
        [(data[:11], 0), (data[11:], 0)],
        DataLoader(TensorDataset(data), batch_size=9),
    ):
        assert answers(defib.prognose(model, optimizer, given)) == answers(whole)
    assert (whole.facts["samples"], whole.facts["units"]) == (60, 13)


def test_the_first_layer_is_told_from_deeper_ones():
    model, optimizer, data = trained(MAKERS["SGD"])
    forecast = defib.prognose(model, optimizer, data)
    assert all(p.exact for p in forecast.prognoses if p.path == "0")
    assert not any(p.exact for p in forecast.prognoses if p.path == "4")
    with torch.no_grad():
        for parameter in (model[0].weight, model[0].bias):
            parameter.requires_grad_(False)
    assert not [p for p in defib.prognose(model, optimizer, data).prognoses if p.path == "0"], (
        "nothing moves it"
    )


def test_a_unit_that_returns_does_so_on_that_step_of_torchs_own():
    model, optimizer, data = trained(MAKERS["SGD"])
    found = {
        u: s for (p, u), (_, _, s) in answers(defib.prognose(model, optimizer, data)).items() if p == "0"
    }
    for unit, said in found.items():
        first = copy.deepcopy(model[0])
        double = optim.SGD(
            first.parameters(), **{k: optimizer.defaults[k] for k in ("lr", "momentum", "weight_decay")}
        )
        for mine, theirs in zip(first.parameters(), model[0].parameters(), strict=True):
            double.state[mine] = {"momentum_buffer": optimizer.state[theirs]["momentum_buffer"].clone()}
            mine.grad = torch.zeros_like(mine)
        step = 0
        while not (first(data)[:, unit] > 0).any():
            double.step()
            step += 1
        assert said == step


def test_normalisation_and_grouped_convolutions_are_said_to_be_unseen():
    model = nn.Sequential(
        nn.Unflatten(1, (6, 1)), nn.Conv1d(6, 6, 1, groups=6), nn.ReLU(), nn.Flatten(),
        nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2),
    )  # fmt: skip
    forecast = defib.prognose(model, optim.SGD(model.parameters(), lr=0.1), torch.randn(8, 6))
    assert forecast.prognoses == ()
    assert {entry.what for entry in forecast.unseen} == {"1", "5"}


def test_an_optimizer_of_ones_own_is_said_to_be_unknown():
    class Mine(optim.SGD):
        pass

    model, optimizer, data = trained(lambda p: Mine(p, lr=0.1))
    forecast = defib.prognose(model, optimizer, data)
    assert {p.outlook for p in forecast.prognoses} == {Outlook.UNKNOWN}
    assert "Mine" in forecast.prognoses[0].reason


def test_what_is_taken_for_granted_is_said():
    model, optimizer, data = trained(MAKERS["SGD"])
    assert "the learning rate stays as it is" in defib.prognose(model, optimizer, data).assumed
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=30)
    said = defib.prognose(model, optimizer, data, scheduler=scheduler).assumed
    assert "the scheduler also moves momentum, which was taken to stay" in said
    assert any("stays after step 3" in one for one in said)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda m, o, d: defib.prognose(m), "takes its optimizer and all data"),
        (lambda m, o, d: defib.prognose(m, o, []), "there is no data"),
        (lambda m, o, d: defib.prognose(m, o, 3), "not int"),
        (lambda m, o, d: defib.prognose(m, o, TensorDataset(d)), "a DataLoader"),
        (lambda m, o, d: defib.prognose(m, o, d[:, :4]), "the model raised RuntimeError"),
        (lambda m, o, d: defib.prognose(m, o, d, horizon=0), "at least 1 step"),
        (
            lambda m, o, d: defib.prognose(m, o, d, scheduler=optim.lr_scheduler.ReduceLROnPlateau(o)),
            "ReduceLROnPlateau",
        ),
        (
            lambda m, o, d: defib.prognose(
                m, o, d, scheduler=optim.lr_scheduler.ConstantLR(optim.SGD([torch.zeros(1)], lr=0.1))
            ),
            "drives none of the optimizers",
        ),
    ],
)
def test_what_does_not_fit_is_one_clear_line(ask, says):
    model, optimizer, data = trained(MAKERS["SGD"])
    with pytest.raises(UsageError, match=says):
        ask(model, optimizer, data)


SCHEDULERS = {
    "cosine": lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 20),
    "one after the other": lambda o: optim.lr_scheduler.SequentialLR(
        o,
        [optim.lr_scheduler.LinearLR(o, 0.1, 1, 5), optim.lr_scheduler.ExponentialLR(o, 0.9)],
        milestones=[5],
    ),
    "chained": lambda o: optim.lr_scheduler.ChainedScheduler(
        [optim.lr_scheduler.ConstantLR(o, 0.5, 4), optim.lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "one cycle": lambda o: optim.lr_scheduler.OneCycleLR(o, 0.3, total_steps=40),
    "a function": lambda o: optim.lr_scheduler.LambdaLR(o, [lambda t: 1 / (1 + t), lambda t: 0.5**t]),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("already", [0, 7])
def test_the_rates_to_come_are_those_that_come(name, already):
    weight, bias = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = optim.SGD([{"params": [weight], "lr": 0.2}, {"params": [bias]}], lr=0.1, momentum=0.9)
    scheduler = SCHEDULERS[name](optimizer)

    def go():
        optimizer.step()
        scheduler.step()

    for _ in range(already):
        go()
    before = scheduler.state_dict()["last_epoch"] if "last_epoch" in scheduler.state_dict() else None
    rates = Rates(optimizer, scheduler, steps=20)
    assert before is None or scheduler.state_dict()["last_epoch"] == before
    for k in range(20):
        for parameter, group in zip((weight, bias), optimizer.param_groups, strict=True):
            known = rates.of(parameter)
            assert known is not None
            assert known[k] == group["lr"], k
        go()
    assert rates.of(nn.Parameter(torch.zeros(1))) is None


def test_a_scheduler_that_steps_once_an_epoch():
    weight = nn.Parameter(torch.ones(2))
    optimizer = optim.SGD([weight], lr=1.0)
    rates = Rates(optimizer, optim.lr_scheduler.ExponentialLR(optimizer, 0.5), every=3, steps=8)
    assert rates.of(weight).tolist() == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
