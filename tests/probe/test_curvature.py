"""Extreme eigenvalues against a dense Hessian, null directions, fallbacks, and memory told beforehand."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from standstills import eigenvalues, mlp
from torch import Tensor, nn
from torch.nn import functional

from defib.core.errors import UsageError
from defib.probe.batch import pieces
from defib.probe.curvature import lambda_max, nulls, spectrum
from defib.probe.hessian import DIFFERENCES, DOUBLE, PLAIN, Hessian
from defib.probe.krylov import lanczos
from defib.probe.objective import Objective, wider


def objective(
    model: nn.Module, *batches: tuple[Tensor, Tensor], loss: Callable[..., Tensor] | None = None
) -> Objective:
    return wider(Objective(model, pieces(list(batches), 9), loss))[0]


def data(n: int = 40, out: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 6), torch.randint(out, (n,))


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid])
@pytest.mark.parametrize("widths", [[6, 3, 3], [6, 8, 8, 3]])
def test_both_ends_lie_within_their_bounds_of_a_dense_hessian(
    act: type[nn.Module], widths: list[int]
) -> None:
    model, (x, y) = mlp(widths, act), data()
    dense = eigenvalues(model, x, y, functional.cross_entropy)
    found = spectrum(objective(model, (x, y))).curvature
    assert found.precision == "float64"
    for value, bound in (
        (found.lambda_min, found.lambda_min_bound),
        (found.lambda_max, found.lambda_max_bound),
    ):
        assert bound < 0.02 * float(dense[-1])
        assert float((dense - value).abs().min()) <= bound
    assert found.lambda_max == pytest.approx(float(dense[-1]), rel=1e-5)
    assert found.floor <= float(dense[0]) + 1e-9 <= found.lambda_min + found.lambda_min_bound + 1e-9


def test_it_agrees_with_scipys_eigsh() -> None:
    found = objective(mlp([6, 10, 10, 3], nn.Tanh), data())
    hessian, n = Hessian(found), found.count
    operator = LinearOperator(
        (n, n), matvec=lambda v: hessian(torch.from_numpy(v.copy())).numpy(), dtype=float
    )
    ends = eigsh(operator, k=2, which="BE", return_eigenvectors=False)
    own = spectrum(found).curvature
    assert own.lambda_max == pytest.approx(ends.max(), rel=1e-6)
    assert abs(own.lambda_min - ends.min()) <= own.lambda_min_bound + 1e-9


def test_dead_units_dead_inputs_and_biases_before_a_norm_are_left_out() -> None:
    model = nn.Sequential(
        nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)
    )
    with torch.no_grad():
        model[0].bias[2] = -50
    x, y = data()
    x[:, 4] = 0
    found = nulls(Hessian(objective(model, (x, y))), torch.Generator().manual_seed(0))
    assert (found.units, found.inputs, found.biases) == (1, 2, 4)
    parts = objective(model, (x, y)).by_name(found.active)
    assert not parts["0.weight"][2].any()
    assert not parts["0.weight"][:, 4].any()
    assert not parts["2.weight"][:, 2].any()
    assert not parts["2.bias"].any()
    assert int((~found.active).sum()) == 6 + 1 + 4 + 4 + 4


def test_several_batches_count_as_one_large_one() -> None:
    model, (x, y) = mlp([6, 5, 3], nn.Tanh), data(48)
    whole = objective(model, (x, y))
    parts = objective(model, (x[:32], y[:32]), (x[32:], y[32:]))
    v = torch.randn(whole.count, dtype=torch.float64)
    torch.testing.assert_close(Hessian(whole)(v), Hessian(parts)(v))
    torch.testing.assert_close(whole.gradient(), parts.gradient())


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 24), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.inner(x.unflatten(1, (1, 3, 2)).repeat(1, 1, 1, 3)).chunk(3, -1)
        return self.outer(functional.scaled_dot_product_attention(q, k, v).mean((1, 2)))


def test_flash_attention_falls_back_and_differences_agree_with_the_plain_kernel() -> None:
    target = objective(Attention(), data())
    plain, differences = Hessian(target), Hessian(target, DIFFERENCES)
    assert plain.method == PLAIN  # its own kernel has no second derivative
    v = torch.randn(target.count, dtype=torch.float64)
    torch.testing.assert_close(plain(v), differences(v), rtol=1e-4, atol=1e-7)
    assert Hessian(objective(mlp([6, 4, 3], nn.Tanh), data())).method == DOUBLE


class OnceOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * x.cos()


def test_an_operation_without_second_derivative_gets_finite_differences() -> None:
    class Own(nn.Module):
        def __init__(self, wave: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.first, self.last, self.wave = nn.Linear(6, 4), nn.Linear(4, 3), wave

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.wave(self.first(x)))

    own, same = Own(OnceOnly.apply), Own(torch.sin)
    same.load_state_dict(own.state_dict())
    batch = data()
    found, truth = (spectrum(objective(m, batch)).curvature for m in (own, same))
    assert (found.method, truth.method) == (DIFFERENCES, DOUBLE)
    assert found.lambda_max == pytest.approx(truth.lambda_max, rel=1e-5)
    assert found.lambda_min == pytest.approx(truth.lambda_min, abs=1e-4)


def test_too_little_memory_is_one_line_after_a_single_forward_pass() -> None:
    passes = []
    model = mlp([6, 5, 4, 1], nn.Tanh)
    model[0].register_forward_hook(lambda *_: passes.append(1))
    target = objective(model, (torch.randn(8, 6), torch.randn(8, 1)))
    passes.clear()
    with pytest.raises(UsageError, match=r"^the curvature of 64 parameters needs about .* may be used: give"):
        spectrum(target, memory=2_000)
    assert len(passes) == 1


def test_less_memory_means_fewer_steps() -> None:
    target = objective(mlp([6, 20, 20, 3], nn.Tanh), data())
    full = spectrum(target).curvature
    few = spectrum(target, memory=200_000).curvature
    assert 8 <= few.steps < full.steps
    assert few.lambda_max_bound > 0


def test_gradient_descent_is_stable_just_below_two_over_lambda_max_and_not_above() -> None:
    x, y = torch.randn(50, 6), torch.randn(50, 1)
    model = nn.Linear(6, 1)
    top = lambda_max(model, (x, y)).lambda_max
    for factor, stable in ((0.95, True), (1.05, False)):
        weight = torch.ones(7, 1, dtype=torch.float64)
        features = torch.cat([x, torch.ones(50, 1)], 1).double()
        for _ in range(400):
            weight -= factor * 2 / top * 2 * features.T @ (features @ weight) / 50
        assert (float(weight.norm()) < 10) is stable


def test_lanczos_finds_every_eigenvalue_of_a_small_matrix_repeated_ones_too() -> None:
    q = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64)).Q
    values = torch.tensor([-3.0] * 3 + [0.0] * 5 + [2.0] * 4, dtype=torch.float64)
    matrix = q @ torch.diag(values) @ q.T
    found = lanczos(lambda v: matrix @ v, torch.randn(12, dtype=torch.float64), 12, tolerance=-1.0)
    assert found.exhausted
    assert found.values == pytest.approx(values.numpy(), abs=1e-10)
    torch.testing.assert_close(found.basis @ found.basis.T, torch.eye(12, dtype=torch.float64))


def test_the_floor_of_the_spectrum_is_rarely_above_its_true_end() -> None:
    wrong, tight, trials = 0, 0.0, 200
    for seed in range(trials):
        torch.manual_seed(seed)
        values = torch.rand(60, dtype=torch.float64) ** 3
        values[0] = -0.05
        q = torch.linalg.qr(torch.randn(60, 60, dtype=torch.float64)).Q
        matrix = q @ torch.diag(values) @ q.T
        found = lanczos(lambda v, m=matrix: m @ v, torch.randn(60, dtype=torch.float64), 20, tolerance=-1.0)
        wrong += found.floor() > -0.05
        tight += found.floor() / trials
    assert wrong <= 0.01 * trials + 3 * math.sqrt(0.01 * trials)
    assert tight > -0.4  # and it says something: the whole spectrum is 1 wide
