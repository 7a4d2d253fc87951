"""Records for the tests of the report: written by hand, and trained."""

import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.core.wiring import Layer, Wiring
from defib.record.writer import Writer

STEPS, UNITS, BATCH = 400, 24, 32
NAMES = ("stem", "body.0", "body.1", "body.2")
DEATH = 150  # step at which a third of the units of body.1 die

HOSTILE = (
    "<script>window.hacked=1</script>",
    "</script><script>window.hacked=1</script>",
    '"><img src=x onerror="window.hacked=1">',
    "<svg onload=window.hacked=1>",
    "'",
    '"',
    "`${window.hacked=1}`",
    "\\",
    "\\u003cb\\u003e",
    "\u202egnp.evil",
    "\u2066isolated\u2069",
    "x" * 10_000,
    "null",
    "undefined",
    "NaN",
    "",
    " ",
    "\x00",
    "\x1b[31mred\x1b[0m",
    "line\nbreak\r\ttab",
    "\ud800",
    "\U0001f600\u200d\U0001f525",
    "__proto__",
    "constructor",
    "&lt;b&gt;&amp;",
    "<!--",
    "]]>",
    "{{7*7}}",
    "javascript:window.hacked=1",
    "paragraph\u2029separator\u2028",
)


def tally(rng: np.random.Generator, units: int, scale: float, off: NDArray[np.bool_]) -> Tally:
    """What a ReLU's output looks like; the units ``off`` never fire."""
    z = rng.normal(size=(BATCH, units)) * scale
    h = np.where(off, 0.0, np.maximum(z, 0.0))
    zero = (h == 0).sum(0).astype(float)
    every, none = np.full(units, float(BATCH)), np.zeros(units)
    return Tally(
        samples=BATCH,
        count=every,
        positive=(h > 0).sum(0).astype(float),
        zero=zero,
        saturated=zero,
        flat=zero,
        nonfinite=none,
        total=h.sum(0),
        squares=(h**2).sum(0),
        low=h.min(0),
        high=h.max(0),
    )


def written(
    path: Path,
    names: tuple[str, ...] = NAMES,
    *,
    units: int = UNITS,
    broken_loss: bool = False,
    last_die: bool = False,
) -> Path:
    """A run whose third layer loses the first (or the last) third of its units at step ``DEATH``."""
    rng = np.random.default_rng(0)
    writer = Writer.create(path)
    writer.facts({"target": "train.py", "versions": {"torch": "2.13.0"}})
    sites = [Site(path=name) for name in names]
    weights = tuple(f"{name}.weight" for name in names)
    writer.layers(
        tuple(
            Layer(path=n, kind="Linear", units=units, parameters=(w,), optimizer=0)
            for n, w in zip(names, weights, strict=True)
        )
    )
    wirings = [
        Wiring(
            site=site,
            activation="relu",
            operation="ReluBackward0",
            units=units,
            order=i,
            modules=(site.path,),
            inputs=(sites[i - 1],) if i else (),
            skips=(sites[0],) if i == 3 else (),
        )
        for i, site in enumerate(sites)
    ]
    writer.wirings(tuple(wirings), ("NllLossBackward0", "LogSoftmaxBackward0"))
    writer.optimizer(
        0, {"kind": "Adam", "steps": STEPS, "groups": [{"lr": 0.01}], "parameters": list(weights)}
    )
    steps = np.arange(STEPS)
    loss = 2.3 * np.exp(-steps / 100) + 0.01
    loss[200] = 50.0  # a spike
    if broken_loss:
        loss[300] = np.nan
    lr = np.where(steps < 300, 0.01, 0.001)
    writer.stream(0, 0, {"loss": loss.astype("f4"), "lr": lr.astype("f4")})
    for step in range(0, STEPS, 20):
        size = 10.0 ** -np.arange(len(names))[::-1] * (1 + 0.2 * rng.random(len(names)))
        writer.norms(step, weights, np.stack([size, size * 0 + 5, size * 0.01, size * 0]).astype("f4"))
    for layer, site in enumerate(sites):
        last = np.full(units, STEPS - 1)
        if layer == 2:
            last[slice(-units // 3, None) if last_die else slice(units // 3)] = DEATH - 1
        facts = {"source": "bias", "steps": STEPS, "last_step": STEPS - 1, "period": 1, "batch": float(BATCH)}
        none = np.zeros(units)
        writer.liveness(0, site.path, facts, np.stack([none, last, last + 1, none, none]).astype("i4"))
        for first, end in itertools.pairwise((0, 10, 40, 150, 400)):
            off = last < first
            for signal in Signal:
                seen = tally(rng, units, 2.0 ** -(len(names) - layer), off)
                writer.reading(site, signal, first, end - 1, seen)
    writer.event(120, "treatment", {"treatment": "scale-lr", "stage": "done", "dose": {"factor": 0.5}})
    writer.event(-1, "compiled", {"layers": ["head"]})
    writer.close("finished")
    assert writer.fault is None, writer.fault
    return path


def trained(path: Path, *, treat_at: int | None = None, steps: int = 260) -> Path:
    """A small network, all of whose second layer is born dead; treated at a step, or never."""
    import torch
    from torch import nn

    import defib

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        model[2].bias -= 30
    x = torch.randn(128, 8)
    y = (x @ torch.randn(8, 3)).argmax(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    with defib.watch(model, optimizer, output=path, every=4) as run:
        for step in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            if step == treat_at:
                run.treat()
    assert run.faults == 0
    return path
