"""Runs the triage on planted standstills, on small nets with a dense Hessian, and on a million parameters.

    .venv/bin/python bench/triage.py [STATES A CAUSE] [FIRST SEED IN THOUSANDS]

Writes bench/results/triage.md. One process, one thread. The seeds differ from those of the tests.
"""

import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "probe"))

import torch  # noqa: E402
from standstills import PLANTS, Luck, State, eigenvalues, mlp  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from defib.core.inference import clopper_pearson  # noqa: E402
from defib.core.triage import Standstill  # noqa: E402
from defib.probe.batch import pieces  # noqa: E402
from defib.probe.curvature import lambda_max  # noqa: E402
from defib.probe.objective import Objective  # noqa: E402
from defib.probe.triage import triage  # noqa: E402


@dataclass
class Lab:
    """What came out for every planted state."""

    table: Counter[tuple[str, str]] = field(default_factory=Counter)
    ways: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    refused: int = 0
    seconds: list[float] = field(default_factory=list)

    def add(self, name: str, seed: int, state: State) -> None:
        start = time.process_time()
        found = triage(state.model, state.data, state.loss)
        self.seconds.append(time.process_time() - start)
        right = found.verdict is state.truth
        self.table[state.truth.value, found.verdict.value] += 1
        self.ways[state.truth.value, state.way, right] += 1
        if not right:
            self.wrong.append(f"{name}, seed {seed} ({state.way}): {found.report.sentence}")


def lab(each: int, first: int) -> Lab:
    """So many states a cause; a draw that its own proof does not confirm is drawn again and counted."""
    found = Lab()
    for plant in PLANTS:
        made = 0
        for seed in itertools.count(first * 1000):
            state = plant(Luck(seed))
            if state is None:
                found.refused += 1
                continue
            found.add(plant.__name__, seed, state)
            made += 1
            if made == each:
                break
    return found


def dense(count: int = 60) -> tuple[int, float, float]:
    """Ends against a dense Hessian: how many within their bounds, largest error and bound over lambda_max."""
    within, error, bound = 0, 0.0, 0.0
    for seed in range(count):
        torch.manual_seed(seed)
        act = (nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid)[seed % 4]
        model = mlp([8, *[12] * (1 + seed % 3), 3], act)
        x, y = torch.randn(64, 8), torch.randint(3, (64,))
        found = lambda_max(model, (x, y))
        values = eigenvalues(model, x, y, functional.cross_entropy)
        top = float(values[-1])
        pairs = ((found.lambda_min, found.lambda_min_bound), (found.lambda_max, found.lambda_max_bound))
        away = [float((values - value).abs().min()) for value, _ in pairs]
        within += all(a <= b for a, (_, b) in zip(away, pairs, strict=True))
        error = max(error, *(a / top for a in away))
        bound = max(bound, *(b / top for _, b in pairs))
    return within, error, bound


@dataclass(frozen=True)
class Large:
    """Curvature on about a million parameters."""

    name: str
    parameters: int
    steps: int
    products: int
    gradient: float
    whole: float
    top: str
    low: str


def large() -> list[Large]:
    """CPU time of the whole search over that of one gradient, medians."""
    torch.manual_seed(0)
    wide = mlp([256, 1024, 730, 10], nn.ReLU)
    conv = nn.Sequential(
        *(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(128 * 16, 450), nn.ReLU(), nn.Linear(450, 10)),
    )
    jobs = [
        ("MLP 256-1024-730-10, ReLU, batch 512", wide, torch.randn(512, 256)),
        ("two convolutions and two linear layers, batch 64", conv, torch.randn(64, 3, 16, 16)),
    ]
    return [_large(name, model, x) for name, model, x in jobs]


def _large(name: str, model: nn.Module, x: torch.Tensor) -> Large:
    y = torch.randint(10, (len(x),))
    objective = Objective(model, pieces((x, y), 1), None)
    gradient = _cpu(objective.gradient, 9)
    found = lambda_max(model, (x, y))
    whole = _cpu(lambda: lambda_max(model, (x, y)), 3)
    return Large(
        name=name,
        parameters=found.parameters,
        steps=found.steps,
        products=found.products,
        gradient=gradient,
        whole=whole,
        top=f"{found.lambda_max:.4g} ± {found.lambda_max_bound:.1g}",
        low=f"{found.lambda_min:.3g} ± {found.lambda_min_bound:.1g}",
    )


def _cpu(work: Callable[[], object], times: int) -> float:
    work()
    taken = []
    for _ in range(times):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return sorted(taken)[times // 2]


def page(found: Lab, ends: tuple[int, float, float], big: list[Large], each: int, first: int) -> str:
    """The result as Markdown."""
    right = sum(n for (a, b), n in found.table.items() if a == b)
    total = sum(found.table.values())
    interval = clopper_pearson(right, total)
    names = [s.value for s in Standstill]
    seen = [n for n in names if any(b == n for _, b in found.table)]
    rows = "\n".join(
        f"| {a} | " + " | ".join(str(found.table[a, b] or "") for b in seen) + " |"
        for a in names
        if any(t == a for t, _ in found.table)
    )
    ways = "\n".join(
        f"| {cause} | {way} | {found.ways[cause, way, True]} of "
        f"{found.ways[cause, way, True] + found.ways[cause, way, False]} |"
        for cause, way in sorted({(c, w) for c, w, _ in found.ways})
    )
    wrong = "\n".join(f"- {text}" for text in found.wrong) or "None."
    large_rows = "\n".join(
        f"| {b.name} | {b.parameters:,} | {b.steps} | {b.products} | {2 * b.products + 1} | "
        f"{b.whole / b.gradient:.1f} | {1e3 * b.gradient:.0f} ms | {b.top} | {b.low} |"
        for b in big
    )
    return f"""\
# Triage of standstills

Command: `.venv/bin/python bench/triage.py {each} {first}`, {date.today()}, torch {torch.__version__}, one
thread. Method: `bench/README.md`.

## Planted states

{right} of {total} verdicts are right: {100 * right / total:.1f} %, 95 % interval (Clopper-Pearson)
{100 * interval.low:.1f} to {100 * interval.high:.1f} %. Median {sorted(found.seconds)[total // 2]:.2f} s of
CPU time a state, longest {max(found.seconds):.1f} s. {found.refused} draws were not confirmed by their own
proof (not converged, or the dense Hessian has the other sign) and were drawn again, before any verdict was
asked for. Limits were set on seeds below 10,000; these are others.

Rows: planted. Columns: verdict.

| | {" | ".join(seen)} |
|---|{"---|" * len(seen)}
{rows}

| cause | way of planting | right |
|---|---|---|
{ways}

Wrong ones:

{wrong}

## Ends of the spectrum against a dense Hessian

60 networks of 147 to 459 parameters, four activations, cross-entropy at the first weights: both ends lie
within their stated residual bounds in {ends[0]} of 60. Largest error {ends[1]:.1g}, largest bound
{ends[2]:.1g}, both over lambda_max.

## A million parameters

Work of the whole search (memory estimate, null directions, Lanczos) in units of one gradient. *Counted*: a
product is one backward pass through the gradient's graph, 2 gradients, and the graph is built once. *Timed*:
CPU time over the median CPU time of one gradient of the same batch.

| network | parameters | steps | products | counted | timed | one gradient | lambda_max | lambda_min |
|---|---|---|---|---|---|---|---|---|
{large_rows}
"""


def main() -> None:
    torch.set_num_threads(1)
    each = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 11
    big, ends = large(), dense()
    found = lab(each, first)
    text = page(found, ends, big, each, first)
    print(text)
    (HERE / "results" / "triage.md").write_text(text)
    right = sum(n for (a, b), n in found.table.items() if a == b)
    sys.exit(right < 0.95 * sum(found.table.values()) or ends[0] < 60)


if __name__ == "__main__":
    main()
