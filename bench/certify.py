"""Certificates against 10^6 samples and against gradient ascent: bench/results/certify.md.

``python bench/certify.py [SAMPLES]``. Ends with an error if a single proof is contradicted.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import defib
from defib.core.certificate import Certificate, Method, UnitVerdict
from defib.core.domain import Box, DataRange, Domain, range_of
from defib.probe.certificates.bounds import bounded
from defib.probe.certificates.regions import region_of
from defib.probe.certificates.tracing import Inputs, traced

NEVER, LINEAR, FIRES = UnitVerdict.NEVER_FIRES, UnitVerdict.ALWAYS_LINEAR, UnitVerdict.FIRES
DIGITS = load_digits()
IMAGES = torch.tensor(DIGITS.data / 16.0)
LABELS = torch.tensor(DIGITS.target)


class Skip(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)
        self.first, self.second = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(x + self.b(self.first(self.a(x))))


def hot(model: nn.Module, images: Tensor, lr: float, steps: int = 60) -> nn.Module:
    """Trained so hard that many units die."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(steps):
        some = torch.randint(len(images), (32,))
        loss = nn.functional.cross_entropy(model(images[some]), LABELS[some])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        optimizer.step()
    return model.eval()


def plain(dtype: torch.dtype) -> tuple[nn.Module, Tensor]:
    """The network of the survey (science.md, section 4): 64-24-24-24-10."""
    torch.manual_seed(0)
    linears = [nn.Linear(a, b, dtype=torch.float64) for a, b in ((64, 24), (24, 24), (24, 24), (24, 10))]
    for linear in linears:
        nn.init.kaiming_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
    parts = [m for linear in linears[:-1] for m in (linear, nn.ReLU())]
    return hot(nn.Sequential(*parts, linears[-1]), IMAGES, 0.35).to(dtype), IMAGES.to(dtype)


def normed() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    parts = [m for _ in range(3) for m in (nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 64), nn.ReLU())]
    return hot(nn.Sequential(*parts, nn.Linear(64, 10)), IMAGES.float(), 0.5), IMAGES.float()


def skipping() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), Skip(32), Skip(32), nn.Linear(32, 10))
    return hot(model, IMAGES.float(), 0.5), IMAGES.float()


def convolutional() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(128, 48), nn.ReLU(), nn.Linear(48, 10),
    )  # fmt: skip
    images = IMAGES.float().reshape(-1, 1, 8, 8)
    return hot(model, images, 0.5), images


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "MLP 64-24-24-24-10, float64": lambda: plain(torch.float64),
    "the same, float32": lambda: plain(torch.float32),
    "the same, bfloat16": lambda: plain(torch.bfloat16),
    "MLP with LayerNorm": normed,
    "residual MLP": skipping,
    "conv, BatchNorm, pools": convolutional,
}


@dataclass
class Tops:
    """Highest and lowest z of each unit that anything found; one pair a ReLU."""

    high: list[Tensor]
    low: list[Tensor]

    def take(self, arguments: list[Tensor]) -> None:
        for i, z in enumerate(arguments):
            flat = z.detach().double()
            flat = flat.amax((2, 3)) if z.dim() == 4 else flat
            bottom = z.detach().double().amin((2, 3)) if z.dim() == 4 else flat
            self.high[i] = torch.maximum(self.high[i], flat.amax(0))
            self.low[i] = torch.minimum(self.low[i], bottom.amin(0))


def arguments(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What enters each ReLU, from the user's own model and not from a graph of it."""
    found: list[Tensor] = []
    hooks = [m.register_forward_pre_hook(lambda _, a: found.append(a[0])) for m in model.modules()
             if isinstance(m, nn.ReLU)]  # fmt: skip
    model(x)
    for hook in hooks:
        hook.remove()
    return found


def drawn(low: Tensor, high: Tensor, images: Tensor, count: int, noise: torch.Generator) -> Iterator[Tensor]:
    """Samples of a box: uniform, corners, corners that copy data, mixtures of two images."""
    size = 4000
    for start in range(0, count, size):
        n = min(size, count - start)
        shape = (n, *low.shape[1:])
        kind = (start // size) % 4
        share = torch.rand(shape, generator=noise, dtype=torch.float64)
        if kind == 1:
            share = (share < 0.5).double()
        pick = [torch.randint(len(images), (n,), generator=noise) for _ in range(2)]
        if kind == 2:
            share = (images[pick[0]].double() > 0.5).double()
        x = low + share * (high - low)
        if kind == 3:
            mix = torch.rand((n, *[1] * (low.dim() - 1)), generator=noise, dtype=torch.float64)
            x = mix * images[pick[0]].double() + (1 - mix) * images[pick[1]].double()
        yield placed(x, low, high, images.dtype)


def placed(x: Tensor, low: Tensor, high: Tensor, dtype: torch.dtype) -> Tensor:
    """Inside of the box in the model's format too."""
    near = x.clamp(low, high).to(dtype)
    down, up = (torch.full_like(near, v) for v in (-math.inf, math.inf))
    near = torch.where(near.double() > high, torch.nextafter(near, down), near)
    return torch.where(near.double() < low, torch.nextafter(near, up), near)


def climbed(
    model: nn.Module, low: Tensor, high: Tensor, images: Tensor, tops: Tops, restarts: int = 24
) -> int:
    """Projected gradient ascent on every unit, from random places; steps taken."""
    noise = torch.Generator().manual_seed(7)
    taken = 0
    for node, top in enumerate(tops.high):
        for unit in range(len(top)):
            share = torch.rand((restarts, *low.shape[1:]), generator=noise, dtype=torch.float64)
            share[: restarts // 3] = share[: restarts // 3].round()
            x = placed(low + share * (high - low), low, high, images.dtype)
            for step in range(12):
                x = x.detach().requires_grad_()
                z = arguments(model, x)[node]
                value = z[:, unit].flatten(1).amax(1) if z.dim() == 4 else z[:, unit]
                gradient = torch.autograd.grad(value.sum(), x)[0].double()
                x = placed(x.detach().double() + gradient.sign() * 0.5 * (high - low) * (1 - step / 12),
                           low, high, images.dtype)  # fmt: skip
                taken += restarts
            with torch.no_grad():
                tops.take(arguments(model, x))
    return taken


def contradictions(found: Certificate, tops: Tops) -> int:
    """Units whose proof or whose bounds something left."""
    wrong = 0
    for layer, high, low in zip(found.layers, tops.high, tops.low, strict=True):
        for unit, top, bottom in zip(layer.units, high.tolist(), low.tolist(), strict=True):
            wrong += unit.verdict is NEVER and top > 0
            wrong += unit.verdict is LINEAR and bottom < 0
            wrong += top > unit.high or bottom < unit.low
    return wrong


def row(name: str, words: str, domain: Domain, samples: int) -> tuple[str, int]:
    model, images = MODELS[name]()
    found = defib.certify(model, domain, images, paths=False)
    box = domain if isinstance(domain, Box) else range_of(images.double().numpy())
    low, high = (torch.as_tensor(e)[None] for e in box.ends(tuple(images.shape[1:])))
    sizes = [len(layer.units) for layer in found.layers]
    tops = Tops([torch.full((n,), -math.inf, dtype=torch.float64) for n in sizes],
                [torch.full((n,), math.inf, dtype=torch.float64) for n in sizes])  # fmt: skip
    with torch.no_grad():
        for x in drawn(low, high, images, samples, torch.Generator().manual_seed(11)):
            tops.take(arguments(model, x))
    sampled = sum(int((top > 0).sum()) for top in tops.high)
    steps = climbed(model, low, high, images, tops)
    reached = sum(int((top > 0).sum()) for top in tops.high)
    total = sum(sizes)
    never = sum(layer.count(NEVER) for layer in found.layers)
    fires = sum(layer.count(FIRES) + layer.count(LINEAR) for layer in found.layers)
    wrong = contradictions(found, tops)
    cells = [name, words, total, total - fires, never, sum(layer.count(LINEAR) for layer in found.layers),
             total - sampled, total - reached, f"{steps:,}", wrong, f"{found.seconds:.2f} s"]  # fmt: skip
    print(cells, flush=True)
    return "| " + " | ".join(map(str, cells)) + " |", wrong


def survey() -> list[str]:
    """The survey's own network again: bound widths layer by layer, and what the solver decides."""
    model, images = plain(torch.float64)
    one = images[:1]
    trace = traced(model, Inputs.of((one,), {}), (one,))
    node = next(n for n in trace.inputs if n is not None)
    widths = []
    for linear in (False, True):
        known = bounded(trace, {node: region_of(Box(low=0.0, high=1.0), one)}, one.dtype, math.inf, linear)
        zs = [k for n, k in known.known.items() if n.name.startswith("addmm")][:3]
        widths.append([float((k.high - k.low).mean()) for k in zs])
    found = defib.certify(model, "0:1", images)
    lines = [
        "| layer | never seen on 1,797 digits | proved on [0, 1]^64 | interval width | linear width |",
        "|---|---|---|---|---|",
    ]
    for i, layer in enumerate(found.layers):
        silent = len(layer.units) - layer.count(FIRES) - layer.count(LINEAR)
        widest = f"{widths[0][i]:.2f} | {widths[1][i]:.2f}"
        lines.append(f"| {i + 1} | {silent} of 24 | {layer.count(NEVER)} | {widest} |")
    begun = time.perf_counter()
    asked = defib.certify(model, "0:1", images, exact=99, exact_seconds=25.0)
    units = [u for layer in asked.layers for u in layer.units if u.method is Method.MILP]
    dead = [u for u in units if u.verdict is NEVER]
    still = sum(layer.count(UnitVerdict.NEVER_SEEN) for layer in asked.layers)
    return [
        *lines,
        "",
        "Solver, asked about every unit that was never seen to fire and is not proved (25 s each at most):",
        f"{len(units) - len(dead)} fired by an input that was found and run, {len(dead)} proved never to",
        f"fire (z at most {', '.join(f'{u.high:.3f}' for u in dead) or '-'}), {still} still open; "
        f"{time.perf_counter() - begun:.0f} s in all.",
    ]


def four_layers() -> str:
    torch.manual_seed(0)
    widths = (3, 16, 32, 32, 32)
    parts: list[nn.Module] = []
    for i in range(4):
        parts += [nn.Conv2d(widths[i], widths[i + 1], 3, padding=1, stride=2 if i else 1), nn.ReLU()]
    model = nn.Sequential(*parts, nn.Flatten(), nn.Linear(32 * 16, 10))
    cpu = time.process_time()
    found = defib.certify(model, DataRange(), torch.rand(64, 3, 32, 32), paths=False)
    cpu = time.process_time() - cpu
    entries = sum(layer.entries * len(layer.units) for layer in found.layers)
    late = "; ".join(u.why for u in found.unsupported) or "all layers with linear bounds"
    return (
        f"Four convolutions (16-32-32-32 channels) on 3 x 32 x 32, {entries:,} numbers that enter a ReLU,\n"
        f"one thread: {found.seconds:.1f} s, {cpu:.1f} s of CPU time ({late})."
    )


def main() -> None:
    torch.set_num_threads(1)
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    domains: dict[str, Domain] = {"[0, 1]": Box(low=0.0, high=1.0), "data's range": DataRange()}
    each = math.ceil(samples / (len(MODELS) * len(domains)))
    begun = time.perf_counter()
    rows = [row(name, words, domain, each) for name in MODELS for words, domain in domains.items()]
    wrong = sum(w for _, w in rows)
    lines = [
        "# Certificates",
        "",
        "`python bench/certify.py`: networks trained on digits until many units die;",
        f"{each:,} samples a row, {each * len(rows):,} in all (uniform, corners, corners that copy data,",
        "mixtures), then projected gradient ascent on every unit (24 starts of 12 steps). Samples go through",
        "the model itself, not through its graph. A contradiction is a unit that fires though proved never",
        "to, or any z outside of its bounds.",
        "",
        "| network | domain | units | never seen on the data | proved never | proved linear "
        "| silent in samples | and in ascent | ascent steps | contradictions | certificate |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(text for text, _ in rows),
        "",
        f"Contradictions in all: {wrong}.",
        "",
        "## The survey's network",
        "",
        *survey(),
        "",
        "## Time",
        "",
        four_layers(),
        "",
        f"Everything: {time.perf_counter() - begun:.0f} s on one thread, torch {torch.__version__}.",
        "",
    ]
    if len(sys.argv) < 2:
        Path(__file__).with_name("results").joinpath("certify.md").write_text(
            "\n".join(lines), encoding="utf-8"
        )
    print("\n".join(lines))
    if wrong:
        raise SystemExit(f"{wrong} contradictions")


if __name__ == "__main__":
    main()
