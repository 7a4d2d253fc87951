"""Small networks with dead units, for the cases of treatments of units."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from defib.therapy.train_state import TrainState


def half_dead(lr: float = 1e-3) -> TrainState:
    """A classifier under Adam; units 1 and 4 of its first layer are off for every input from -1 to 1."""
    first = nn.Linear(4, 6)
    with torch.no_grad():
        first.bias[[1, 4]] = -20.0
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    return _trained(model, optimizer, 4)


def weight(state: TrainState, path: str) -> Tensor:
    """A layer's weight."""
    return dict(state.bare.named_parameters())[f"{path}.weight"].detach()


def bias(state: TrainState, path: str) -> Tensor:
    """A layer's bias."""
    return dict(state.bare.named_parameters())[f"{path}.bias"].detach()


def the_input() -> tuple[Tensor, ...]:
    """What the classifier is called with: from -1 to 1."""
    return (torch.linspace(-1, 1, 32).reshape(8, 4),)


def cloned() -> TrainState:
    """A classifier whose units 0 and 3 compute the same, and unit 5 the same twofold."""
    first = nn.Linear(4, 6)
    with torch.no_grad():
        for parameter in (first.weight, first.bias):
            parameter[3] = parameter[0]
            parameter[5] = 2 * parameter[0]
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(6, 2))
    return TrainState(model=model, optimizers=(torch.optim.SGD(model.parameters(), lr=0.1),))


def image_net() -> TrainState:
    """A convolution with batch normalisation before its ReLU; its channel 2 is off. Read by a flat layer."""
    norm = nn.BatchNorm2d(4)
    with torch.no_grad():
        norm.bias[2] = -20.0
    parts = OrderedDict(
        conv=nn.Conv2d(2, 4, 3, padding=1),
        norm=norm,
        relu=nn.ReLU(),
        flat=nn.Flatten(),
        head=nn.Linear(64, 2),
    )
    model = nn.Sequential(parts)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model(torch.randn(8, 2, 4, 4)).square().mean().backward()
    optimizer.step()
    model.eval()
    return TrainState(model=model, optimizers=(optimizer,))


class Skip(nn.Module):
    """Two layers around which the signal also goes by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        out: Tensor = self.head(h + torch.relu(self.b(h)))
        return out


def skipping() -> TrainState:
    """The network with the skip, trained a little."""
    model = Skip()
    return _trained(model, torch.optim.Adam(model.parameters()), 4)


def normed_behind() -> TrainState:
    """A normalisation behind the activation."""
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 2))
    return _trained(model, torch.optim.Adam(model.parameters()), 4)


def plain_sgd() -> TrainState:
    """A layer under gradient descent that keeps nothing."""
    model = nn.Linear(4, 2)
    return _trained(model, torch.optim.SGD(model.parameters(), lr=0.1), 4)


def remembered() -> TrainState:
    """The classifier, with a snapshot of step 3, three steps later."""
    state = half_dead()
    state.snapshot = state.photograph(3)
    _trained(state.model, state.optimizers[0], 4)
    return state


def remembered_early() -> TrainState:
    """The same with a snapshot of before the first step."""
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    snapshot = TrainState(model=model, optimizers=(optimizer,)).photograph(0)
    state = _trained(model, optimizer, 4)
    state.snapshot = snapshot
    return state


def as_kept(state: TrainState, name: str, row: int | None = None) -> bool:
    """Whether a parameter, or one row of it, is what the snapshot has."""
    if state.snapshot is None:
        return False
    now, kept = dict(state.bare.named_parameters())[name].detach(), state.snapshot.tensors[name]
    return bool((now == kept).all() if row is None else (now[row] == kept[row]).all())


def _trained(model: nn.Module, optimizer: torch.optim.Optimizer, features: int, steps: int = 3) -> TrainState:
    """A few steps on noise from -1 to 1."""
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.rand(16, features) * 2 - 1).square().mean().backward()
        optimizer.step()
    return TrainState(model=model, optimizers=(optimizer,))
