"""The four networks that are trained under watch; each is one training step, ready to be called."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

Step = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A network with its data and its optimiser.

    Attributes:
        name: Short name.
        what: What is trained, in one line.
        model: The network.
        optimizer: Its optimiser.
        step: One training step: forward, backward, optimiser.
        block: Steps in one uninterrupted block of the interleaved comparison.
        rounds: Rounds of that comparison.
        seconds: Seconds of the uninterrupted watched run.
    """

    name: str
    what: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: Step
    block: int
    rounds: int
    seconds: float


def mlp(sizes: list[int]) -> nn.Sequential:
    """Linear and ReLU by turns, no ReLU at the end."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Residual(nn.Module):
    """Two 3x3 convolutions with batch norm, functional ReLUs and a skip."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.skip: nn.Module = nn.Identity()
        if not same:
            self.skip = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.skip(x))


def resnet(width: int = 32) -> nn.Sequential:
    """ResNet-18 with a 3x3 stem, as it is used on 32x32 images."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    channels = width
    for stage in range(4):
        outputs = width * 2**stage
        layers += [Residual(channels, outputs, 1 if stage == 0 else 2), Residual(outputs, outputs, 1)]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


class Block(nn.Module):
    """A pre-norm transformer block with causal attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.ln1(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh"))


class Gpt(nn.Module):
    """A small GPT-2: token and position embeddings, blocks, a tied head."""

    def __init__(self, vocabulary: int, width: int, layers: int, length: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*[Block(width, 4) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.token.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.token(tokens) + self.position)
        return F.linear(self.norm(x), self.token.weight)


def _classifier(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, classes: int, count: int
) -> Step:
    """A step on new labels each time: a batch known by heart has denormal gradients, which are slow."""

    def step() -> None:
        optimizer.zero_grad()
        labels = torch.randint(classes, (count,))
        F.cross_entropy(model(x).flatten(0, -2), labels).backward()
        optimizer.step()

    return step


def tiny() -> Workload:
    model = mlp([2, 16, 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(32, 2)
    targets = itertools.cycle(torch.randn(64, 32, 1))

    def step() -> None:
        optimizer.zero_grad()
        F.mse_loss(model(x), next(targets)).backward()
        optimizer.step()

    what = "MLP 2-16-1, ReLU, batch 32, SGD"
    return Workload(name="tiny", what=what, model=model, optimizer=optimizer, step=step,
                    block=400, rounds=40, seconds=8.0)  # fmt: skip


def wide() -> Workload:
    model = mlp([784, 512, 512, 512, 512, 10])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    step = _classifier(model, optimizer, torch.randn(128, 784), 10, 128)
    what = "MLP 784-512x4-10, ReLU, batch 128, Adam"
    return Workload(name="mlp", what=what, model=model, optimizer=optimizer, step=step,
                    block=10, rounds=24, seconds=12.0)  # fmt: skip


def cnn() -> Workload:
    model = resnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    step = _classifier(model, optimizer, torch.randn(32, 3, 32, 32), 10, 32)
    what = "ResNet-18, width 32, 32x32 images, batch 32, SGD with momentum"
    return Workload(name="cnn", what=what, model=model, optimizer=optimizer, step=step,
                    block=1, rounds=12, seconds=22.0)  # fmt: skip


def gpt() -> Workload:
    model = Gpt(vocabulary=4096, width=256, layers=6, length=128)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    tokens = torch.randint(4096, (8, 128))
    step = _classifier(model, optimizer, tokens, 4096, tokens.numel())
    what = "GPT-2-like, 6 layers, d 256, sequence 128, batch 8, GELU, vocabulary 4096, AdamW"
    return Workload(name="gpt", what=what, model=model, optimizer=optimizer, step=step,
                    block=1, rounds=12, seconds=22.0)  # fmt: skip


WORKLOADS = {"tiny": tiny, "mlp": wide, "cnn": cnn, "gpt": gpt}
