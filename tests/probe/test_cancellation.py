"""Single samples' gradients by three ways against plain loops, and the size of the noise test."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from standstills import mlp
from torch import Tensor, nn
from torch.nn import functional

from defib.probe.batch import pieces
from defib.probe.cancellation import batch_excess, cancellation, excess, noise_test, samples
from defib.probe.objective import Objective, wider


def plain(model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The slow, obvious way: one backward pass a sample."""
    rows = []
    for i in range(len(x)):
        value = loss(model(x[i : i + 1]), y[i : i + 1])
        found = torch.autograd.grad(value, list(model.parameters()))
        rows.append(torch.cat([g.flatten() for g in found]).double())
    return torch.stack(rows)


def objective(model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Objective:
    return wider(Objective(model, pieces((x, y), 1), loss))[0]


def total(x: Tensor, y: Tensor) -> Tensor:
    return functional.mse_loss(x, y, reduction="sum") / x.shape[1]


@pytest.mark.parametrize("loss", [functional.mse_loss, total])
def test_all_at_once_equals_a_plain_loop_for_means_and_sums(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    model, x, y = mlp([4, 6, 3], nn.Tanh), torch.randn(9, 4), torch.randn(9, 3)
    found, why = samples(objective(model, x, y, loss))
    assert why == ""
    assert found is not None
    assert found.method == "all at once (vmap)"
    rows = plain(model, x, y, loss) * (1 if loss is functional.mse_loss else 9)
    torch.testing.assert_close(found.gram, rows @ rows.T, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(found.norms["0.weight"], rows[:, :24].norm(dim=1), rtol=1e-5, atol=1e-8)


def test_a_recurrent_network_goes_sample_by_sample() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.outer(self.inner(x)[0][:, -1])

    model, x, y = Reader(), torch.randn(5, 4, 2), torch.tensor([0, 1, 0, 1, 1])
    found, _ = samples(objective(model, x, y, functional.cross_entropy))
    assert found is not None
    assert found.method == "sample by sample"
    rows = plain(model, x, y, functional.cross_entropy)
    torch.testing.assert_close(found.gram, rows @ rows.T, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("between", [nn.BatchNorm1d(6), nn.Dropout(0.4)], ids=["batch norm", "dropout"])
def test_where_samples_meet_or_masks_are_drawn_one_forward_pass_serves_all(between: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(4, 6), between, nn.ReLU(), nn.Linear(6, 3))
    target = objective(model, torch.randn(12, 4), torch.randint(3, (12,)), functional.cross_entropy)
    found, _ = samples(target)
    assert found is not None
    assert found.method == "behind one forward pass"
    whole = float(target.gradient().square().sum())
    assert float(found.gram.mean()) == pytest.approx(whole, rel=1e-9)


def test_a_loss_that_is_no_mean_over_samples_is_refused_in_words() -> None:
    def norm(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).norm()

    found, why = samples(objective(mlp([4, 5, 2], nn.Tanh), torch.randn(6, 4), torch.randn(6, 2), norm))
    assert found is None
    assert why == "the loss is no mean over the first dimension of the batch"


def test_a_pair_that_cancels_has_index_zero_and_a_lone_sample_index_one() -> None:
    g = torch.tensor([[3.0, 4.0], [-3.0, -4.0]])
    assert cancellation(g @ g.T) == 0
    assert excess(g @ g.T) == 0
    assert cancellation(g[:1] @ g[:1].T) == pytest.approx(1)
    assert math.isnan(cancellation(torch.zeros(3, 3)))


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_random_gradients_are_called_significant_as_often_as_the_level_says(power: float) -> None:
    scale, rng = np.arange(1, 201.0) ** (-power / 2), np.random.default_rng(0)
    trials, n = 300, 24
    above = below = mean = spread = 0.0
    for seed in range(trials):
        g = torch.from_numpy(rng.standard_normal((n, 200)) * scale)
        found = noise_test(g @ g.T, "", seed)
        assert found is not None
        above += found.above <= 0.05
        below += found.below <= 0.05
        mean += found.mean_square / trials
        spread += found.mean_square**2 / trials
    limit = 3 * math.sqrt(0.05 * 0.95 * trials)
    assert abs(above - 0.05 * trials) <= limit
    assert abs(below - 0.05 * trials) <= limit
    assert abs(mean) <= 4 * math.sqrt(spread / trials)  # T is unbiased


def test_a_common_direction_is_found_and_its_square_estimated_without_bias() -> None:
    rng = np.random.default_rng(1)
    seen = []
    for seed in range(50):
        g = torch.from_numpy(rng.standard_normal((64, 50)) + 0.3)
        found = noise_test(g @ g.T, "", seed)
        assert found is not None
        assert found.above == 0.001
        seen.append(found.mean_square)
    assert np.mean(seen) == pytest.approx(50 * 0.3**2, abs=4 * np.std(seen) / math.sqrt(50))


def test_noise_weighting_finds_what_loud_directions_drown() -> None:
    rng, scale = np.random.default_rng(2), np.arange(1, 201.0) ** -1.0
    hits = 0
    for seed in range(40):
        g = rng.standard_normal((64, 200)) * scale + 0.5 * scale * (np.arange(200) >= 20)
        k = torch.from_numpy(g @ g.T)
        found = noise_test(k, "", seed)
        assert found is not None
        hits += found.above <= 0.01
    assert hits >= 30


def test_each_batch_has_its_own_cancellation() -> None:
    model, x = mlp([4, 5, 2], nn.Tanh), torch.randn(8, 4)
    with torch.no_grad():
        answer = model(x)
    gap = torch.randn_like(answer)
    first = (torch.cat([x, x]), torch.cat([answer + gap, answer - gap]))
    second = (torch.randn(16, 4), torch.randn(16, 2))
    found, _ = samples(wider(Objective(model, pieces([first, second], 2), functional.mse_loss))[0])
    assert found is not None
    cancelled, other = batch_excess(found)
    assert cancelled < 1e-9 < 0.01 < other
