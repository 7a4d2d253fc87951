"""The ledger of really recorded runs telescopes, is what autograd says, and names what it cannot part."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import defib
from defib.core.cause import Cause
from defib.core.evidence import Evidence
from defib.core.run import RunView
from defib.core.site import Signal
from defib.core.wiring import Crossing
from defib.diagnosis.cases import Plan, run_of
from defib.diagnosis.measures.ledger import COLUMNS, Ledger, backward_ledger, blind_spots, main_path
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.rules.vanishing_gradient import VanishingGradient

BATCH, STEPS = 16, 4


class Watched(nn.Module):
    """A net that keeps the first pre-activation and the last activation of each pass, for comparison."""

    first: Tensor
    last: Tensor

    def ends(self, first: Tensor, last: Tensor) -> None:
        if torch.is_grad_enabled():
            self.first, self.last = first, last
            first.retain_grad()
            last.retain_grad()


class Plain(Watched):
    def __init__(self, norm: Callable[[int], nn.Module] | None = None, depth: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8 if not i else 16 + i, 17 + i) for i in range(depth))
        self.norms = nn.ModuleList(norm(17 + i) if norm else nn.Identity() for i in range(depth))
        self.head = nn.Linear(16 + depth, 3)

    def forward(self, x: Tensor) -> Tensor:
        seen = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            z = norm(layer(x))
            x = torch.tanh(z)
            seen.append((z, x))
        self.ends(seen[0][0], seen[-1][1])
        return self.head(x)


class Residual(Watched):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, 16), nn.Linear(16, 3)
        self.inner = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.outer = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        z = self.stem(x)
        first, h = z, torch.tanh(z)
        for inner, outer in zip(self.inner, self.outer, strict=True):
            h = torch.tanh(h + outer(torch.tanh(inner(h))))
        self.ends(first, h)
        return self.head(h)


class Convolutional(Watched):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, bias=False), nn.Conv2d(4, 6, 3, stride=2)
        self.norm, self.full, self.head = nn.BatchNorm2d(4), nn.Linear(24, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm(self.a(x.view(-1, 1, 8, 8)))
        h = F.gelu(self.b(F.max_pool2d(torch.tanh(z), 2, stride=1)))
        last = torch.tanh(self.full(h.flatten(1)))
        self.ends(z, last)
        return self.head(last)


class Folded(Watched):
    """Positions become samples between two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(2, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.a(x.view(-1, 4, 2))
        h = torch.tanh(self.b(torch.tanh(z).reshape(-1, 6)))
        self.ends(z, h)
        return self.head(h).view(-1, 4, 3).mean(1)


class Transformer(Watched):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(2, 16), nn.Linear(16, 3)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(3)
        )
        self.kept: list[tuple[Tensor, Tensor]] = []
        for block in self.blocks:
            block.activation = self.kept_gelu

    def kept_gelu(self, z: Tensor) -> Tensor:
        h = F.gelu(z)
        self.kept.append((z, h))
        return h

    def forward(self, x: Tensor) -> Tensor:
        self.kept.clear()
        h = self.embed(x.view(-1, 4, 2))
        for block in self.blocks:
            h = block(h)
        self.ends(self.kept[0][0], self.kept[-1][1])
        return self.head(h.mean(1))


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.into, self.cell = nn.Linear(2, 5), cell(5, 12, batch_first=True)
        self.hidden, self.head = nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.hidden(self.cell(self.into(x.view(len(x), -1, 2)))[0][:, -1])))


def recorded(path: Path, model: nn.Module, features: int = 8, steps: int = STEPS) -> tuple[RunView, float]:
    """The record of a short training, and decades of the first step as autograd itself has them."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    truth = math.nan
    with defib.watch(model, optimizer, output=path, every=1) as run:
        for step in range(steps):
            x, y = torch.randn(BATCH, features), torch.arange(BATCH) % 3
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            if not step and isinstance(model, Watched):
                assert model.first.grad is not None
                assert model.last.grad is not None
                truth = math.log10(float(model.first.grad.norm() / model.last.grad.norm()))
            optimizer.step()
    assert run.faults == 0
    return defib.open_run(path).view, truth


def account(run: RunView) -> Ledger:
    ledger = backward_ledger(run, main_path(run, Wires(run)))
    assert ledger is not None
    return ledger


FAMILIES: dict[str, tuple[Callable[[], nn.Module], int, int, set[str]]] = {
    "plain": (Plain, 8, 4, {"weights"}),
    "batch norm": (lambda: Plain(nn.BatchNorm1d), 8, 4, {"norms"}),
    "layer norm": (lambda: Plain(nn.LayerNorm), 8, 4, {"norms"}),
    "residual": (Residual, 8, 7, {"skips", "weights"}),
    "convolutional": (Convolutional, 64, 3, {"weights"}),
    "folded positions": (Folded, 8, 2, {"weights"}),
    "transformer": (Transformer, 8, 3, {"unattributed"}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_account_of_a_recorded_run_is_what_autograd_measured(tmp_path: Path, family: str) -> None:
    build, features, depth, columns = FAMILIES[family]
    torch.manual_seed(0)
    run, truth = recorded(tmp_path / "run.rec", build(), features, steps=1)
    ledger = account(run)
    assert len(ledger.path) == depth
    # 1 % of the ratio of norms is 0.0043 decades.
    assert ledger.total[0] == pytest.approx(truth, abs=0.0043)
    assert ledger.activations + ledger.weights == pytest.approx(ledger.total, abs=1e-12)
    assert sum(ledger.column(c) for c in COLUMNS) == pytest.approx(ledger.weights, abs=1e-12)
    assert {link.column for link in ledger.links} == columns


def test_windows_of_several_steps_telescope_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run, _ = recorded(tmp_path / "run.rec", Residual(), steps=40)
    ledger = account(run)
    above = run.at(ledger.path[-1].site, Signal.ACTIVATION_GRAD)
    below = run.at(ledger.path[0].site, Signal.PREACTIVATION_GRAD)
    assert any(r.last > r.first for r in above)
    truth = [math.log10(b.tally.norm / a.tally.norm) for a, b in zip(above, below, strict=True)]
    assert ledger.total == pytest.approx(np.array(truth), abs=1e-9)


def test_attention_between_two_activations_is_named_where_it_stands(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ledger = account(recorded(tmp_path / "run.rec", Transformer())[0])
    assert {link.why for link in ledger.links} == {"attention"}
    (told,) = [e for e in ledger.evidence() if "not attributed" in e.name]
    assert "attention before blocks.1.linear1" in told.name
    assert told.value == pytest.approx(float(np.median(ledger.weights)))


def test_steps_of_a_recurrence_are_told_from_layers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ledger = account(recorded(tmp_path / "run.rec", Recurrent(nn.RNN))[0])
    uses = {e.name: e.value for e in ledger.evidence()}
    assert uses["of the activations, further uses of the same layer"] == 3
    gates = account(recorded(tmp_path / "gru.rec", Recurrent(nn.GRU))[0])
    assert any(link.why == "product" for link in gates.links)


def shrinking(path: Path, model: nn.Module) -> RunView:
    """A run whose weights' gradients differ by five decades from the first layer to the last."""
    with torch.no_grad():
        model.hidden.weight.mul_(1e-6)
    run, _ = recorded(path, model)
    assert run.norms is not None
    return run


def test_a_fused_recurrence_leaves_no_account_and_is_named_in_the_finding(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = shrinking(tmp_path / "run.rec", Recurrent(nn.LSTM))
    assert backward_ledger(run, main_path(run, Wires(run))) is None
    (spot,) = blind_spots(run)
    assert spot.name == "not attributed: cell"
    (finding,) = VanishingGradient().check(run)
    assert spot in finding.evidence
    diagnosis = defib.diagnose(run)
    assert "cell" in {u.what for u in diagnosis.coverage.not_observed}


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # dynamo itself looks at it
def test_a_compiled_region_is_named_in_the_coverage(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Plain()
    model.layers[1] = torch.compile(model.layers[1], backend="aot_eager")  # type: ignore[assignment, call-overload]
    run, _ = recorded(tmp_path / "run.rec", model)
    ledger = account(run)
    assert any(link.why == "compiled region" for link in ledger.links)
    assert any("compile" in str(e.value) for e in blind_spots(run))


def test_a_loss_that_cannot_be_parted_is_not_blamed_on_the_weights() -> None:
    plans = [Plan(path=f"fc{i}", gradient=(10.0 ** (2 * i), 10.0 ** (2 * i))) for i in range(4)]
    run = run_of(*plans)
    assert account(run).blamed(-1) is Cause.WEIGHTS
    dark = replace(run, wirings=tuple(replace(w, crosses=(Crossing.ATTENTION,)) for w in run.wirings))
    assert account(dark).blamed(-1) is Cause.DERIVATIVE_AND_WEIGHTS
    (finding,) = VanishingGradient().check(dark)
    told = [e for e in finding.evidence if "attention before fc1, fc2, fc3" in e.name]
    assert told == [Evidence(name=told[0].name, value=pytest.approx(-6.0), unit="decades")]


def test_the_columns_of_a_record_of_before_are_those_that_it_can_tell() -> None:
    run = run_of(*(Plan(path=f"fc{i}") for i in range(3)))
    normal = replace(run, wirings=tuple(replace(w, normalised=True) for w in run.wirings))
    assert [link.column for link in account(normal).links] == ["norms", "norms"]
    assert [a.site for a, _ in itertools.pairwise(account(run).path)] == [w.site for w in run.wirings[:2]]
