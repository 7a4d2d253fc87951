"""Models of unusual kinds are checked like any other."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from defib.core.cause import Cause
from defib.core.diagnosis import Verdict
from defib.core.finding import Severity
from defib.probe.checkup import check_up
from defib.report.checkup import checkup_text

Y = torch.arange(16) % 4


def x() -> Tensor:
    return torch.randn(16, 8)


class Spectrum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.fft.fft(self.a(x)).abs())


class Autocast(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x).float()


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        again = torch.utils.checkpoint.checkpoint(
            lambda h: torch.relu(self.b(h)), self.a(x), use_reentrant=False
        )
        return self.c(again)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(2, 8), nn.Linear(8, 4)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x.view(-1, 4, 2))).mean(1))


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def words() -> Tensor:
    return torch.randint(10, (16, 4))


def tokens(first: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(first, nn.Flatten(), nn.Linear(width, 4))


def weight_normed() -> nn.Sequential:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 16)), nn.Tanh(), nn.Linear(16, 4))


def transposed() -> nn.Sequential:
    up = nn.ConvTranspose1d(1, 4, 3)
    return nn.Sequential(nn.Unflatten(1, (1, 8)), up, nn.ReLU(), nn.Flatten(), nn.Linear(40, 4))


KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "sparse gradients": (lambda: tokens(nn.Embedding(10, 8, sparse=True), 32), words),
    "bag": (lambda: tokens(nn.EmbeddingBag(10, 8), 8), words),
    "bfloat16": (lambda: mlp().bfloat16(), lambda: x().bfloat16()),
    "autocast": (lambda: Autocast(*mlp()), x),
    "complex": (Spectrum, x),
    "checkpoint": (Checkpointed, x),
    "attention": (Attention, x),
    "compiled": (lambda: torch.compile(mlp(), backend="eager"), x),  # type: ignore[arg-type, return-value]
    "weight norm": (weight_normed, x),
    "transposed": (transposed, x),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_unusual_kind_is_followed_to_its_first_layer_without_alarm(kind: str) -> None:
    model, data = KINDS[kind]
    checkup = check_up(model(), (data(), Y))
    assert checkup.verdict is Verdict.HEALTHY
    assert checkup.ledger is not None
    assert checkup.ledger.start_layer != checkup.ledger.end_layer
    assert checkup.ledger.gain.total == pytest.approx(
        math.log10(checkup.ledger.end / checkup.ledger.start), abs=1e-9
    )
    assert not [u for u in checkup.unseen if u.why == "not called"]
    assert max(map(len, checkup_text(checkup).splitlines())) <= 80


def test_data_that_is_no_number_is_blamed_before_the_loss() -> None:
    (finding,) = check_up(mlp(), (x() * float("nan"), Y)).findings
    assert finding.cause is Cause.NON_FINITE_DATA
    assert check_up(mlp(), (x(), Y), lambda o, _y: (o / 0).mean()).findings[0].cause is Cause.NON_FINITE_LOSS


def test_a_single_sample_proves_no_death() -> None:
    model = mlp()
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([-100.0] * 15 + [100.0]))
    one, many = (check_up(model, (x()[:n], Y[:n])).findings for n in (1, 16))
    assert [f.severity for f in one] == [Severity.INFO]
    assert [f.severity for f in many] == [Severity.WARNING]


def test_a_dictionary_is_given_by_name_and_the_models_own_loss_is_used() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, values: Tensor, labels: Tensor) -> Any:
            loss = (
                nn.functional.cross_entropy(self.net(values), labels) * 0 + self.net(values).square().mean()
            )
            return type("Output", (), {"loss": loss})()

    model, values = Own(), x()
    with torch.no_grad():
        wanted = float(model.net(values).square().mean())
    assert check_up(model, {"values": values, "labels": Y}).loss == pytest.approx(wanted, rel=1e-6)
