"""Treatments of units: the function stays, other units' moments stay, and the first update is small."""

import copy
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook

import defib
from defib.care import named
from defib.core.errors import Refused
from defib.therapy.engine import treat
from defib.therapy.readers import outlet
from defib.therapy.train_state import TrainState

Maker = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
ADAPTIVE: dict[str, Maker] = {
    "Adam": lambda p: torch.optim.Adam(p, 1e-3),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-3),
    "AMSGrad": lambda p: torch.optim.Adam(p, 1e-3, amsgrad=True),
    "NAdam": lambda p: torch.optim.NAdam(p, 1e-3),
    "RAdam": lambda p: torch.optim.RAdam(p, 1e-3),
    "Adamax": lambda p: torch.optim.Adamax(p, 1e-3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-3),
    "RMSprop with momentum": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.9),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 1e-3),
}
DEAD = (0, 1, 2)


def trained(make: Maker, steps: int = 200, seed: int = 0) -> tuple[TrainState, Callable[[], None]]:
    """A classifier three of whose second layer's units have always been dead, and one step of it."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        model[2].bias[list(DEAD)] = -50.0
    optimizer = make(model.parameters())
    data = torch.Generator().manual_seed(seed)
    teacher = torch.randn(8, 3, generator=data)

    def step() -> None:
        x = torch.randn(32, 8, generator=data)
        optimizer.zero_grad()
        F.cross_entropy(model(x), (x @ teacher).argmax(1)).backward()
        optimizer.step()

    for _ in range(steps):
        step()
    return TrainState(model=model, optimizers=(optimizer,)), step


def parts(state: TrainState) -> list[torch.Tensor]:
    """What comes into the dead units, and what goes out."""
    layer, reader = state.module("2"), state.module("4")
    assert isinstance(layer, nn.Linear)
    assert isinstance(reader, nn.Linear)
    rows = list(DEAD)
    return [layer.weight.detach()[rows], layer.bias.detach()[rows], reader.weight.detach()[:, rows]]


@pytest.mark.parametrize("kind", ADAPTIVE)
@pytest.mark.parametrize("seed", range(3))
def test_the_first_update_of_a_recycled_unit_is_at_most_one_learning_rate(kind: str, seed: int) -> None:
    state, step = trained(ADAPTIVE[kind], seed=seed)
    treat(state, named("recycle-dead-units", {"layer": "2", "units": DEAD}))
    for update in range(2):  # outgoing weights move first, what comes in once they have
        before = [part.clone() for part in parts(state)]
        step()
        moved = [(a - b).abs().max().item() for a, b in zip(parts(state), before, strict=True)]
        assert max(moved) > 0
        if update == 0:
            assert max(moved) <= 1e-3, f"{max(moved) / 1e-3:.2f} learning rates"


def test_sgd_carries_nothing_of_the_old_unit_into_the_new_one() -> None:
    state, step = trained(lambda p: torch.optim.SGD(p, 0.05, momentum=0.9))
    treat(state, named("recycle-dead-units", {"layer": "2", "units": DEAD}))
    before = [part.clone() for part in parts(state)]
    step()
    gradient = state.module("4").weight.grad[:, list(DEAD)]
    moved = [a - b for a, b in zip(parts(state), before, strict=True)]
    assert torch.allclose(moved[2], -0.05 * gradient, atol=1e-8)
    assert not moved[0].any()


@pytest.mark.parametrize("kind", ADAPTIVE)
@pytest.mark.parametrize("slug", ["recycle-dead-units", "flip-sign"])
def test_no_other_unit_loses_its_moments_and_no_answer_changes(kind: str, slug: str) -> None:
    state, _ = trained(ADAPTIVE[kind], steps=20)
    x = torch.randn(64, 8)
    answers = state.model(x).detach()
    before = {n: copy.deepcopy(state.optimizers[0].state[p]) for n, p in state.bare.named_parameters()}
    treat(state, named(slug, {"layer": "2", "units": DEAD}))
    assert torch.equal(state.model(x).detach(), answers)
    for name, parameter in state.bare.named_parameters():
        for key, value in state.optimizers[0].state[parameter].items():
            old, new = torch.as_tensor(before[name][key]), torch.as_tensor(value)
            if new.ndim == 0 or name not in {"2.weight", "2.bias", "4.weight"}:
                assert torch.equal(old, new), f"{key} of {name}"
            elif name == "4.weight":
                assert torch.equal(old[:, 3:], new[:, 3:]), f"{key} of {name}"
            else:
                assert torch.equal(old[3:], new[3:]), f"{key} of {name}"


def test_a_layer_that_is_dead_as_a_whole_starts_as_on_the_first_step() -> None:
    state, step = trained(ADAPTIVE["Adam"], steps=30)
    everything = tuple(range(16))
    treat(state, named("recycle-dead-units", {"layer": "2", "units": everything}))
    before = state.module("4").weight.detach().clone()
    step()
    moved = (state.module("4").weight.detach() - before).abs().max().item()
    assert 0 < moved <= 1e-3 * (1 + 1e-5)


class Functional(nn.Module):
    """Calls functions, pools, and looks at shapes; keeps its last input, as user code may."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, groups=2)
        self.head = nn.Linear(6, 2)
        self.seen: object = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x
        h = F.max_pool2d(torch.relu(self.first(x)), 2)
        h = F.relu(self.second(h)).mean((2, 3))
        h = F.dropout(h.view(h.size(0), -1), 0.1, self.training)
        return self.head(h)


class Attending(nn.Module):
    """A layer whose units are read by attention."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.attend = nn.Linear(4, 4), nn.MultiheadAttention(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x)
        return self.attend(h, h, h)[0]


class Deciding(nn.Module):
    """A way that hangs on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.a(x))
        return self.b(h) if h.sum() > 0 else self.b(-h)


class Branching(nn.Module):
    """Two heads on one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.body(x).relu()
        return self.left(h), self.right(h)


class Nested(nn.Module):
    """A module of the user's own inside another, that draws at random on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = Inner(), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.inner(x)))


class Inner(nn.Module):
    """Adds noise."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x + 0.1 * torch.randn(4) + random.random() + np.random.rand())


def state_of(model: nn.Module) -> TrainState:
    return TrainState(model=model, optimizers=(torch.optim.SGD(model.parameters(), lr=0.1),))


def test_readers_are_found_through_functions_pools_and_shapes() -> None:
    model = Functional()
    model.seen = "mine"
    drawn = torch.get_rng_state()
    state = state_of(model)
    assert list(outlet(state, "first").readers) == ["second"]
    assert list(outlet(state, "second").readers) == ["head"]
    assert outlet(state, "first").activation == "relu"
    assert model.seen == "mine"
    assert torch.equal(torch.get_rng_state(), drawn)


def test_modules_of_the_users_own_are_entered_without_hooks_and_without_a_draw() -> None:
    model = Nested()
    called: list[str] = []
    handle = register_module_forward_pre_hook(lambda module, _: called.append(type(module).__name__))
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        assert list(outlet(state_of(model), "inner.a").readers) == ["head"]
    finally:
        handle.remove()
    assert called == []
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert np.random.get_state()[2] == generators[2][2]


def test_two_heads_both_forget_a_unit() -> None:
    model = Branching()
    with torch.no_grad():
        model.body.bias[1] = -50.0
    x = torch.randn(5, 4)
    before = [h.detach() for h in model(x)]
    treat(state_of(model), named("recycle-dead-units", {"layer": "body", "units": (1,)}))
    assert not model.left.weight[:, 1].any()
    assert not model.right.weight[:, 1].any()
    assert all(torch.equal(a, b.detach()) for a, b in zip(before, model(x), strict=True))


def test_a_grouped_convolution_forgets_only_the_group_that_reads_the_unit() -> None:
    model = Functional().eval()
    with torch.no_grad():
        model.first.bias[3] = -50.0
    x = torch.randn(2, 1, 8, 8)
    before = model(x).detach()
    treat(state_of(model), named("recycle-dead-units", {"layer": "first", "units": (3,)}))
    assert torch.equal(model(x).detach(), before)
    weight = model.second.weight.detach()
    assert not weight[3:, 1].any()
    assert weight[:3].any(dim=(1, 2, 3)).all()


@pytest.mark.parametrize(
    ("model", "layer", "words"),
    [
        (Attending(), "a", "meet in attend"),
        (Deciding(), "a", "into=LAYER"),
        (nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 2)), "0", "Softmax"),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)), "0", "LayerNorm"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "0", "the model's answer"),
    ],
    ids=["attention", "control flow", "softmax", "layer norm", "output"],
)
def test_units_whose_readers_cannot_be_told_are_refused(model: nn.Module, layer: str, words: str) -> None:
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(Refused, match=words) as caught:
        treat(state_of(model), named("recycle-dead-units", {"layer": layer, "units": (0,)}))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


def test_a_person_may_name_the_reader() -> None:
    model = Deciding()
    treat(state_of(model), named("recycle-dead-units", {"layer": "a", "units": (2,), "into": "b"}))
    assert not model.b.weight[:, 2].any()


@pytest.mark.parametrize("autopsy", [False, True])
def test_the_watcher_does_not_notice_that_the_model_was_traced(tmp_path: Path, autopsy: bool) -> None:
    state, step = trained(ADAPTIVE["Adam"], steps=3)
    with defib.watch(
        state.model, state.optimizers[0], output=tmp_path / "r.rec", every=1, autopsy=autopsy
    ) as run:
        step()
        run.treat("recycle-dead-units", layer="2", units=DEAD)
        step()
        assert run.faults == 0
    view = defib.open_run(tmp_path / "r.rec").view
    assert not view.of_kind("watcher-fault")
    assert view.steps == 2
    if autopsy:
        assert not view.facts["autopsy"].get("why_off")
