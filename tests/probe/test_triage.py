"""The triage on planted states, the layer-by-layer question, and that nothing is touched."""

import math
from typing import Any

import pytest
import torch
from standstills import PLANTS, Luck, State, mlp, states
from test_untouched import fingerprint, noisy, norms
from torch import Tensor, nn
from torch.nn import functional

import defib
from defib.core.errors import UsageError
from defib.core.finding import Confidence
from defib.core.triage import OutputCase, Standstill, TensorState
from defib.probe.batch import pieces
from defib.probe.objective import Objective
from defib.probe.triage import triage


@pytest.mark.parametrize("plant", PLANTS, ids=lambda p: p.__name__)
def test_planted_states_are_told_apart(plant: Any) -> None:
    found = [(s.way, triage(s.model, s.data, s.loss).verdict, s.truth) for s in _some(plant, 3)]
    assert [(way, verdict) for way, verdict, _ in found] == [(way, truth) for way, _, truth in found]


def _some(plant: Any, count: int) -> list[State]:
    found, seed = [], 5_000_000
    while len(found) < count:
        state = plant(Luck(seed))
        seed += 1
        found += [] if state is None else [state]
    return found


def test_the_lab_plants_every_cause_but_the_one_that_means_no_answer() -> None:
    planted = {state.truth for _, _, state in states(1)}
    assert planted == set(Standstill) - {Standstill.UNDECIDED}


def test_the_way_out_of_a_saddle_can_be_walked() -> None:
    torch.manual_seed(0)
    model, x = mlp([6, 8, 3], nn.Tanh), torch.randn(64, 6)
    y = x[:, :3].argmax(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[2].bias.copy_(torch.bincount(y).log())
    found = defib.triage(model, (x, y))
    escape = found.report.escape
    assert found.verdict is Standstill.STRICT_SADDLE
    assert found.direction is not None
    assert escape is not None
    assert escape.order == pytest.approx(2, abs=0.1)
    before = float(functional.cross_entropy(model(x), y).detach())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter += escape.distance * found.direction[name]
    after = float(functional.cross_entropy(model(x), y).detach())
    assert before - after == pytest.approx(escape.decrease, rel=1e-4)
    assert sum(s.share for s in escape.shares) == pytest.approx(1)


class Ravine(nn.Module):
    """Steep along p + q, flat along p - q, where the way down is of third order and on one side only."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Parameter(torch.zeros(2, 1))

    def forward(self, x: Tensor) -> Tensor:
        p, q = self.pair[0], self.pair[1]
        return x * torch.cat([30 * (p + q), 2 + (p - q) ** 3])


def test_a_way_of_third_order_is_found_beside_steep_walls_and_can_be_walked() -> None:
    model, data = Ravine(), (torch.ones(4, 1), torch.zeros(4, 2))
    found = triage(model, data, squared)
    escape = found.report.escape
    assert found.verdict is Standstill.DEGENERATE_SADDLE
    assert found.direction is not None
    assert escape is not None
    assert escape.order == pytest.approx(3, abs=0.2)
    before = float(squared(model(data[0]), data[1]).detach())
    with torch.no_grad():
        model.pair += escape.distance * found.direction["pair"]
    assert before - float(squared(model(data[0]), data[1]).detach()) == pytest.approx(
        escape.decrease, rel=1e-4
    )


def test_the_loss_is_one_function_whatever_a_forward_pass_does_to_buffers_and_generators() -> None:
    model = noisy()  # power iterations, running statistics, dropout, random leaks
    target = Objective(model, pieces((torch.randn(16, 64), torch.randint(10, (16,))), 1), None)
    values = {target.value(target.theta) for _ in range(3)}
    assert len(values) == 1
    torch.rand(5)
    assert {target.value(target.theta)} == values


@pytest.mark.parametrize("build", [noisy, norms])
@pytest.mark.parametrize("mode", [True, False])
def test_nothing_is_touched(build: Any, mode: bool) -> None:
    data = torch.randn(16, 64), torch.randint(10, (16,))
    model = build()
    model(data[0])
    model.train(mode)
    next(model.parameters()).requires_grad_(False)
    for parameter in list(model.parameters())[2:4]:
        parameter.grad = torch.full_like(parameter, float("nan"))
    before = fingerprint(model)
    found = triage(model, data)
    assert fingerprint(model) == before
    assert found.report.tensors


@pytest.mark.parametrize("plant", PLANTS, ids=lambda p: p.__name__)
def test_no_question_touches_model_data_or_generators(plant: Any) -> None:
    (state,) = _some(plant, 1)
    optimizer = torch.optim.Adam([p for p in state.model.parameters() if p.requires_grad] or [torch.zeros(1)])
    batches = state.data if isinstance(state.data, list) else [state.data]
    kept = [t.clone() for batch in batches for t in batch]
    before = fingerprint(state.model), repr(optimizer.state_dict())
    triage(state.model, state.data, state.loss)
    assert (fingerprint(state.model), repr(optimizer.state_dict())) == before
    after = [t for batch in batches for t in batch]
    assert all(torch.equal(a, b) or bool(a.isnan().any()) for a, b in zip(kept, after, strict=True))


def test_the_same_seed_gives_the_same_answer() -> None:
    (state,) = _some(PLANTS[3], 1)
    first, again = (triage(state.model, state.data, state.loss).report for _ in range(2))
    assert repr(first) == repr(again)


# ------------------------------------------------------------------ output layer zero: hidden too?


def squared(a: Tensor, b: Tensor) -> Tensor:
    return functional.mse_loss(a, b)


def answer_of(model: nn.Module, x: Tensor, y: Tensor) -> Any:
    found = triage(model, (x, y), squared).report.output
    assert found is not None
    return found


def test_one_sample_with_bias_implies_zero_hidden_gradients() -> None:
    model, x = mlp([3, 5, 2], nn.Tanh), torch.randn(1, 3)
    found = answer_of(model, x, model(x).detach())
    assert (found.case, found.implied, found.is_zero, found.hidden_zero) == (
        OutputCase.ONE_SAMPLE, True, True, True,
    )  # fmt: skip


def test_two_samples_cancel_in_the_output_layer_alone() -> None:
    class Fold(nn.Module):  # |w x| with x = 1 and -1: both features are 1
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(1, 1), nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.outer(self.inner(x).abs())

    model = Fold()
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (1.0, 0.0, 1.0, 0.0), strict=True):
            parameter.fill_(value)
    found = triage(model, (torch.tensor([[1.0], [-1.0]]), torch.tensor([[2.0], [0.0]])), squared)
    output = found.report.output
    assert output is not None
    assert (output.case, output.implied, output.is_zero, output.hidden_zero) == (
        OutputCase.BATCH, False, True, False,
    )  # fmt: skip
    states = {t.name: t.state for t in found.report.tensors}
    assert states["outer.weight"] is states["outer.bias"] is TensorState.CANCELLED
    norms = {t.name: t.norm for t in found.report.tensors}
    assert norms["inner.bias"] == pytest.approx(2.0)  # science: W1, b1, W2, b2 = 0, 2, 0, 0
    assert norms["inner.weight"] == norms["outer.weight"] == norms["outer.bias"] == 0
    assert found.verdict is Standstill.BATCH_CANCELLATION


def test_without_a_bias_zero_features_hide_the_signal() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model[0].bias.zero_()
    found = answer_of(model, torch.zeros(1, 3), torch.ones(1, 2))
    assert (found.case, found.is_zero, found.hidden_zero) == (OutputCase.WEIGHTS_ONLY, True, False)


def test_a_convolution_as_output_layer_cancels_over_positions_for_one_sample() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Conv2d(2, 1, 1)).double()
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    features = model[:2](x).detach().flatten(2)[0]
    rows = torch.cat([features, torch.ones(1, 16)]).T
    free = torch.linalg.svd(rows, full_matrices=True).U[:, 3:]
    y = model(x).detach() - (free @ torch.randn(13, dtype=torch.float64)).view(1, 1, 4, 4)
    found = answer_of(model, x, y)
    assert (found.case, found.positions, found.hidden_zero) == (OutputCase.SHARED, 16, False)
    tensors = {t.name: t for t in triage(model, (x, y), squared).report.tensors}
    assert tensors["2.weight"].norm < 1e-12 < 1e-3 < tensors["0.weight"].norm


def test_a_way_around_the_output_layer_breaks_the_implication() -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.inner(x).tanh()
            return self.outer(hidden) + hidden

    assert answer_of(Around(), torch.randn(4, 3), torch.randn(4, 3)).case is OutputCase.OTHER_WAYS


@pytest.mark.parametrize(("n", "implied"), [(5, True), (12, False)])
def test_independent_features_imply_it_for_a_batch(n: int, implied: bool) -> None:
    found = answer_of(mlp([4, 7, 2], nn.Tanh), torch.randn(n, 4), torch.randn(n, 2))
    assert (found.case, found.rank, found.implied) == (OutputCase.BATCH, min(n, 8), implied)


# ------------------------------------------------------------------ what cannot be told is said


def test_without_memory_the_verdict_is_open_and_says_why() -> None:
    (state,) = _some(PLANTS[4], 1)
    found = triage(state.model, state.data, state.loss, memory=1000).report
    assert found.verdict is Standstill.UNDECIDED
    assert any(u.what == "curvature" and "may be used" in u.why for u in found.unseen)


def test_a_small_batch_of_a_healthy_network_is_not_called_noise() -> None:
    torch.manual_seed(3)
    found = [
        triage(mlp([20, 16, 3], nn.ReLU), (torch.randn(16, 20), torch.randint(3, (16,)))).verdict
        for _ in range(10)
    ]
    assert Standstill.NOISE_FLOOR not in found
    assert Standstill.UNDECIDED in found


def test_a_loss_that_is_no_mean_is_judged_without_samples() -> None:
    found = triage(
        mlp([4, 5, 2], nn.Tanh), (torch.randn(20, 4), torch.randn(20, 2)), lambda a, b: (a - b).norm()
    )
    assert found.verdict is Standstill.DESCENDING
    assert any(u.what == "gradients of single samples" for u in found.report.unseen)
    assert math.isnan(found.report.tensors[0].cancellation)


def test_a_frozen_model_is_an_answer_and_a_broken_one_a_clear_line() -> None:
    frozen = triage(mlp([4, 5, 2], nn.Tanh).requires_grad_(False), (torch.randn(9, 4), torch.randn(9, 2)))
    assert (frozen.verdict, frozen.report.confidence) == (Standstill.GRADIENT_CUT, Confidence.EXACT)
    with pytest.raises(UsageError, match=r"^the model or the loss raised RuntimeError: mat1 and mat2"):
        triage(mlp([4, 5, 2], nn.Tanh), (torch.randn(9, 3), torch.randn(9, 2)))
    with pytest.raises(
        UsageError, match=r"^the loss is to be one number, and is a tensor of shape \(9, 2\)$"
    ):
        triage(mlp([4, 5, 2], nn.Tanh), (torch.randn(9, 4), torch.randn(9, 2)), lambda a, b: a - b)
    with pytest.raises(UsageError, match=r"^there is no batch in the data$"):
        triage(mlp([4, 5, 2], nn.Tanh), iter(()))
