"""A check leaves everything bit for bit as it was (and the test can tell when it does not)."""

import hashlib
import pickle
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "stock"))
import nets

import defib
from defib.core.errors import UsageError
from defib.probe.state import untouched


def bits(tensor: Tensor | None) -> bytes:
    return b"None" if tensor is None else tensor.detach().numpy().tobytes()


def fingerprint(model: nn.Module) -> str:
    found = hashlib.sha256()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found.update(f"{name} {id(tensor)} {tensor.requires_grad} {tensor.dtype}".encode())
        found.update(bits(tensor) + bits(tensor.grad) + str(id(tensor.grad)).encode())
    for name, module in model.named_modules():
        hooks = [k for k, v in vars(module).items() if "hooks" in k and v]
        found.update(f"{name} {module.training} {hooks} {sorted(vars(module))}".encode())
    found.update(bits(torch.get_rng_state()) + pickle.dumps((random.getstate(), np.random.get_state())))
    return found.hexdigest()


def noisy() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(inplace=True), nn.Dropout(0.5),
        nn.utils.parametrizations.spectral_norm(nn.Linear(32, 32)), nn.RReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def norms() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Dropout2d(0.2), nn.ReLU(),
        nn.InstanceNorm2d(8, track_running_stats=True), nn.Flatten(), nn.LazyLinear(10),
    )  # fmt: skip


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(16, 64), torch.randint(10, (16,))


@pytest.mark.parametrize("build", [noisy, norms])
@pytest.mark.parametrize("mode", [True, False])
def test_a_model_with_dropout_and_batch_norm_is_left_as_it_was(
    build: Callable[[], nn.Module], mode: bool
) -> None:
    data = batch()
    model = build()
    model(data[0])  # lazy layers are born; see below for those that are not
    model.train(mode)
    next(model.parameters()).requires_grad_(False)
    for parameter in list(model.parameters())[2:4]:
        parameter.grad = torch.full_like(parameter, float("nan"))
    before = fingerprint(model)
    checkup = defib.check(model, data)
    assert fingerprint(model) == before
    assert checkup.layers
    assert checkup.loss > 0


@pytest.mark.parametrize(
    "name", ["mlp_mixer", "resnet_like", "vgg_like", "lstm", "tanh_rnn", "gpt2", "bert", "vit"]
)
def test_stock_networks_are_left_as_they_were(name: str) -> None:
    job = nets.STOCK[name]()
    job.step()  # gradients and running statistics exist
    cells = dict(zip(job.step.__code__.co_freevars, job.step.__closure__ or (), strict=True))
    data = next(cells["batches"].cell_contents)
    before = fingerprint(job.model)
    defib.check(job.model, data, cells["loss"].cell_contents)
    assert fingerprint(job.model) == before


def test_a_lazy_model_stays_lazy() -> None:
    model = norms()
    defib.check(model, batch())
    assert any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters())


def test_a_model_that_raises_is_left_as_it_was() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.out = nn.BatchNorm1d(64), nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            torch.dropout(self.norm(x), 0.5, True)
            raise KeyError("no such thing")

    model, data = Broken(), batch()
    before = fingerprint(model)
    with pytest.raises(
        UsageError, match=r"^the model raised KeyError: 'no such thing' \(at test_untouched.py:\d+\)$"
    ):
        defib.check(model, data)
    assert fingerprint(model) == before


def test_function_apply_is_torchs_own_again_afterwards() -> None:
    original = torch.autograd.Function.__dict__["apply"]
    defib.check(noisy(), batch())
    assert torch.autograd.Function.__dict__["apply"] is original


def test_the_fingerprint_tells_when_something_changes() -> None:
    model = noisy()
    before = fingerprint(model)
    torch.rand(1)
    assert fingerprint(model) != before
    with untouched(model):
        middle = fingerprint(model)
        model(batch()[0])
        assert fingerprint(model) != middle
    assert fingerprint(model) == middle


def test_gradients_that_the_users_own_loss_makes_or_clears_are_put_back() -> None:
    model, data = noisy(), batch()
    for parameter in list(model.parameters())[:2]:
        parameter.grad = torch.ones_like(parameter)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        model.zero_grad(set_to_none=True)
        output.sum().backward(retain_graph=True)
        return nn.functional.cross_entropy(output, target)

    before = fingerprint(model)
    defib.check(model, data, loss)
    assert fingerprint(model) == before
