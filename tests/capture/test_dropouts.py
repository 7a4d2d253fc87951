"""Dropout is told by its share and the layer in front of it, however it is written; other masks are not."""

import pytest
import torch
import torch.nn.functional as F
from memory import Memory
from small import watched
from torch import Tensor, nn

from defib.capture.dropped import dropped

X = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two layers with something in between."""

    def __init__(self, between) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.between = nn.Linear(32, 64), nn.Linear(64, 2), between

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.between(torch.relu(self.one(x))))


def told(between, sink: Memory, steps: int = 1) -> list[tuple[str, float]]:
    """Layer and share of every dropout that a training with this in between tells of."""
    model = Net(between)
    session = watched(model, sink)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        F.cross_entropy(model(X), torch.arange(64) % 2).backward()
        optimizer.step()
        optimizer.zero_grad()
    session.close()
    assert session.faults == 0, sink.events
    return [(e[2]["layer"], e[2]["share"]) for e in sink.events if e[1] == "dropout"]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    "write",
    [
        nn.Dropout,
        lambda p: lambda h: F.dropout(h + 0, p, inplace=True),
        lambda p: lambda h: F.dropout(h, p),
        lambda p: lambda h: torch.native_dropout(h, p, True)[0],
        lambda p: lambda h: F.dropout2d(h[:, :, None, None], p).flatten(1),
    ],
    ids=["module", "in place", "function", "fused", "channels"],
)
def test_a_dropout_is_told_with_its_share_and_the_layer_in_front_of_it(write, share, sink):
    assert told(write(share), sink, steps=3) == [("one", pytest.approx(share, abs=1e-4))]


@pytest.mark.parametrize(
    "between",
    [
        nn.Identity(),
        nn.Dropout(0.9).eval(),
        lambda h: h * (h.detach() > 0),
        lambda h: h * (torch.rand_like(h) > 0.9),
        lambda h: h * (torch.rand_like(h) > 0.5).float() * 10,
        lambda h: h * (2.0 * (torch.arange(64) < 3)),
        lambda h: h * torch.rand_like(h),
        lambda h: h * torch.full((64,), 3.0),
    ],
    ids=["nothing", "evaluation", "gate", "mask", "mask then scale", "few of a mask", "noise", "scale"],
)
def test_other_factors_are_no_dropout(between, sink):
    assert told(between, sink) == []


def test_a_mask_in_the_data_with_an_inverse_share_is_needed_exactly():
    h = torch.randn(64, 64, requires_grad=True)
    mask = (torch.rand(64, 64, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    assert dropped((h * mask * 1.0).grad_fn.next_functions[0][0]) == 0
    assert dropped((h * (2 * mask)).grad_fn) == pytest.approx(0.5)
    assert dropped((h * (5 * mask)).grad_fn) == 0
