"""The theorems behind the certificates of BatchNorm, paths and rank: hypothesis tries to break each."""

import math

import numpy as np
import pytest
import torch
from bounded_nets import shaken
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import defib
from defib.core.certificate import ChannelVerdict
from defib.probe.certificates.batch_norm import channel_verdict
from defib.probe.certificates.rank import rank_certificate

seeds = st.integers(0, 2**31 - 1)
finite = st.floats(-100, 100)


def fires(gamma: float, beta: float, x: np.ndarray, epsilon: float) -> bool:
    normal = (x - x.mean()) / math.sqrt(x.var() + epsilon)
    return bool((gamma * normal + beta > 0).any())


# ------------------------------------------------------------------ BatchNorm in training mode


@settings(max_examples=600, deadline=None)
@given(
    st.lists(finite, min_size=2, max_size=40),
    st.floats(-4, 4),
    st.floats(-8, 8),
    st.sampled_from([0.0, 1e-5, 0.1]),
)
def test_no_batch_contradicts_the_verdict_on_a_channel(
    values: list[float], gamma: float, share: float, epsilon: float
) -> None:
    x = np.array(values)
    assume(x.var() > 1e-6)
    beta = share * abs(gamma)
    verdict, above = channel_verdict(gamma, beta, len(x), epsilon)
    if verdict is ChannelVerdict.DEAD:
        assert not fires(gamma, beta - 1e-9 * (1 + abs(beta)), x, epsilon)
    if verdict is ChannelVerdict.ALIVE or (
        verdict is ChannelVerdict.ALIVE_IF_VARIED and x.var() > above * (1 + 1e-9)
    ):
        assert fires(gamma, beta + 1e-9 * (1 + abs(beta)), x, epsilon)


@pytest.mark.parametrize("n", [2, 3, 8, 64, 1000])
@pytest.mark.parametrize("gamma", [1.0, -1.0, 2.5])
def test_the_limits_are_attained_so_that_no_verdict_could_be_stronger(n: int, gamma: float) -> None:
    one_out = np.zeros(n)
    one_out[0] = 1.0
    most, least = abs(gamma) * math.sqrt(n - 1), abs(gamma) / math.sqrt(n - 1)
    up = one_out if gamma > 0 else -one_out
    assert fires(gamma, -most * (1 - 1e-9), up, 0.0)  # one stands out: fires although nearly certified dead
    assert channel_verdict(gamma, -most * (1 - 1e-9), n, 0.0)[0] is not ChannelVerdict.DEAD
    assert channel_verdict(gamma, -most * (1 + 1e-9), n, 0.0)[0] is ChannelVerdict.DEAD
    assert not fires(gamma, -least * (1 + 1e-9), -up, 0.0)  # all but one alike: silent
    assert channel_verdict(gamma, -least * (1 + 1e-9), n, 0.0)[0] is not ChannelVerdict.ALIVE_IF_VARIED
    assert channel_verdict(gamma, -least * (1 - 1e-9), n, 0.0)[0] is ChannelVerdict.ALIVE_IF_VARIED


def test_a_constant_channel_is_silent_for_all_that_it_is_alive_if_varied() -> None:
    verdict, above = channel_verdict(1.0, -0.15, 32, 1e-5)
    assert verdict is ChannelVerdict.ALIVE_IF_VARIED
    flat = np.array([math.sqrt(above * 32 / 31) * 0.99, *[0.0] * 31])  # a variance of 31 / 32^2 x^2
    flat *= math.sqrt(above * 0.98 / flat.var())
    assert not fires(1.0, -0.15, -flat, 1e-5)
    assert fires(1.0, -0.15, -flat * math.sqrt(1.05 / 0.98), 1e-5)


def test_a_models_batch_norms_are_judged_for_the_values_that_its_batch_gives_a_channel() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    batch = torch.rand(8, 1, 6, 6)
    model(batch)
    n = 8 * 16
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([1.0, -math.sqrt(n - 1) * 1.001, -2.0]))
    found = defib.certify(model, "0:1", batch).batch_norms
    assert [(b.layer, b.values) for b in found] == [("1", n)]
    assert found[0].channels == (ChannelVerdict.ALIVE, ChannelVerdict.DEAD, ChannelVerdict.DEPENDS)
    model.train()
    silent = torch.relu(model[1](model[0](torch.randn(8, 1, 6, 6) * 50)))[:, 1]
    assert not bool(silent.any())


# ------------------------------------------------------------------ active paths


def narrow(width: int, depth: int, seed: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    noise = torch.Generator().manual_seed(seed)
    for _ in range(depth):
        linear = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            linear.weight.copy_(torch.randn(width, width, generator=noise) * math.sqrt(2 / width))
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(width, 2))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(1, 8), seeds)
def test_a_sample_without_a_path_has_no_derivative_and_one_with_a_path_has(
    width: int, depth: int, seed: int
) -> None:
    model = narrow(width, depth, seed).double()
    x = torch.randn(12, width, generator=torch.Generator().manual_seed(seed)).double()
    found = defib.certify(model, "data", x).paths
    assert found is not None
    jacobian = torch.func.vmap(torch.func.jacrev(lambda v: model(v[None])[0]))(x)
    lost = (jacobian.abs().flatten(1).amax(1) == 0).nonzero().reshape(-1).tolist()
    assert list(found.without_path) == lost  # weights in general position do not cancel
    h, first = x, [""] * 12
    for i, m in enumerate(model[:-1]):
        h = m(h)
        first = [
            f or (str(i - 1) if isinstance(m, nn.ReLU) and not bool(row.any()) else "")
            for f, row in zip(first, h, strict=True)
        ]
    assert found.cuts == tuple(first[i] for i in lost)


@pytest.mark.parametrize(("width", "lost"), [(4, 2000), (8, 2), (16, 0)])
def test_the_known_counts_of_samples_without_a_path_are_reproduced(width: int, lost: int) -> None:
    torch.manual_seed(0)  # one network a width, ten layers deep, He weights, 2,000 Gaussian samples
    x = torch.randn(2000, width, dtype=torch.float64)
    parts: list[nn.Module] = []
    for _ in range(10):
        linear = nn.Linear(1, 1, bias=False).double()
        parts += [linear, nn.ReLU()]
    torch.manual_seed(0)
    torch.randn(2000, width, dtype=torch.float64)
    for linear in parts[::2]:
        linear.weight = nn.Parameter(torch.randn(width, width, dtype=torch.float64) * math.sqrt(2 / width))
    found = defib.certify(nn.Sequential(*parts), "data", x).paths
    assert found is not None
    assert len(found.without_path) == lost


def test_paths_run_through_pools_convolutions_skips_and_stop_at_zero_weights() -> None:
    for seed in range(5):
        planes = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 2), nn.ReLU()]
        model = shaken(nn.Sequential(*planes, nn.Flatten(), nn.Linear(2, 2, bias=False)), seed).double()
        x = torch.randn(24, 1, 6, 6).double()
        found = defib.certify(model, "data", x).paths
        assert found is not None
        jacobian = torch.func.vmap(torch.func.jacrev(lambda v, m=model: m(v[None])[0]))(x)
        lost = (jacobian.abs().flatten(1).amax(1) == 0).nonzero().reshape(-1).tolist()
        assert list(found.without_path) == lost
        assert not found.not_followed
    with torch.no_grad():
        model[-1].weight.zero_()
    cut = defib.certify(model, "data", x).paths
    assert cut is not None
    assert len(cut.without_path) == 24
    assert set(cut.cuts) <= {"", "0", "3"}


# ------------------------------------------------------------------ rank and global minimum


def fitted(n: int, seed: int, hidden: int = 7) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    noise = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=noise, dtype=torch.float64)
    y = torch.randn(n, 2, generator=noise, dtype=torch.float64)
    model = shaken(nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 2)), seed).double()
    with torch.no_grad():
        wide = torch.cat([model[:2](x), torch.ones(n, 1).double()], dim=1)
        best = torch.linalg.lstsq(wide, y, driver="gelsd").solution
        model[2].weight.copy_(best[:-1].T)
        model[2].bias.copy_(best[-1])
    return model, x, y


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 14), seeds)
def test_full_rank_and_no_gradient_in_the_output_layer_mean_the_best_possible_loss(n: int, seed: int) -> None:
    model, x, y = fitted(n, seed)
    found = defib.certify(model, "data", (x, y)).rank
    assert found is not None
    loss = nn.functional.mse_loss(model(x), y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert found.rank == min(n, 8)
    assert found.certified == (n <= 8)
    if found.certified:
        assert float(loss.detach()) < 1e-12
        assert max(float(g.abs().max()) for g in gradients) < 1e-6
        assert found.residual <= found.residual_bound * (1 + 1e-9) + 1e-18
    else:
        assert float(loss.detach()) > 1e-6
        assert max(float(g.abs().max()) for g in gradients[:2]) > 1e-6


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), seeds, st.floats(-6, 0))
def test_the_residual_is_never_larger_than_the_gradient_allows(n: int, seed: int, size: float) -> None:
    noise = torch.Generator().manual_seed(seed)
    h = torch.randn(n, 7, generator=noise, dtype=torch.float64)
    y = torch.randn(n, 3, generator=noise, dtype=torch.float64)
    off = torch.randn(n, 3, generator=noise, dtype=torch.float64)
    found = rank_certificate(h, y + 10.0**size * off, y, nn.MSELoss())
    assert found.residual <= found.residual_bound * (1 + 1e-9)
    assert found.certified <= (found.residual_bound < 1e-3)


def test_where_the_rank_theorem_says_nothing_the_reason_is_given() -> None:
    model, x, y = fitted(5, 1)
    reasons = {
        "not known to be convex": defib.certify(model, "data", (x, y), lambda a, b: (a - b).pow(2).mean()),
        "not at a stationary point": defib.certify(model, "data", (x, y + 1.0)),
        "not that of a Linear": defib.certify(nn.Sequential(*model, nn.Tanh()), "data", (x, y)),
        "dropout or BatchNorm": defib.certify(nn.Sequential(nn.Dropout(), *model), "data", (x, y)),
    }
    for part, found in reasons.items():
        assert found.rank is not None
        assert not found.rank.applies
        assert part in found.rank.reason
    assert defib.certify(model, "data", x).rank is None
    assert defib.certify(model, "data", (x, y)).rank.certified  # type: ignore[union-attr]


def test_equal_samples_with_different_targets_lose_the_rank() -> None:
    model, x, y = fitted(5, 2)
    x[1] = x[0]
    found = defib.certify(model, "data", (x, y)).rank
    assert found is not None
    assert (found.rank, found.samples, found.certified) == (4, 5, False)
