"""Real layers that do not use all they have: information, and never an alarm."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import defib
from defib.core.activation_index import activations
from defib.core.cause import Cause
from defib.core.finding import Finding, Severity
from defib.core.site import Site
from defib.core.wiring import Wiring
from defib.diagnosis.rules.linear_unit import _straight


@pytest.fixture(autouse=True)
def one_thread_and_one_seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def found(
    model: nn.Module, folder: Path, rule: str, shape: tuple[int, ...] = (8,), blank: int = 0, lr: float = 0.1
) -> list[Finding]:
    """What one rule says of a training that learns; no rule may give an alarm."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with defib.watch(model, optimizer, output=folder / "r.rec", every=2) as run:
        for _ in range(150):
            x = torch.randn(64, *shape)
            if blank:
                x[:, :blank] = 0.0
            optimizer.zero_grad()
            F.cross_entropy(model(x), (x.flatten(1)[:, -1] > 0).long()).backward()
            optimizer.step()
    assert run.faults == 0
    findings = run.diagnose().findings
    assert [f for f in findings if f.severity is not Severity.INFO] == []
    return [f for f in findings if f.rule == rule]


def mlp(activation: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), activation or nn.ReLU(), nn.Linear(16, 2))


def shift(model: nn.Sequential, units: slice, by: float) -> nn.Sequential:
    with torch.no_grad():
        model[0].bias[units] += by
    return model


def test_leaky_units_pushed_under_water_are_linear(tmp_path: Path) -> None:
    (finding,) = found(shift(mlp(nn.LeakyReLU()), slice(5), -20.0), tmp_path, "linear-unit")
    assert (finding.cause, finding.units) == (Cause.ALWAYS_OFF, (0, 1, 2, 3, 4))


def test_units_lifted_out_of_the_water_are_linear(tmp_path: Path) -> None:
    (finding,) = found(shift(mlp(), slice(4), 8.0), tmp_path, "linear-unit", lr=0.01)
    assert (finding.cause, finding.units) == (Cause.ALWAYS_ON, (0, 1, 2, 3))


def test_an_ordinary_layer_is_not_linear(tmp_path: Path) -> None:
    assert found(mlp(), tmp_path, "linear-unit") == []


def test_units_that_whisper_are_dormant(tmp_path: Path) -> None:
    model = mlp()
    with torch.no_grad():
        model[0].weight[:3] *= 1e-3
        model[0].bias[:3] *= 1e-3
        model[2].weight[:, :3] = 0.0
    (finding,) = found(model, tmp_path, "dormant-unit")
    assert finding.units == (0, 1, 2)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_copied_units_are_clones_whatever_their_scale(scale: float, tmp_path: Path) -> None:
    """Scaled by a in and 1/a out a copy gets gradients in proportion; steps would part the two."""
    model = mlp()
    with torch.no_grad():
        for one, other in ((0, 7), (3, 9)):
            model[0].weight[other] = model[0].weight[one] * scale
            model[0].bias[other] = model[0].bias[one] * scale
            model[2].weight[:, other] = model[2].weight[:, one] / scale
    if scale == 1.0:
        (finding,) = found(model, tmp_path, "cloned-unit")
        assert finding.units == (0, 3, 7, 9)
        assert {e.name: e.value for e in finding.evidence}["different units"] == 14
        return
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    with defib.watch(model, frozen, output=tmp_path / "r.rec", every=1) as run:
        for _ in range(5):
            F.cross_entropy(model(torch.randn(64, 8)), torch.randint(2, (64,))).backward()
            frozen.step()
    (finding,) = [f for f in run.diagnose().findings if f.rule == "cloned-unit"]
    assert finding.units == (0, 3, 7, 9)


def test_an_ordinary_layer_has_no_clones(tmp_path: Path) -> None:
    assert found(mlp(), tmp_path, "cloned-unit") == []


def test_blank_features_are_counted(tmp_path: Path) -> None:
    (finding,) = found(mlp(), tmp_path, "dead-features", blank=2)
    assert {e.name: e.value for e in finding.evidence}["constant features, least share in a batch"] == 0.25


class Normed(nn.Module):
    """A convolution with a bias in front of batch norm."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv1d(1, 6, 3, bias=bias), nn.BatchNorm1d(6)
        self.head = nn.Linear(36, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.bn(self.conv(x))).flatten(1))


def test_a_bias_before_batch_norm_is_structurally_null(tmp_path: Path) -> None:
    (finding,) = found(Normed(bias=True), tmp_path, "null-parameter", (1, 8))
    assert (finding.cause, finding.layer) == (Cause.NULL_BEFORE_NORM, "conv")


def test_without_a_bias_there_is_none(tmp_path: Path) -> None:
    assert found(Normed(bias=False), tmp_path, "null-parameter", (1, 8)) == []


def test_in_evaluation_mode_the_bias_counts(tmp_path: Path) -> None:
    model = Normed(bias=True)
    model.bn.eval()
    assert found(model, tmp_path, "null-parameter", (1, 8)) == []


def test_every_known_activation_can_be_asked_for_its_straight_sides() -> None:
    """Some of them overflow far from zero: no warning may come of it."""
    straight = {
        a.name: _straight(Wiring(site=Site(path="fc"), activation=a.name, operation="", units=1, order=0))
        for a in activations()
    }
    both = {name for name, sides in straight.items() if sides == (True, True)}
    assert {"leaky_relu", "prelu", "rrelu"} <= both
    assert straight["relu"] == straight["elu"] == straight["selu"] == (True, False)
    assert straight["hardtanh"] == straight["tanh"] == straight["gelu"] == straight["exp"] == (False, False)
