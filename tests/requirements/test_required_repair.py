"""Requirements R29 and R30: repairs by the traced graph, and moments of recycled slices only."""

import copy
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import defib
from defib.core.errors import Refused


class Grouped(nn.Module):
    """Convolutions, a normalisation of channels, groups, and a head behind a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)  # listed first: the order of layers says nothing
        self.a, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.b = nn.Conv2d(4, 8, 3, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.norm(self.a(x)))
        return self.head(F.adaptive_avg_pool2d(F.relu(self.b(h)), 1).flatten(1))


class Skipping(nn.Module):
    """A residual layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.a(x))
        return self.head(h + torch.relu(self.b(h)))


def trained(model: nn.Module, shape: tuple[int, ...]) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(20):
        step(model, optimizer, shape)
    return optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer, shape: tuple[int, ...]) -> None:
    optimizer.zero_grad()
    (model(torch.randn(8, *shape)) - 1).square().mean().backward()
    optimizer.step()


def test_r29_a_recycled_unit_is_forgotten_by_those_that_really_read_it(tmp_path: Path) -> None:
    model = Grouped()
    with torch.no_grad():
        model.norm.bias[3] = -20.0
    optimizer = trained(model, (1, 8, 8))
    with defib.watch(model, optimizer, output=tmp_path / "r.rec", every=1) as run:
        step(model, optimizer, (1, 8, 8))
        model.eval()
        x = torch.randn(4, 1, 8, 8)
        before, head = model(x).detach(), model.head.weight.detach().clone()
        run.treat("recycle-dead-units", layer="a", units=(3,))
        assert torch.equal(model(x).detach(), before)
        assert torch.equal(model.head.weight, head)
        assert not model.b.weight[4:, 1].any()  # channel 3 is the second of the second group
        assert model.b.weight[:4].any(dim=(1, 2, 3)).all()
        assert run.faults == 0


def test_r29_a_unit_that_a_skip_connection_carries_on_is_refused(tmp_path: Path) -> None:
    model = Skipping()
    optimizer = trained(model, (4,))
    before = copy.deepcopy(model.state_dict())
    with defib.watch(model, optimizer, output=tmp_path / "r.rec", every=1) as run:
        with pytest.raises(Refused, match="meet others in add"):
            run.treat("recycle-dead-units", layer="a", units=(1,))
        assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


def test_r30_other_units_keep_their_moments_and_the_loss_does_not_jump(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 8)
    y = x[:, :1] * x[:, 1:2]
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))
    with torch.no_grad():
        model[0].bias[:8] = -50.0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []

    def one() -> None:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    with defib.watch(model, optimizer, output=tmp_path / "r.rec", every=5) as run:
        for _ in range(300):
            one()
        kept = copy.deepcopy(optimizer.state[model[0].weight]["exp_avg"][8:])
        run.treat("recycle-dead-units", layer="0", units=tuple(range(8)))
        assert torch.equal(optimizer.state[model[0].weight]["exp_avg"][8:], kept)
        for _ in range(100):
            one()
    usual = max(b - a for a, b in itertools.pairwise(losses))
    after = max(b - a for a, b in itertools.pairwise(losses))
    assert after <= max(usual, 1e-4)
    assert (model[0](x)[:, :8] > 0).any(0).all()
