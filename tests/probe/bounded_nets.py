"""Networks with every operation that has bounds, and attacks that try to leave those bounds."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from defib.core.domain import Domain
from defib.probe.certificates.bounds import Bounds, bounded
from defib.probe.certificates.regions import Region, region_of
from defib.probe.certificates.samples import Sender
from defib.probe.certificates.tracing import Inputs, Traced, traced


class Residual(nn.Module):
    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Functional(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Gated(nn.Module):
    """Two branches that are multiplied, divided, chosen between and concatenated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(width, 4), nn.Linear(width, 4), nn.Linear(20, width)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        parts = (a * torch.sigmoid(b), a / (1 + b * b), torch.where(a > b, a, 2 - b), torch.maximum(a, b),
                 (a**2 + b**2 + 0.1).sqrt())  # fmt: skip
        return self.c(torch.cat(parts, dim=-1)) - 0.5 * x


class Attention(nn.Module):
    """Attention spelt out: softmax weights times values, and a product of two matrices."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.unflatten(-1, (2, -1)).repeat(1, 1, 2)).chunk(3, dim=-1)
        mixed = torch.softmax(q @ k.transpose(-1, -2), dim=-1) @ v
        return self.out(mixed).mean(1)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "leaky": F.leaky_relu,
    "steep leaky": lambda x: F.leaky_relu(x, 1.7),
    "negative leaky": lambda x: F.leaky_relu(x, -0.3),
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.75),
    "clamp": lambda x: x.clamp(min=0),
    "clamp both": lambda x: x.clamp(-1, 0.3),
    "abs": torch.abs,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "elu": lambda x: F.elu(x, 1.3),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.7),
    "softplus": lambda x: F.softplus(x, 2.0, 5.0),
    "logsigmoid": F.logsigmoid,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "softshrink": F.softshrink,
    "hardshrink": F.hardshrink,
    "threshold": lambda x: F.threshold(x, 0.2, 0.0),
    "exp": lambda x: torch.exp(x.clamp(max=3.0)),
}

VECTORS: dict[str, Callable[[int], nn.Module]] = {
    "linear": lambda n: nn.Linear(n, n),
    "no bias": lambda n: nn.Linear(n, n, bias=False),
    "layer norm": nn.LayerNorm,
    "rms norm": nn.RMSNorm,
    "batch norm": nn.BatchNorm1d,
    "residual": lambda n: Residual(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n)),
    "gated": Gated,
    "attention": Attention,
    "softmax": lambda _: nn.Softmax(-1),
    "dropout": lambda _: nn.Dropout(0.5),
    "scaled": lambda _: Functional(lambda x: 3 - 2 * x / 0.7),
    "cumulated": lambda _: Functional(lambda x: x.flip(-1).cumsum(-1) / x.shape[-1]),
    "conv1d": lambda _: Functional(lambda x: F.avg_pool1d(x.unsqueeze(1), 3, 1, 1).squeeze(1)),
}

PLANES: dict[str, Callable[[int], nn.Module]] = {
    "conv": lambda c: nn.Conv2d(c, c, 3, padding=1),
    "strided": lambda c: nn.Conv2d(c, c, 3, stride=1, padding=2, dilation=2, groups=c),
    "up and down": lambda c: nn.Sequential(nn.ConvTranspose2d(c, c, 2, stride=2), nn.AvgPool2d(2)),
    "max pool": lambda _: nn.MaxPool2d(3, 1, 1),
    "average pool": lambda _: nn.AvgPool2d(3, 1, 1),
    "batch norm": nn.BatchNorm2d,
    "group norm": lambda c: nn.GroupNorm(2, c),
    "instance norm": lambda c: nn.InstanceNorm2d(c, affine=True),
    "residual": lambda c: Residual(nn.Conv2d(c, c, 3, padding=1), nn.ReLU()),
    "upsampled": lambda _: Functional(lambda x: F.interpolate(x, scale_factor=2)[..., ::2, ::2]),
    "padded": lambda _: Functional(lambda x: F.pad(x, (1, 1, 1, 1), value=0.3)[..., 1:-1, 1:-1]),
}


def shaken(model: nn.Module, seed: int) -> nn.Module:
    """Random parameters and running statistics of ordinary size, so that nothing cancels by chance."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            scale = 1.5 / max(1.0, p[0].numel() ** 0.5) if p.dim() > 1 else 0.7
            p.copy_(torch.randn(p.shape, generator=noise) * scale)
        for m in model.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_var is not None:
                m.running_mean.copy_(torch.randn(m.running_mean.shape, generator=noise))
                m.running_var.copy_(torch.rand(m.running_var.shape, generator=noise) + 0.1)
    return model.eval()


class Attack:
    """One model with its bounds on a domain; samples are sent through it to break them."""

    def __init__(self, model: nn.Module, sample: Tensor, domain: Domain, batch: int = 64) -> None:
        self.model, self.sample, self.batch = model, sample, batch
        self.dtype = sample.dtype if sample.is_floating_point() else torch.float32
        many = sample[:1].expand(batch, *sample.shape[1:])
        self.inputs = Inputs.of((many,), {})
        self.one: Traced = traced(model, self.inputs, (sample[:1],))
        self.region: Region = region_of(domain, sample[:1])
        node = next(n for n in self.one.inputs if n is not None)
        self.bounds: Bounds = bounded(self.one, {node: self.region}, self.dtype, time.perf_counter() + 1e9)
        self.sender = Sender(traced(model, self.inputs, (many,)), batch, self.dtype)

    def escapes(self, samples: Tensor, exact: bool = False) -> list[str]:
        """Nodes of which some number left its bounds, with the worst excess."""
        sent = self.sender.send([samples])
        nodes = [n for n in self.bounds.steps if n in self._activations()]
        arguments = [self.bounds.steps[n].parents[0] for n in nodes]
        found = []
        pairs = [
            *zip(arguments, sent.arguments, strict=True),
            *zip(self.one.outputs, sent.outputs, strict=True),
        ]
        for node, value in pairs:
            known = self.bounds.known[node]
            low, high = self.bounds.exact[node] if exact and node in arguments else (known.low, known.high)
            shape = (self.batch, *known.low.shape[1:]) if known.low.dim() else (self.batch,)
            z = value.double().reshape(shape)
            # 0 / 0 is no number; it must not come from where both ends are finite.
            promised = torch.isfinite(low) & torch.isfinite(high)
            away = torch.where((z >= low) & (z <= high), -1.0, torch.maximum(z - high, low - z))
            over = torch.where(torch.isnan(z) & ~promised, -1.0, away).amax()
            if not over <= 0:
                found.append(f"{node.name} by {float(over):.3g}")
        return found

    def _activations(self) -> set[object]:
        from defib.probe.certificates.bends import Activated

        return {n for n, s in self.bounds.steps.items() if isinstance(s, Activated)}

    def inside(self, seed: int) -> Tensor:
        """Random samples of the domain: the middle, corners and edges of its box, moved into it."""
        noise = torch.Generator().manual_seed(seed)
        low, high = self.region.ends()
        shape = (self.batch, *low.shape[1:])
        share = torch.rand(shape, generator=noise, dtype=torch.float64)
        corners = (torch.rand(shape, generator=noise) < 0.5).double()
        kind = torch.rand((self.batch, *[1] * (low.dim() - 1)), generator=noise)
        share = torch.where(kind < 0.4, corners, torch.where(kind < 0.6, share.round(decimals=1), share))
        return self.moved_in(low + share * (high - low))

    def moved_in(self, x: Tensor) -> Tensor:
        """Samples of the domain in the model's format."""
        from defib.probe.certificates.regions import EllipsoidRegion

        low, high = self.region.ends()
        if isinstance(self.region, EllipsoidRegion):
            center = (low + high) / 2
            scaled = ((x - center) / ((high - low) / 2).clamp(min=1e-30)).flatten(1)
            shrink = (scaled.norm(dim=1) / (1 - 1e-3)).clamp(min=1.0)
            x = center + (x - center) / shrink.reshape(-1, *[1] * (x.dim() - 1))
        x = x.clamp(low, high)
        near = x.to(self.dtype)
        down, up = (torch.full_like(near, v) for v in (-torch.inf, torch.inf))
        near = torch.where(near.double() > high, torch.nextafter(near, down), near)
        return torch.where(near.double() < low, torch.nextafter(near, up), near)

    def climb(self, node: int, unit: int, seed: int, steps: int = 20, sign: float = 1.0) -> Tensor:
        """Projected gradient ascent on one number that enters an activation; the last samples."""
        x = self.inside(seed)
        low, high = self.region.ends()
        for step in range(steps):
            x = x.detach().requires_grad_()
            z = arguments_of(self.model, x)[node].reshape(self.batch, -1)
            (gradient,) = torch.autograd.grad(sign * z[:, unit % z.shape[1]].sum(), x)
            size = 0.3 * (high - low) * (1 - step / steps)
            x = self.moved_in(x.detach().double() + gradient.double().sign() * size)
        return x.detach()


def arguments_of(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What enters each ReLU module, with its graph."""
    found: list[Tensor] = []
    handles = [
        m.register_forward_pre_hook(lambda _, given: found.append(given[0]))
        for m in model.modules()
        if isinstance(m, nn.ReLU)
    ]
    model(x)
    for handle in handles:
        handle.remove()
    return found
