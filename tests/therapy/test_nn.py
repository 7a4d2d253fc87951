"""defib.nn: values, derivatives, and how they behave as modules."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from defib.nn import Abs, Mixed, NecroReLU, SugarReLU, gain_of, he_, lecun_, lsuv_, orthogonal_, xavier_

MODULES = [Abs(), NecroReLU(0.1), SugarReLU(), Mixed([nn.ReLU(), nn.ELU(), nn.Tanh()])]
each = pytest.mark.parametrize("module", MODULES, ids=lambda m: type(m).__name__)


def points(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.linspace(-4, 4, 42, dtype=dtype).reshape(6, 7).requires_grad_()


def derivative(module: nn.Module, z: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(module(z).sum(), z)[0]


@pytest.mark.parametrize("module", [Abs(), Mixed([nn.ELU(), nn.Tanh()])], ids=lambda m: type(m).__name__)
def test_exact_derivatives_pass_gradcheck_twice(module: nn.Module) -> None:
    z = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (z,))
    assert torch.autograd.gradgradcheck(module, (z,))


@pytest.mark.parametrize("module", [NecroReLU(0.3), SugarReLU()], ids=lambda m: type(m).__name__)
def test_a_surrogate_has_the_relus_value_bit_for_bit(module: nn.Module) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        z = torch.randn(50, 7, dtype=dtype)
        assert torch.equal(module(z), z.relu())


@given(st.floats(-30, 30), st.floats(0, 1))
def test_necro_uses_its_slope_where_the_relu_is_off(z: float, slope: float) -> None:
    point = torch.tensor([z], dtype=torch.float64, requires_grad=True)
    expected = 1.0 if z > 0 else slope
    assert derivative(NecroReLU(slope), point).item() == pytest.approx(expected)


@given(st.floats(-20, 20), st.floats(0.1, 4))
def test_sugar_uses_the_derivative_of_its_declared_surrogate(z: float, alpha: float) -> None:
    point = torch.tensor([z], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([z], dtype=torch.float64, requires_grad=True)
    bsilu = (other + alpha) * torch.sigmoid(other) - alpha / 2
    expected = torch.autograd.grad(bsilu.sum(), other)[0]
    assert torch.allclose(derivative(SugarReLU(alpha), point), expected, rtol=1e-12, atol=1e-12)


@each
def test_a_module_is_copied_pickled_and_saved(module: nn.Module) -> None:
    z = points().detach()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(z), module(z))
    assert repr(module)
    module.load_state_dict(module.state_dict())


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_format(module: nn.Module, dtype: torch.dtype) -> None:
    z = points(torch.float32).detach().to(dtype).requires_grad_()
    assert module(z).dtype == dtype
    assert derivative(module, z).isfinite().all()


def test_mixed_gives_each_group_its_own_activation_and_images_by_channel() -> None:
    mixed = Mixed([nn.ReLU(), nn.Tanh()])
    z = torch.randn(3, 5)
    assert torch.equal(mixed(z), torch.cat([z[:, :3].relu(), z[:, 3:].tanh()], 1))
    image = torch.randn(2, 4, 3, 3)
    assert torch.equal(mixed(image), torch.cat([image[:, :2].relu(), image[:, 2:].tanh()], 1))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="slope"):
        NecroReLU(1.5)
    with pytest.raises(ValueError, match="at least one"):
        Mixed([])


def test_initialisers_have_the_variance_that_they_promise_and_draw_from_their_generator() -> None:
    weight = torch.empty(300, 200)
    for init, variance in ((he_, 2 / 200), (xavier_, 2 / 500), (lecun_, 1 / 200)):
        state = torch.get_rng_state()
        init(weight, generator=torch.Generator().manual_seed(1))
        assert torch.equal(torch.get_rng_state(), state)
        assert weight.var().item() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (8, 4, 3, 3)])
def test_orthogonal_rows_or_columns_are_orthonormal(shape: tuple[int, ...]) -> None:
    weight = orthogonal_(torch.empty(shape, dtype=torch.float64)).flatten(1)
    gram = weight @ weight.t() if weight.shape[0] <= weight.shape[1] else weight.t() @ weight
    assert torch.allclose(gram, torch.eye(len(gram), dtype=torch.float64), atol=1e-10)


def test_lsuv_gives_every_layer_unit_variance_on_the_data() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[m for _ in range(8) for m in (nn.Linear(32, 32), nn.Tanh())])
    x = torch.randn(256, 32) * 5
    found = lsuv_(model, lambda: model(x), torch.Generator().manual_seed(0))
    assert len(found) == 8
    assert all(abs(v - 1) < 0.01 for v in found.values())
    assert not any(m._forward_hooks for m in model.modules())


def test_gains_are_those_of_he_and_of_the_leaky_relu() -> None:
    assert gain_of("relu") == pytest.approx(2**0.5, abs=1e-4)
    assert gain_of("leaky_relu", 1.0) == pytest.approx(1.0)
    assert gain_of("no such activation") == 1.0
