"""The split of a kill, its death-free factor and its counterfactuals, each against brute force."""

import copy
import re
from collections.abc import Mapping

import pytest
import torch
from test_untouched import fingerprint
from torch import Tensor, nn

import defib
from defib.core.errors import UsageError
from defib.core.kill import Call, Culprit, Inquest, LayerKill, OwnStep
from defib.probe.kill import inquire

State = dict[str, Tensor]


class Residual(nn.Module):
    """A skip around a layer, and one whose output meets the skip before its activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.mixed, self.late, self.out = (nn.Linear(12, 12) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + nn.functional.relu(self.body(x))
        x = torch.relu(self.mixed(x) + x)
        return self.out(self.late(x).clamp(min=0))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 16), nn.ReLU(inplace=True),
        nn.Linear(16, 3),
    )  # fmt: skip


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 6, 2, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 2, groups=2),
        nn.BatchNorm2d(6), nn.ReLU6(), nn.Flatten(), nn.Linear(72, 10), nn.ReLU(), nn.Linear(10, 3),
    )  # fmt: skip


NETS = {"mlp": mlp, "cnn": cnn, "residual": Residual}


def state(model: nn.Module) -> State:
    return copy.deepcopy(model.state_dict())


def harsh_step(name: str, seed: int, lr: float = 8.0, dtype: torch.dtype = torch.float32):
    """A network, the states around one step that kills units, and the batch."""
    torch.manual_seed(seed)
    model = NETS[name]().to(dtype)
    x, y = torch.rand(32, 12, dtype=dtype), torch.randint(2, (32,))
    for size in (0.05, 0.05, lr):
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        before = state(model)
        with torch.no_grad():
            for p in model.parameters():
                p -= size * (0 if p.grad is None else p.grad)
    return model, before, state(model), x


def heights(model: nn.Module, values: Mapping[str, Tensor], x: Tensor, path: str) -> Tensor:
    """Pre-activations of a layer, by a forward hook on a copy, shape (rows, units)."""
    copied, seen = copy.deepcopy(model), []
    copied.load_state_dict(dict(values))
    copied.get_submodule(path).register_forward_hook(lambda _m, _i, out: seen.append(out.detach().clone()))
    torch.manual_seed(7)
    copied(x)
    axis = 1 if seen[0].ndim == 4 else -1
    return torch.cat([s.movedim(axis, -1).reshape(-1, s.shape[axis]) for s in seen]).double()


def autopsied(model: nn.Module, before: State, after: State, x: Tensor) -> defib.core.kill.Kills:
    torch.manual_seed(7)
    return defib.autopsy(model, before, after, x)


def along(before: State, after: State, alpha: float) -> State:
    return {
        n: (b.double() + alpha * (after[n].double() - b.double())).to(b.dtype) if b.is_floating_point() else b
        for n, b in before.items()
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NETS)
def test_a_little_less_than_the_factor_leaves_it_alive_and_a_little_more_kills(name: str, seed: int) -> None:
    model, before, after, x = harsh_step(name, seed)
    kills = autopsied(model, before, after, x)
    checked = 0
    for layer in kills.layers:
        for unit, alpha in zip(layer.units, layer.alpha, strict=True):
            assert 0 < alpha <= 1
            alive = heights(model, along(before, after, 0.99 * alpha), x, layer.path)[:, unit]
            assert alive.max() > 0, (layer.path, unit, alpha)
            if alpha * 1.01 <= 1:
                dead = heights(model, along(before, after, 1.01 * alpha), x, layer.path)[:, unit]
                assert dead.max() <= 0, (layer.path, unit, alpha)
                checked += 1
    assert checked > 0


@pytest.mark.parametrize("name", NETS)
def test_the_three_terms_add_up_to_what_an_independent_forward_pass_shows(name: str) -> None:
    model, before, after, x = harsh_step(name, 1, dtype=torch.float64)
    kills = autopsied(model, before, after, x)
    assert kills.layers
    for layer in kills.layers:
        old, new = (heights(model, s, x, layer.path)[:, layer.units] for s in (before, after))
        top, place = old.max(0)
        there = new.gather(0, place[None])[0]
        parts = layer.own + layer.upstream + layer.cross
        assert torch.allclose(torch.as_tensor(layer.before), top, rtol=0, atol=1e-12)
        assert torch.allclose(torch.as_tensor(layer.after), there, rtol=0, atol=1e-12)
        assert torch.allclose(torch.as_tensor(parts), there - top, rtol=0, atol=1e-12)
        assert torch.allclose(torch.as_tensor(layer.highest), new.max(0).values, rtol=0, atol=1e-12)
        assert layer.residual <= 1e-12


def test_each_term_is_what_its_formula_says() -> None:
    model, before, after, x = harsh_step("mlp", 1, dtype=torch.float64)
    model.eval()
    layer = next(k for k in autopsied(model, before, after, x).layers if k.path == "3")
    h0, h1 = (torch.relu(x @ s["0.weight"].T + s["0.bias"]) for s in (before, after))
    for i, unit in enumerate(layer.units):
        w0, w1 = before["3.weight"][unit], after["3.weight"][unit]
        db = after["3.bias"][unit] - before["3.bias"][unit]
        place = int((h0 @ w0 + before["3.bias"][unit]).argmax())
        assert layer.stronghold[i] == place
        assert layer.own[i] == pytest.approx(float((w1 - w0) @ h0[place] + db), abs=1e-12)
        assert layer.own_bias[i] == pytest.approx(float(db), abs=1e-12)
        assert layer.upstream[i] == pytest.approx(float(w0 @ (h1 - h0)[place]), abs=1e-12)
        assert layer.cross[i] == pytest.approx(float((w1 - w0) @ (h1 - h0)[place]), abs=1e-12)


def test_exactly_the_units_that_the_step_killed_are_named() -> None:
    model, before, after, x = harsh_step("cnn", 2)
    kills = autopsied(model, before, after, x)
    for path in ("1", "4", "7"):
        old, new = (heights(model, s, x, path).max(0).values > 0 for s in (before, after))
        named = [int(u) for k in kills.layers if k.path == path for u in k.units]
        assert named == torch.nonzero(old & ~new).flatten().tolist()


# ------------------------------------------------------------------ causes that were planted


def trained() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    return model.eval(), torch.rand(64, 12)


def test_a_layer_whose_own_bias_was_moved_died_of_its_own_update() -> None:
    model, x = trained()
    before = state(model)
    after = copy.deepcopy(before)
    after["2.bias"] -= 3.0
    (layer,) = defib.autopsy(model, before, after, x).layers
    assert layer.path == "2"
    assert set(layer.culprits) == {Culprit.OWN}
    assert (layer.upstream == 0).all()
    assert layer.own == pytest.approx(-3.0, abs=1e-6)
    assert layer.own_bias == pytest.approx(-3.0, abs=1e-6)
    assert layer.alpha == pytest.approx(layer.before / 3, rel=1e-6)
    assert layer.exact


def test_a_layer_whose_inputs_were_moved_died_of_upstream_drift() -> None:
    model, x = trained()
    before = state(model)
    after = copy.deepcopy(before)
    with torch.no_grad():  # every feature that unit 0 of the next layer dislikes is turned up
        after["0.bias"] += 30.0 * (before["2.weight"][0] < 0)
    layer = next(k for k in defib.autopsy(model, before, after, x).layers if k.path == "2")
    assert 0 in layer.units
    assert set(layer.culprits) == {Culprit.UPSTREAM}
    assert (layer.own == 0).all()
    assert (layer.cross == 0).all()
    assert not layer.exact


@pytest.mark.parametrize(("size", "expected"), [(0.7, Culprit.TOGETHER), (1.5, Culprit.EACH)])
def test_a_kill_by_both_tells_whether_either_alone_was_enough(size: float, expected: Culprit) -> None:
    """s = 2 - h with h = x = 1, so s = 1; then h rises and the bias falls by the same."""
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    before = state(model)
    for name, value in (("0.weight", 1.0), ("0.bias", 0.0), ("2.weight", -1.0), ("2.bias", 2.0)):
        before[name].fill_(value)
    after = copy.deepcopy(before)
    after["0.bias"] += size
    after["2.bias"] -= size
    (layer,) = defib.autopsy(model, before, after, torch.ones(3, 1)).layers
    assert layer.culprits == (expected,)
    assert layer.own == pytest.approx(-size)
    assert layer.upstream == pytest.approx(-size)
    assert layer.alpha == pytest.approx(0.5 / size, rel=2e-3)


STEPS = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "SGD with dampening": {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
    "SGD Nesterov": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "RMSprop": {"lr": 0.01, "momentum": 0.8},
    "AdamW": {"lr": 0.05, "weight_decay": 0.1},
    "Adam": {"lr": 0.05, "weight_decay": 0.01},
}


def carried(kind: str, optimizer: torch.optim.Optimizer, p: Tensor) -> tuple[Tensor, Tensor]:
    """Momentum's and weight decay's part of the next step, from the optimiser's whole state after it."""
    group, s = optimizer.param_groups[0], optimizer.state[p]
    lr, decay, mu = group["lr"], group["weight_decay"], group.get("momentum", 0.0)
    held, old = s["held"], s["old"]
    if kind.startswith("Adam"):
        beta1, beta2 = group["betas"]
        t = float(s["step"])
        eta = lr / (1 - beta1**t) / ((s["exp_avg_sq"] / (1 - beta2**t)).sqrt() + group["eps"])
        if kind == "AdamW":
            return -eta * beta1 * held, -lr * decay * old
        return -eta * beta1 * held, -eta * (1 - beta1) * decay * old
    if kind == "SGD Nesterov":
        return -lr * mu * mu * held, -lr * (1 + mu) * decay * old
    return -lr * mu * held, -lr * (1 - group.get("dampening", 0.0)) * decay * old


@pytest.mark.parametrize("kind", STEPS)
def test_the_shares_of_momentum_and_decay_are_those_of_the_optimisers_own_arithmetic(kind: str) -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3)).double()
    optimizer = getattr(torch.optim, kind.split(maxsplit=1)[0])(model.parameters(), **STEPS[kind])
    buffer = "exp_avg" if kind.startswith("Adam") else "momentum_buffer"
    for _ in range(4):
        optimizer.zero_grad()
        x, y = torch.rand(32, 12).double(), torch.randint(3, (32,))
        nn.functional.cross_entropy(model(x), y).backward()
        before = state(model)
        momenta = {
            n: optimizer.state[p][buffer].clone() for n, p in model.named_parameters() if p in optimizer.state
        }
        optimizer.step()
    settings = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    own = {
        n: OwnStep(
            kind=kind.split(maxsplit=1)[0],
            settings=settings,
            before=momenta[n],
            after=optimizer.state[p][buffer].clone(),
        )
        for n, p in model.named_parameters()
    }
    parts = {}
    for name, p in list(model.named_parameters())[:2]:
        optimizer.state[p]["held"], optimizer.state[p]["old"] = momenta[name], before[name]
        parts[name] = carried(kind, optimizer, p)
    units = torch.arange(16).numpy()
    call = Call(arguments=(x,), options={})
    inquest = Inquest(
        model=model, before=before, after=state(model), calls=(call,), suspects={"0": units}, steps=own
    )
    (layer,) = inquire(inquest).layers
    at = x[torch.as_tensor(layer.stronghold)]
    for found, place in ((layer.momentum, 0), (layer.decay, 1)):
        expected = (at * parts["0.weight"][place]).sum(1) + parts["0.bias"][place]
        assert torch.allclose(torch.as_tensor(found), expected, rtol=1e-9, atol=1e-12)
    assert abs(layer.momentum).max() > 1e-4


def test_an_optimiser_that_is_not_known_gives_no_shares() -> None:
    model, before, after, x = harsh_step("mlp", 0)
    steps = {n: OwnStep(kind="Lion", settings={"lr": 1.0}) for n in before}
    inquest = Inquest(
        model=model, before=before, after=after, calls=(Call(arguments=(x,), options={}),), steps=steps
    )
    for layer in inquire(inquest).layers:
        assert torch.as_tensor(layer.momentum).isnan().all()
        assert Culprit.MOMENTUM not in layer.culprits


# ------------------------------------------------------------------ counterfactuals


def changed(after: State, path: str, unit: int, *, bias: float | None = None, weight: Tensor | None = None):
    values = copy.deepcopy(after)
    if bias is not None:
        values[f"{path}.bias"][unit] = bias
    if weight is not None:
        values[f"{path}.weight"][unit] = weight
    return values


def test_the_counterfactuals_hold_when_they_are_carried_out() -> None:
    """Inputs in [0, 1], where centring helps and a bias of 0 mostly does not."""
    tried = [counterfactuals(seed) for seed in range(4)]
    assert all(units for units, _ in tried)
    assert any(centred for _, centred in tried)


def counterfactuals(seed: int) -> tuple[int, int]:
    """Carries them all out; units tried, and how many of them centring revives."""
    model, before, after, x = harsh_step("mlp", seed, lr=20.0, dtype=torch.float64)
    model.eval()
    layer = next(k for k in autopsied(model, before, after, x).layers if k.path == "0")
    mean = x.mean(0)
    tried = 0
    for i, unit in enumerate(layer.units):

        def alive(values: State, data: Tensor = x, unit: int = int(unit)) -> bool:
            return bool(heights(model, values, data, "0")[:, unit].max() > 0)

        bias, weight = float(after["0.bias"][unit]), after["0.weight"][unit]
        assert not alive(after)
        assert alive(changed(after, "0", unit, bias=0.0)) == bool(layer.bias_zero[i])
        assert alive(changed(after, "0", unit, bias=bias + 1.0001 * layer.bias_raise[i] + 1e-12))
        assert not alive(changed(after, "0", unit, bias=bias + 0.9999 * layer.bias_raise[i] - 1e-12))
        assert alive(after, x - mean) == (not torch.isnan(torch.tensor(layer.centring[i])))
        if layer.centring[i] == layer.centring[i]:
            assert alive(after, x - 1.001 * layer.centring[i] * mean)
            assert not alive(after, x - 0.999 * layer.centring[i] * mean)
            tried += 1
        positive = weight.clamp(min=0)
        assert alive(changed(after, "0", unit, weight=positive)) == (layer.negative[i] == layer.negative[i])
        if layer.negative[i] == layer.negative[i]:
            less = weight - 1.001 * layer.negative[i] * weight.clamp(max=0)
            more = weight - 0.999 * layer.negative[i] * weight.clamp(max=0)
            assert alive(changed(after, "0", unit, weight=less))
            assert not alive(changed(after, "0", unit, weight=more))
    return len(layer.units), tried


# ------------------------------------------------------------------ the edges


class Noisy(nn.Module):
    """Keeps a count, a list and a cache of its own, and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls, self.cache = mlp(), 0, None
        self.norm = nn.BatchNorm1d(12)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.cache = x
        return self.net(self.norm(x) + 0.1 * torch.randn_like(x))


def test_the_model_its_gradients_and_every_generator_are_left_as_they_were() -> None:
    torch.manual_seed(0)
    model, x = Noisy(), torch.rand(32, 12)
    seen: list[Tensor] = []
    model.net[0].register_forward_hook(lambda _m, _i, out: seen.append(out))
    model(x).sum().backward()
    before = state(model)
    after = copy.deepcopy(before)
    after["net.0.bias"] -= 2.0
    marks = fingerprint(model), model.calls, model.cache, len(seen)
    kills = defib.autopsy(model, before, after, x)
    assert kills.layers
    assert (fingerprint(model), model.calls, model.cache, len(seen)) == marks


def test_a_model_that_raises_is_left_as_it_was_too() -> None:
    class Broken(Noisy):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            raise KeyError("no such thing")

    model, x = Broken(), torch.rand(32, 12)
    before, marks = state(model), (fingerprint(model), model.calls, model.cache)
    with pytest.raises(
        UsageError, match=r"^the model raised KeyError: 'no such thing' \(at test_kill.py:\d+\)$"
    ):
        defib.autopsy(model, before, None, x)
    assert (fingerprint(model), model.calls, model.cache) == marks


def test_the_same_random_numbers_are_drawn_before_and_after() -> None:
    torch.manual_seed(0)
    model, x = Noisy(), torch.rand(32, 12)
    after = state(model)
    after["net.0.bias"] -= 2.0
    layer = next(k for k in defib.autopsy(model, state(model), after, x).layers if k.path == "net.0")
    assert layer.exact, "its features did not move, but for the noise"


def test_a_layer_that_meets_a_skip_before_its_activation_is_said_not_to_be_seen() -> None:
    model, before, after, x = harsh_step("residual", 0)
    kills = autopsied(model, before, after, x)
    assert "mixed" in [u.what for u in kills.unseen]
    assert "mixed" not in [k.path for k in kills.layers]


def test_what_cannot_be_understood_is_one_clear_line() -> None:
    model, before, after, x = harsh_step("mlp", 0)
    with pytest.raises(UsageError, match=r"^'before' has no 0.weight: give model.state_dict\(\)"):
        defib.autopsy(model, {}, after, x)
    wrong = {**after, "0.bias": torch.zeros(3)}
    with pytest.raises(UsageError, match=re.escape("'after' has 0.bias of shape (3,), the model (16,)")):
        defib.autopsy(model, before, wrong, x)
    with pytest.raises(UsageError, match=r"^the model raised RuntimeError: .*$"):
        defib.autopsy(model, before, after, torch.rand(4, 5))


def test_a_step_that_kills_nobody_says_so() -> None:
    model, x = trained()
    kills = defib.autopsy(model, state(model), None, (x, torch.zeros(64)))
    assert kills.layers == ()
    assert kills.sentences == ("no unit died",)
    assert kills.factor == float("inf")


def test_an_answer_becomes_an_exhibit_and_back() -> None:
    model, before, after, x = harsh_step("mlp", 0)
    layer = autopsied(model, before, after, x).layers[0]
    again = LayerKill.from_exhibit(*layer.to_exhibit())
    assert again.culprits == layer.culprits
    assert (again.alpha == layer.alpha).all()
    both = layer.only(slice(0, 1)).joined(layer.only(slice(1, None)))
    assert (both.units == layer.units).all()
