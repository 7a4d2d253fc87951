"""The ledger of recurrent layers, lag by lag, against autograd and against the known decades."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from defib.core.recurrence import Lag, Recurrence
from defib.probe.checkup import check_up
from defib.report.checkup import checkup_text

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Last(nn.Module):
    """A recurrent layer and a head on its last output."""

    def __init__(self, cell: nn.RNNBase, outputs: int = 4) -> None:
        super().__init__()
        self.cell = cell
        self.head = nn.Linear(cell.hidden_size * (1 + cell.bidirectional), outputs)

    def forward(self, x: Tensor, *state: Any) -> Tensor:
        return self.head(self.cell(x, *state)[0][:, -1])


def parted(model: nn.Module, x: Tensor, y: Tensor | None = None, loss: Any = None) -> tuple[Recurrence, ...]:
    target = torch.arange(len(x)) % 4 if y is None else y
    return check_up(model, (x, target), loss).recurrences


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_the_lags_add_up_to_the_gradient_that_autograd_gives_at_the_first_state(
    name: str, nonlinearity: str
) -> None:
    if name != "rnn" and nonlinearity == "relu":
        nonlinearity = "tanh"
    options = {"nonlinearity": nonlinearity} if name == "rnn" else {}
    cell = CELLS[name](8, 16, batch_first=True, **options).double()
    model, x = Last(cell).double(), torch.randn(5, 12, 8).double()
    states = [torch.randn(1, 5, 16).double().requires_grad_() for _ in range(2 if name == "lstm" else 1)]
    given = tuple(states) if name == "lstm" else states[0]
    output = cell(x, given)[0]
    loss = nn.functional.cross_entropy(model.head(output[:, -1]), torch.arange(5) % 4)
    above, *below = torch.autograd.grad(loss, [output, *states])
    (found,) = check_up(model, (x, given, torch.arange(5) % 4)).recurrences
    wanted = math.log10(math.sqrt(sum(float(g.square().sum()) for g in below)) / float(above.norm()))
    assert found.total == pytest.approx(wanted, abs=1e-9)
    assert (len(found.lags), found.real, found.unknown) == (12, True, "")
    assert math.isnan(found.per_lag.gate) is (name == "rnn")


def orthogonal(cell: nn.RNN) -> nn.RNN:
    nn.init.orthogonal_(cell.weight_hh_l0)
    return cell


# Decades per step in the derivative and in the weights, and over 100 steps: the reference.
@pytest.mark.parametrize(
    ("start", "derivative", "weights", "total"),
    [("orthogonal", -0.178, 0.0, -17.8), ("default", -0.156, -0.237, -39.3)],
)
def test_the_known_decades_of_a_tanh_rnn_over_a_hundred_steps_are_reproduced(
    start: str, derivative: float, weights: float, total: float
) -> None:
    cell = nn.RNN(8, 64, batch_first=True, bias=False)
    if start == "orthogonal":
        orthogonal(cell)
    nn.init.normal_(cell.weight_ih_l0, std=0.3)
    (found,) = parted(Last(cell, 64).double(), torch.randn(32, 100, 8).double(), torch.randn(32, 64).double())
    assert len(found.lags) == 100
    assert found.per_lag.derivative == pytest.approx(derivative, abs=0.015)
    assert found.per_lag.weights == pytest.approx(weights, abs=0.015)
    assert found.total == pytest.approx(total, abs=3.0)  # a hundred times the spread of both parts
    if start == "default":
        assert found.memory == pytest.approx(8, abs=1)
        assert found.lost is not None
        assert found.lost > 4 * (found.memory or 0)


def test_an_open_forget_gate_carries_the_gradient_and_a_shut_one_ends_it() -> None:
    found = {}
    for bias in (8.0, -8.0):
        cell = nn.LSTM(8, 16, batch_first=True)
        with torch.no_grad():
            cell.bias_hh_l0[16:32] += bias
        (found[bias],) = parted(Last(cell), torch.randn(16, 40, 8))
    assert found[8.0].memory is None
    assert abs(found[8.0].per_lag.gate) < 1e-3
    assert (found[-8.0].memory or 99) < 10
    assert found[-8.0].per_lag.gate < -3


def test_stacked_and_reversed_layers_have_ledgers_of_their_own() -> None:
    cell = nn.GRU(8, 16, num_layers=2, bidirectional=True, batch_first=True)
    found = parted(Last(cell), torch.randn(8, 6, 8))
    assert [(r.depth, r.reverse) for r in found] == [(0, False), (0, True), (1, False), (1, True)]
    assert [r.real for r in found] == [False, False, True, False]  # the rest gets random signs
    assert all(len(r.lags) == 6 and r.total < 0 for r in found)


def test_what_cannot_be_parted_is_named_with_its_reason() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            rows = nn.utils.rnn.pack_padded_sequence(x, [6] * len(x), batch_first=True)
            return self.head(self.cell(rows)[1][0][-1])

    x = torch.randn(8, 6, 8).double()  # projections in float32 draw a warning from oneDNN
    projected = Last(nn.LSTM(8, 16, batch_first=True))
    projected.cell = nn.LSTM(8, 32, proj_size=16, batch_first=True)
    deep = nn.LSTM(8, 16, num_layers=2, dropout=0.5, batch_first=True)
    reasons = [
        (Packed(), "packed"),
        (projected, "projected"),
        (Last(deep), "dropout"),
    ]
    for model, word in reasons:
        checkup = check_up(model.double(), (x, torch.arange(8) % 4))
        assert word in checkup.recurrences[-1].unknown
        assert not checkup.recurrences[-1].lags
        assert any(u.what == "cell" and word in u.why for u in checkup.unseen)
        assert word in checkup_text(checkup)


def test_a_module_whose_forward_was_replaced_is_not_parted_wrongly() -> None:
    class Scaled(nn.RNN):
        def forward(self, *args: Any) -> Any:
            out, last = super().forward(*args)
            return 3 * out, last

    (found,) = parted(Last(Scaled(8, 16, batch_first=True)), torch.randn(8, 6, 8))
    assert "another output" in found.unknown


def test_the_memory_is_the_first_lag_below_a_thousandth() -> None:
    lags = (
        Lag(derivative=-1.0, weights=-0.5),
        Lag(derivative=-1.0, weights=-0.6),
        Lag(derivative=0, weights=0),
    )
    found = Recurrence(path="cell", cell="RNN", lags=lags, precision=1e-2)
    assert (found.memory, found.lost) == (2, 2)
    assert Recurrence(path="cell", cell="RNN", lags=lags[:1]).memory is None


def test_time_within_a_fused_kernel_is_not_judged_as_depth() -> None:
    class Middle(Last):
        def __init__(self) -> None:
            super().__init__(nn.LSTM(8, 16, batch_first=True))
            self.embed = nn.Linear(8, 8)

        def forward(self, x: Tensor, *state: Any) -> Tensor:
            return super().forward(self.embed(x), *state)

    checkup = check_up(Middle(), (torch.randn(8, 6, 8), torch.arange(8) % 4))
    assert checkup.ledger is not None
    (row,) = [s for s in checkup.ledger.stretches if s.unknown]
    assert row.uses == 6
    assert any("MkldnnRnn" in u.why for u in checkup.unseen)
    assert max(map(len, checkup_text(checkup).splitlines())) <= 80
