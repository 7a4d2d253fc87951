"""The theorems that the triage stands on, each tried to be broken on random networks (docs/triage.md)."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn import functional

from defib.probe.batch import pieces
from defib.probe.curvature import nulls
from defib.probe.hessian import Hessian
from defib.probe.objective import Objective

SEEDS = st.integers(0, 10**6)
DEPTHS = st.integers(1, 3)
SCALES = st.floats(0.1, 5.0)
ANY = (nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.SiLU, nn.ELU, nn.Softplus)
PIECEWISE = (nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.Hardtanh)
FEW = settings(max_examples=25, deadline=None, database=None)


class Case:
    """A random network in float64 with its loss as a function of one flat vector."""

    def __init__(self, seed: int, act: type[nn.Module], depth: int, scale: float, classes: bool) -> None:
        torch.manual_seed(seed)
        widths = [3, *[int(torch.randint(2, 5, ())) for _ in range(depth)], 2]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), act()]
        self.net = nn.Sequential(*layers[:-1]).double()
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.mul_(scale)
        self.x = torch.randn(7, 3, dtype=torch.float64)
        self.y = torch.randint(2, (7,)) if classes else torch.randn(7, 2, dtype=torch.float64)
        self.names = [n for n, _ in self.net.named_parameters()]
        self.shapes = [p.shape for p in self.net.parameters()]
        self.sizes = [p.numel() for p in self.net.parameters()]
        self.theta = torch.cat([p.detach().flatten() for p in self.net.parameters()])

    def output(self, theta: Tensor) -> Tensor:
        parts = torch.split(theta, self.sizes)
        held = {n: v.view(s) for n, v, s in zip(self.names, parts, self.shapes, strict=True)}
        return functional_call(self.net, held, (self.x,))

    def loss(self, theta: Tensor) -> Tensor:
        compare = functional.mse_loss if self.y.is_floating_point() else functional.cross_entropy
        return compare(self.output(theta), self.y)

    def dense(self) -> Tensor:
        return jacrev(jacrev(self.loss))(self.theta)

    def layers(self) -> list[slice]:
        """Weights and bias of each layer as one range."""
        found, start = [], 0
        for weight, bias in zip(self.sizes[::2], self.sizes[1::2], strict=True):
            found.append(slice(start, start + weight + bias))
            start += weight + bias
        return found


@FEW
@given(SEEDS, st.sampled_from(ANY), DEPTHS, SCALES)
def test_f1_no_point_is_a_maximum(seed: int, act: type[nn.Module], depth: int, scale: float) -> None:
    case = Case(seed, act, depth, scale, classes=False)
    dense = case.dense()
    # Squared error, mean over 2 outputs: the output bias has curvature 2 / 2 whatever the rest is.
    torch.testing.assert_close(dense[-2:, -2:], torch.eye(2, dtype=torch.float64))
    assert float(torch.linalg.eigvalsh(dense)[-1]) >= 1 - 1e-9


@FEW
@given(SEEDS, st.sampled_from(PIECEWISE), DEPTHS, SCALES, st.booleans())
def test_f2_no_layer_of_a_piecewise_linear_network_curves_down_by_itself(
    seed: int, act: type[nn.Module], depth: int, scale: float, classes: bool
) -> None:
    case = Case(seed, act, depth, scale, classes)
    dense = case.dense()
    size = max(float(dense.abs().max()), 1e-300)
    for own in case.layers():
        assert float(torch.linalg.eigvalsh(dense[own, own])[0]) >= -1e-10 * size


def test_f2_fails_for_tanh_and_for_tied_weights_so_its_test_can_fail() -> None:
    blocks = []
    for seed in range(10):
        case = Case(seed, nn.Tanh, 2, 2.0, classes=False)
        dense = case.dense()
        blocks += [float(torch.linalg.eigvalsh(dense[own, own])[0]) for own in case.layers()]
    assert min(blocks) < -1e-3

    def tied(w: Tensor) -> Tensor:
        return (torch.relu(torch.relu(w * 1.0) * w) - 4.0).square()

    assert float(jacrev(jacrev(tied))(torch.tensor(0.5, dtype=torch.float64))) < 0


def test_f2_leaves_whole_networks_indefinite() -> None:
    lowest = [
        float(torch.linalg.eigvalsh(Case(s, nn.ReLU, 2, 1.5, classes=False).dense())[0]) for s in range(10)
    ]
    assert min(lowest) < -1e-2


@FEW
@given(SEEDS, st.sampled_from(ANY), DEPTHS, SCALES)
def test_f3_at_zero_residual_the_hessian_is_gauss_newton(
    seed: int, act: type[nn.Module], depth: int, scale: float
) -> None:
    case = Case(seed, act, depth, scale, classes=False)
    case.y = case.output(case.theta).detach()
    jacobian = jacrev(case.output)(case.theta).reshape(14, -1)
    gauss_newton = 2 * jacobian.T @ jacobian / 14
    dense = case.dense()
    size = float(gauss_newton.abs().max())
    torch.testing.assert_close(dense, gauss_newton, rtol=1e-8, atol=1e-10 * size)
    assert float(torch.linalg.eigvalsh(dense)[0]) >= -1e-9 * size


@FEW
@given(SEEDS, DEPTHS, SCALES, st.booleans())
def test_f4_rows_of_dead_units_are_exactly_zero_and_all_of_them_are_found(
    seed: int, depth: int, scale: float, classes: bool
) -> None:
    case = Case(seed, nn.ReLU, depth, scale, classes)
    layer, follower = case.net[0], case.net[2]
    with torch.no_grad():
        layer.bias[0] = -1e3
    case.theta = torch.cat([p.detach().flatten() for p in case.net.parameters()])
    dense = case.dense()
    found = nulls(
        Hessian(Objective(case.net, pieces((case.x, case.y), 1), None)), torch.Generator().manual_seed(seed)
    )
    assert torch.equal(found.active, (dense != 0).any(1))
    assert not dense[:3].any()  # incoming weights
    assert not dense[layer.weight.numel()].any()  # bias
    start = layer.weight.numel() + layer.bias.numel()
    outgoing = start + torch.arange(follower.weight.shape[0]) * follower.weight.shape[1]
    assert not dense[outgoing].any()


@pytest.mark.parametrize("n", [5, 8])
def test_f6_full_rank_features_and_a_stationary_output_layer_mean_a_global_minimum(n: int) -> None:
    torch.manual_seed(n)
    net = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 2)).double()
    x, y = torch.randn(n, 4, dtype=torch.float64), torch.randn(n, 2, dtype=torch.float64)
    features = torch.cat([net[:2](x), torch.ones(n, 1)], 1).detach()
    assert int(torch.linalg.matrix_rank(features)) == n
    solved = torch.linalg.lstsq(features, y).solution
    with torch.no_grad():
        net[2].weight.copy_(solved[:7].T)
        net[2].bias.copy_(solved[7])
    loss = functional.mse_loss(net(x), y)
    loss.backward()
    assert float(loss.detach()) < 1e-20
    assert max(float(p.grad.norm()) for p in net.parameters() if p.grad is not None) < 1e-10
