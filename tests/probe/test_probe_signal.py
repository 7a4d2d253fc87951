"""A gradient of random signs beside the real one, and the depth that a network was measured to have."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from defib.core.checkup import Checkup, GainLedger
from defib.probe.checkup import check_up
from defib.probe.pairs import reach, slopes
from defib.report.checkup import checkup_text


def digits(samples: int = 256) -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[:samples])
    return (x - x.mean(0)) / x.std(), torch.tensor(labels[:samples])


def stack(activation: type[nn.Module], depth: int, width: int, gain: float | None = None) -> nn.Sequential:
    modules: list[nn.Module] = []
    for i in range(depth):
        layer = nn.Linear(width if i else 64, width)
        if gain is not None:
            nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.in_features))
            nn.init.zeros_(layer.bias)
        modules += [layer, activation()]
    return nn.Sequential(*modules, nn.Linear(width, 10)).double()


def ledger(checkup: Checkup) -> GainLedger:
    assert checkup.ledger is not None
    return checkup.ledger


def test_the_probe_is_what_autograd_gives_for_signs_at_the_last_layer() -> None:
    model, (x, y) = stack(nn.Tanh, 4, 32), digits(64)
    found = ledger(check_up(model, (x, y)))
    signs = 2.0 * torch.randint(2, (64, 10), generator=torch.Generator().manual_seed(0)) - 1
    first = model[0](x)
    (below,) = torch.autograd.grad(model[1:](first), first, signs.double())
    assert found.probe is not None
    assert found.probe.total == pytest.approx(math.log10(float(below.norm()) / math.sqrt(640)), abs=1e-9)
    assert found.probe.total == pytest.approx(math.fsum(s.probe for s in found.stretches), abs=1e-9)
    assert found.alignment == pytest.approx(found.gain.total - found.probe.total)
    assert found.scale == pytest.approx(-4 / (2 * math.log(10) * found.probe.total))


def test_one_probe_estimates_the_whole_jacobian() -> None:
    model, (x, y) = stack(nn.ReLU, 1, 64, math.sqrt(2)), digits(128)
    found = ledger(check_up(model, (x, y)))
    # The stretch from the head's output to the first layer's: J = W diag(mask), sample by sample.
    mask = (model[0](x) > 0).double()
    whole = (model[2].weight.detach().square().sum(0) * mask).sum() / (128 * 10)
    assert found.probe is not None
    assert 10 ** (2 * found.probe.total) == pytest.approx(float(whole), rel=0.1)


def trained(model: nn.Module, steps: int, lr: float) -> nn.Module:
    x, y = digits(1797)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(steps):
        rows = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return model


def test_a_trained_network_sends_its_gradient_along_its_largest_directions() -> None:
    model = stack(nn.ReLU, 10, 64, math.sqrt(2))
    before = ledger(check_up(model, digits(500))).alignment
    after = ledger(check_up(trained(model, 200, 0.01), digits(500))).alignment
    # The reference: -0.03 at the start, +0.45 after 300 steps.
    assert abs(before) < 0.15
    assert after > 0.2


# Weights' gain (None: PyTorch's default) and 6 xi_c by mean-field theory.
DEPTHS = [
    (nn.Tanh, None, 5.4),
    (nn.ReLU, None, 3.3),
    (nn.GELU, None, 2.4),
    (nn.ELU, None, 5.3),
    (nn.Sigmoid, None, 1.5),
    (nn.SELU, None, 14.0),
]


@pytest.mark.parametrize(("activation", "gain", "depth"), DEPTHS)
def test_the_measured_depth_is_the_theorys_where_the_theory_holds(
    activation: type[nn.Module], gain: float | None, depth: float
) -> None:
    checkup = check_up(stack(activation, 20, 256, gain), digits())
    assert checkup.reach is not None
    assert checkup.depth == pytest.approx(depth, rel=0.05)
    assert checkup.reach.depth == pytest.approx(depth, rel=0.15)
    assert checkup.reach.low <= checkup.reach.depth <= checkup.reach.high
    assert "measured" in checkup_text(checkup)


def test_weights_that_the_theory_does_not_know_show_in_the_measured_depth_only() -> None:
    model = stack(nn.Tanh, 12, 128, 1.2)
    random = check_up(model, digits())
    with torch.no_grad():
        for layer in model[2:-1:2]:
            u, _, v = torch.linalg.svd(layer.weight)  # the same mean square, all of it in eight directions
            size = layer.weight.norm()
            layer.weight.copy_(u[:, :8] @ v[:8])
            layer.weight.mul_(size / layer.weight.norm())
    low_rank = check_up(model, digits())
    assert low_rank.depth == pytest.approx(random.depth, rel=0.05)
    assert random.reach is not None
    assert low_rank.reach is not None
    assert abs(low_rank.reach.depth - random.reach.depth) > 0.2 * random.reach.depth


def test_slopes_follow_a_map_that_is_known() -> None:
    pairs = torch.linspace(0.0, 0.4, 500).double()
    layers = [1 - (1 - pairs) * 0.5**i for i in range(8)]
    found = slopes(layers, 1e-16)
    assert math.isnan(found[0])
    assert found[1:] == pytest.approx([0.5] * 7)
    measured = reach(found)
    assert measured is not None
    assert measured.depth == pytest.approx(6 / math.log(2))


def test_a_difference_that_is_lost_in_rounding_is_not_taken_for_a_slope() -> None:
    pairs = torch.linspace(0.0, 0.4, 500).double()
    layers = [1 - (1 - pairs) * 1e-3**i for i in range(5)]
    assert [math.isnan(s) for s in slopes(layers, 1e-7)] == [True, False, True, True, True]


def test_a_network_with_norms_or_skips_has_no_measured_depth() -> None:
    model = nn.Sequential(nn.Linear(64, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 10)).double()
    assert check_up(model, digits()).reach is None


def test_a_graph_that_runs_backward_only_once_gets_its_ledger_and_no_probe() -> None:
    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(checkpoint(lambda h: torch.tanh(self.b(h)), self.a(x), use_reentrant=False))

    class Refuses(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            ctx.left = 1  # type: ignore[attr-defined]
            return x.clone()

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:
            if not ctx.left:  # type: ignore[attr-defined]
                raise RuntimeError("only once")
            ctx.left = 0  # type: ignore[attr-defined]
            return grad

    class Custom(Once):
        def forward(self, x: Tensor) -> Tensor:
            return self.c(Refuses.apply(torch.tanh(self.a(x))))

    for model in (Once().double(), Custom().double()):
        checkup = check_up(model, digits(64))
        found = ledger(checkup)
        assert found.gain.total == pytest.approx(math.log10(found.end / found.start), abs=1e-9)
        told = [u.why for u in checkup.unseen if "no probe" in u.why]
        assert (found.probe is None) == bool(told)
    assert told[0].endswith("only once")


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # dynamo itself looks at it
def test_compiled_inside_is_run_backward_once() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)
            self.b.compile(backend="aot_eager")

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.relu(self.b(self.a(x))))

    x, y = digits(32)
    checkup = check_up(Net(), (x.float(), y))
    assert any("cannot be run backward a second time" in u.why for u in checkup.unseen)
    assert ledger(checkup).probe is None
