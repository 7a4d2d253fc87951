"""The gain ledger adds up, and reproduces the decades per layer that are known."""

import math
from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from defib.core.checkup import Checkup, GainLedger
from defib.probe.checkup import check_up

DEPTH, WIDTH = 20, 256


def digits(samples: int = 256) -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[:samples])
    return (x - x.mean(0)) / x.std(), torch.tensor(labels[:samples])


def initialise(layer: nn.Linear, how: str) -> nn.Linear:
    if how == "xavier":
        nn.init.xavier_normal_(layer.weight)
    if how == "he":
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if how != "default":
        nn.init.zeros_(layer.bias)
    return layer


def stack(activation: Callable[[], nn.Module], how: str, depth: int = DEPTH) -> nn.Sequential:
    widths = [64, *[WIDTH] * depth]
    modules: list[nn.Module] = []
    for i in range(depth):
        modules += [initialise(nn.Linear(widths[i], widths[i + 1]), how), activation()]
    return nn.Sequential(*modules, nn.Linear(WIDTH, 10)).double()


def ledger(checkup: Checkup) -> GainLedger:
    assert checkup.ledger is not None
    return checkup.ledger


# Per-layer decades (derivative, weights) of 20 layers of 256 units, from the reference table.
KNOWN = [
    (nn.Sigmoid, "default", -0.612, -0.239),
    (nn.Sigmoid, "xavier", -0.629, -0.002),
    (nn.Tanh, "default", -0.0065, -0.2386),
    (nn.Tanh, "xavier", -0.0355, -0.0015),
    (nn.ReLU, "default", -0.152, -0.239),
    (nn.ReLU, "xavier", -0.1505, 0.0),
    (nn.ReLU, "he", -0.1505, 0.1505),
    (nn.GELU, "default", -0.3010, -0.2386),
]


@pytest.mark.parametrize(("activation", "how", "derivative", "weights"), KNOWN)
def test_the_known_decades_per_layer_are_reproduced(
    activation: Callable[[], nn.Module], how: str, derivative: float, weights: float
) -> None:
    found = ledger(check_up(stack(activation, how), digits()))
    hidden = found.stretches[1:]  # the first crosses the narrow output layer
    assert len(found.stretches) == DEPTH
    # 0.015 decades: 3 % of the signal, the spread of 20 layers of finite width on real data.
    assert math.fsum(s.gain.derivative for s in hidden) / len(hidden) == pytest.approx(derivative, abs=0.015)
    assert math.fsum(s.gain.weights for s in hidden) / len(hidden) == pytest.approx(weights, abs=0.015)


# Inputs, whether samples have one norm, and the derivative's part per layer under Xavier weights.
@pytest.mark.parametrize(
    ("inputs", "even", "derivative"), [(256, True, -0.0361), (64, True, -0.0284), (64, False, -0.0224)]
)
def test_what_tanh_loses_depends_on_the_first_pre_activation(
    inputs: int, even: bool, derivative: float
) -> None:
    model = stack(nn.Tanh, "xavier")
    x, y = digits()
    if inputs != 64:
        model[0] = initialise(nn.Linear(inputs, WIDTH), "xavier").double()
        x = torch.randn(len(x), inputs).double()
    if even:
        x = x / x.norm(dim=1, keepdim=True) * inputs**0.5
    rows = ledger(check_up(model, (x, y))).stretches[1:]
    # Mean-field theory gives the first two; one draw of 256 units is within 0.003 of it.
    assert math.fsum(s.gain.derivative for s in rows) / len(rows) == pytest.approx(derivative, abs=0.003)


def test_a_leaky_relu_under_plain_he_weights_grows_by_a_fiftieth_of_a_decade() -> None:
    found = ledger(check_up(stack(lambda: nn.LeakyReLU(0.3), "he"), digits()))
    # log10 sqrt(1 + 0.3^2) = 0.0187 by the algebra of He et al.
    mean = math.fsum(s.gain.total for s in found.stretches[1:]) / (DEPTH - 1)
    assert mean == pytest.approx(0.0187, abs=0.01)


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh, nn.ReLU, nn.GELU])
def test_the_parts_multiply_to_the_gain_that_autograd_gives_by_itself(
    activation: Callable[[], nn.Module],
) -> None:
    model, (x, y) = stack(activation, "default", depth=6), digits()
    first = model[0](x)
    last = model[1:](first)
    loss = nn.functional.cross_entropy(last, y)
    below, above = torch.autograd.grad(loss, [first, last])
    found = ledger(check_up(model, (x, y)))
    assert found.start == pytest.approx(float(above.norm()), rel=1e-9)
    assert found.end == pytest.approx(float(below.norm()), rel=1e-9)
    assert 10**found.gain.total == pytest.approx(float(below.norm() / above.norm()), rel=1e-6)
    assert len(found.stretches) == 6


class Skip(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(torch.tanh(self.inner(x)))


def test_a_residual_block_is_parted_exactly_into_skip_cross_and_branch() -> None:
    model = nn.Sequential(nn.Linear(64, 32), Skip(32), nn.Linear(32, 10)).double()
    x, y = digits()
    below = model[0](x)
    above = model[1](below)
    loss = nn.functional.cross_entropy(model[2](above), y)
    g_below, g_above = torch.autograd.grad(loss, [below, above])
    branch = g_below - g_above
    block = next(s.block for s in ledger(check_up(model, (x, y))).stretches if s.block is not None)
    whole = g_above.square().sum()
    assert block.skip == pytest.approx(1.0, abs=1e-12)
    assert block.cross == pytest.approx(float(2 * (g_above * branch).sum() / whole), rel=1e-9)
    assert block.branch == pytest.approx(float(branch.square().sum() / whole), rel=1e-9)
    assert block.inside is not None
    assert 10 ** (2 * block.inside.total) == pytest.approx(block.branch, rel=1e-9)
    assert block.inside.derivative < 0


def test_24_residual_blocks_with_he_branches_gain_three_and_a_half_decades() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = (initialise(nn.Linear(WIDTH, WIDTH), "he") for _ in range(2))
            nn.init.normal_(self.outer.weight, std=WIDTH**-0.5)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.outer(torch.relu(self.inner(x)))

    model = nn.Sequential(nn.Linear(64, WIDTH), *(Block() for _ in range(24)), nn.Linear(WIDTH, 10)).double()
    found = ledger(check_up(model, digits(128)))
    # Each block doubles the square: 24 log10(2) / 2 = 3.61; the reference measured +3.51.
    assert found.gain.skips == pytest.approx(3.56, abs=0.15)
    assert abs(found.gain.total - math.log10(found.end / found.start)) < 1e-6


def test_a_normalisation_has_a_column_of_its_own() -> None:
    model = nn.Sequential(
        nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.LayerNorm(32), nn.ReLU(),
        nn.Linear(32, 10),
    ).double()  # fmt: skip
    found = ledger(check_up(model, digits()))
    assert found.gain.norms > 0.3
    assert found.gain.total == pytest.approx(math.log10(found.end / found.start), abs=1e-9)


@pytest.mark.parametrize(("cell", "word"), [(nn.RNN, "recurrence"), (nn.GRU, "recurrence")])
def test_a_recurrence_is_measured_as_a_whole_and_said_to_be(cell: type[nn.RNNBase], word: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = cell(8, 16, batch_first=True), nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.cell(x.view(-1, 8, 8))[0][:, -1])

    checkup = check_up(Net().double(), digits(32))
    found = ledger(checkup)
    assert any(word in s.unknown for s in found.stretches)
    assert any(word in u.why for u in checkup.unseen)
    assert found.gain.unattributed
    assert found.gain.total == pytest.approx(math.log10(found.end / found.start), abs=1e-9)


def test_ten_default_sigmoid_layers_are_blamed_on_the_derivative_and_relu_layers_on_the_weights() -> None:
    sigmoid = check_up(stack(nn.Sigmoid, "default", 10), digits()).findings
    relu = check_up(stack(nn.ReLU, "default", 12), digits()).findings
    assert [(f.rule, f.cause.value) for f in sigmoid] == [("vanishing-gradient", "activation-derivative")]
    assert [(f.rule, f.cause.value) for f in relu] == [("initialisation", "weights-too-small")]


def test_weights_of_size_one_explode_before_training() -> None:
    model = stack(nn.ReLU, "default", 6)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter)
    (finding,) = check_up(model, digits()).findings
    assert (finding.rule, finding.cause.value) == ("initialisation", "weights-too-large")


def test_a_recurrence_written_by_hand_is_parted_lag_by_lag() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.over, self.head = (
                nn.Linear(8, 32),
                nn.Linear(32, 32, bias=False),
                nn.Linear(32, 10),
            )
            nn.init.orthogonal_(self.over.weight)

        def forward(self, x: Tensor) -> Tensor:
            state = torch.tanh(self.into(x[:, :8]))
            for step in range(1, 8):
                state = torch.tanh(self.over(state) + self.into(x[:, 8 * step : 8 * step + 8]))
            return self.head(state)

    found = ledger(check_up(Net().double(), digits(64)))
    lags = found.stretches[1:]
    assert len(lags) == 7
    # Orthogonal weights change no norm, so all that is lost over time is the derivative's.
    assert all(
        abs(lag.gain.weights) < 1e-7 and lag.gain.derivative < 0 and lag.uses == 7 for lag in lags[:-1]
    )
    assert found.gain.total == pytest.approx(math.log10(found.end / found.start), abs=1e-9)
