"""Is the curvature that a run measures right, does it foretell which rates diverge, and what does it cost?

    .venv/bin/python bench/curvature.py            about five minutes; writes bench/results/curvature.md
    .venv/bin/python bench/curvature.py --small    half a minute, printed and not written

First table: measurements during training against dense eigenvalues of the very same loss. Second: gradient
descent and its relatives on quadratic losses at rates around the bound, judged from the first measurement
alone. Third: the same on a network, whose curvature changes while it trains. Fourth: the time
of one measurement in training steps. All of it through ``defib.watch(curvature=True)`` or its parts; seeded.
"""

import argparse
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measuring.networks import WORKLOADS
from torch import Tensor, nn

import defib
from defib.capture.curvature import Curvatures
from defib.capture.recorder import Recorder
from defib.capture.session import Session
from defib.core.cause import Cause
from defib.core.inference import clopper_pearson
from defib.core.run import RunView
from defib.probe.sharpness import survey
from defib.record.writer import Writer

HERE = Path(__file__).parent


def every_step(model: nn.Module, folder: Path, every: int = 1) -> tuple[Session, Writer]:
    """A watch that measures on every N-th step, whatever that takes."""
    writer = Writer.create(folder, force=True)
    recorder = Recorder(writer, [model], every=every)
    recorder.curvatures = Curvatures(writer, survey, every=every)
    return Session(recorder, writer), writer


# ------------------------------------------------------------- against dense eigenvalues


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.view(len(x), 4, 4))[0][:, -1])


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.norm, self.head = nn.Linear(4, 12), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.view(len(x), 4, 4)).chunk(3, -1)
        mixed = torch.softmax(q @ k.transpose(1, 2) / 2, -1) @ v
        return self.head(self.norm(mixed).mean(1))


def mlp(act: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(16, 9), act(), nn.Linear(9, 7), act(), nn.Linear(7, 3))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(),
        nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


NETS: dict[str, Callable[[], nn.Module]] = {
    "MLP, ReLU": lambda: mlp(nn.ReLU),
    "MLP, tanh": lambda: mlp(nn.Tanh),
    "CNN with batch norm": convolutional,
    "LSTM": Recurrent,
    "attention and layer norm": Attentive,
}
STEPPERS: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05),
    "Adam": lambda p: torch.optim.Adam(p, lr=2e-3),
}


@dataclass
class Errors:
    """Measurements of one kind of network.

    Attributes:
        relative: Error over the dense eigenvalue.
        inside: A dense eigenvalue lies within the bound.
        highest: The measured one is the largest, to a thousandth.
        products: Products with H for one measurement.
    """

    relative: list[float] = field(default_factory=list)
    inside: list[bool] = field(default_factory=list)
    highest: list[bool] = field(default_factory=list)
    products: list[float] = field(default_factory=list)

    def take(self, value: float, error: float, dense: Tensor) -> None:
        top, give = float(dense[-1]), 2e-7 * float(dense.abs().max())  # the record keeps float32
        self.relative.append(abs(value - top) / abs(top))
        self.inside.append(float((dense - value).abs().min()) <= error + give)
        self.highest.append(abs(value - top) <= 1e-3 * abs(top))


def dense_hessian(model: nn.Module, loss: Tensor) -> Tensor:
    """H, one row at a time, in float64."""
    leaves = list(model.parameters())
    first = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, leaves, create_graph=True)])
    rows = [torch.autograd.grad(g, leaves, retain_graph=True, allow_unused=True) for g in first]
    zeros = [torch.zeros_like(p) for p in leaves]
    flat = [[z if r is None else r for r, z in zip(row, zeros, strict=True)] for row in rows]
    hessian = torch.stack([torch.cat([r.reshape(-1) for r in row]) for row in flat])
    return (hessian + hessian.T) / 2


def diagonal(optimizer: torch.optim.Optimizer, model: nn.Module) -> Tensor:
    """S, written out anew for the two optimisers here."""
    group, parts = optimizer.param_groups[0], []
    for p in model.parameters():
        state = optimizer.state.get(p, {})
        if "exp_avg_sq" in state:
            t = float(state["step"])
            size = (state["exp_avg_sq"] / (1 - 0.999**t)).sqrt() + 1e-8
            parts.append(group["lr"] / (1 - 0.9 ** (t + 1)) / size)
        else:
            parts.append(torch.full_like(p, group["lr"]))
    return torch.cat([p.detach().reshape(-1).double() for p in parts])


def against_dense(
    make: Callable[[], nn.Module], stepper: str, seed: int, single: bool, found: Errors
) -> None:
    """Forty steps of training, every eighth measured and compared with the same loss's dense Hessian."""
    torch.manual_seed(seed)
    model = make().to(torch.float32 if single else torch.float64)
    dtype = next(model.parameters()).dtype
    optimizer = STEPPERS[stepper](list(model.parameters()))
    truth: dict[int, tuple[Tensor, Tensor]] = {}
    with tempfile.TemporaryDirectory() as place:
        session, _ = every_step(model, Path(place) / "run.rec", every=8)
        for step in range(41):
            x, y = torch.randn(24, 16, dtype=dtype), torch.randint(3, (24,))
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            if step and step % 8 == 0:
                twin = make().double()
                twin.load_state_dict(model.state_dict())
                hessian = dense_hessian(twin, F.cross_entropy(twin(x.double()), y))
                root = diagonal(optimizer, model).sqrt()
                scaled = torch.linalg.eigvalsh(root[:, None] * hessian * root)
                truth[step] = torch.linalg.eigvalsh(hessian), scaled
            loss.backward()
            optimizer.step()
        session.close()
        measured = defib.open_run(Path(place) / "run.rec").view.sharpness[0]
    for row, step in enumerate(measured.steps.tolist()):
        plain, scaled = truth[step]
        found.take(measured.largest[row], measured.largest_error[row], plain)
        found.take(measured.product[row], measured.product_error[row], scaled)
        found.products.append(float(measured.products[row]))


# ------------------------------------------------------------- rates around the bound


def adam_at_rest(p: list[Tensor], lr: float) -> torch.optim.Optimizer:
    """Adam with second moments that were gathered before and hardly change any more."""
    optimizer = torch.optim.Adam(p, lr=lr, betas=(0.9, 1 - 1e-7))
    for each in p:
        sizes = torch.linspace(0.5, 2.0, each.numel(), dtype=each.dtype).view_as(each)
        optimizer.state[each] = {
            "step": torch.tensor(1e9), "exp_avg": torch.zeros_like(each), "exp_avg_sq": sizes,
        }  # fmt: skip
    return optimizer


RULES: dict[str, Callable[[list[Tensor], float], torch.optim.Optimizer]] = {
    "SGD": lambda p, lr: torch.optim.SGD(p, lr=lr),
    "momentum 0.9": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
    "Nesterov 0.9": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, nesterov=True),
    "Adam, settled": adam_at_rest,
}
AROUND = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.997, 1.003, 1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0)


class Quadratic(nn.Module):
    """w . A w / 2 on a fixed random A of 12 dimensions, curvatures from 0.01 to about 3."""

    def __init__(self) -> None:
        super().__init__()
        turned, _ = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))
        values = torch.logspace(-2, math.log10(3 * float(torch.rand(())) + 1), 12, dtype=torch.float64)
        self.a = turned @ torch.diag(values) @ turned.T
        self.w = nn.Parameter(1e-3 * torch.randn(12, dtype=torch.float64))

    def forward(self) -> Tensor:
        return self.w @ self.a @ self.w / 2


BOUNDS = {"SGD": 2.0, "momentum 0.9": 3.8, "Nesterov 0.9": 3.8 / 2.8, "Adam, settled": 38.0}


@dataclass
class Sweep:
    """Runs at rates around the bound.

    Attributes:
        runs: How many.
        told: Runs whose interval lies on one side of the bound.
        right: Of them, those that did what was told.
        diverged: Runs that diverged.
        named: Of them, those of which the diagnosis says so, by that cause.
        blamed: Runs that did not diverge and were blamed all the same.
        nearest: Smallest distance from the bound at which it was told.
    """

    runs: int = 0
    told: int = 0
    right: int = 0
    diverged: int = 0
    named: int = 0
    blamed: int = 0
    nearest: float = math.inf

    def take(self, ratio: float, low: float, high: float, diverges: bool, cause: bool) -> None:
        self.runs += 1
        told = low > 1 or high < 1
        self.told += told
        self.right += told and (low > 1) == diverges
        self.diverged += diverges
        self.named += diverges and cause
        self.blamed += cause and not diverges
        if told:
            self.nearest = min(self.nearest, abs(ratio - 1))


def quadratic_run(name: str, ratio: float, seed: int, folder: Path, found: Sweep) -> None:
    """600 steps at ``ratio`` times the largest stable rate, which is worked out from the matrix here."""
    torch.manual_seed(seed)
    model = Quadratic()
    size = torch.linspace(0.5, 2.0, 12, dtype=torch.float64).sqrt() if "Adam" in name else torch.ones(12)
    root = size.double().rsqrt()
    values = torch.linalg.eigvalsh(root[:, None] * model.a * root)
    optimizer = RULES[name]([model.w], ratio * BOUNDS[name] / float(values[-1]))
    steepest = torch.linalg.eigh(root[:, None] * model.a * root)[1][:, -1] / root
    along = []
    with defib.watch(model, optimizer, output=folder, force=True, curvature=True) as run:
        for _ in range(600):
            optimizer.zero_grad()
            model().backward()
            optimizer.step()
            along.append(abs(float(model.w.detach() @ steepest)))
    diverges = max(along[-150:]) > max(along[150:300]) or max(along) > 1e3 * along[0]
    view = run.view
    first = view.sharpness[0]
    value, give, bound = (float(c[0]) for c in (first.product, first.product_error, first.bound))
    give += 2e-7 * value  # the record keeps float32
    found.take(ratio, (value - give) / bound, (value + give) / bound, diverges, blamed(view))


def blamed(view: RunView) -> bool:
    """Whether the diagnosis names steps beyond stability."""
    return any(f.cause is Cause.STEPS_BEYOND_STABILITY for f in defib.diagnose(view).findings)


@dataclass
class Edge:
    """Full batches on a tanh network at one rate.

    Attributes:
        first: Load at the first measurement.
        late: Median load over the last third.
        start: Loss at first.
        end: Loss at the end.
        verdict: What the diagnosis says.
    """

    first: float
    late: float
    start: float
    end: float
    verdict: str


def network_run(name: str, rate: float, seed: int, folder: Path, steps: int) -> Edge:
    """Full-batch training; the load at first, and where it settles."""
    torch.manual_seed(seed)
    x = torch.randn(64, 8)
    y = torch.sin(2 * x[:, :1]) + 0.5 * x[:, 1:2] * x[:, 2:3]
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = RULES[name](list(model.parameters()), rate)
    losses = []
    with defib.watch(model, optimizer, output=folder, force=True, curvature=True) as run:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    view = run.view
    measured = view.sharpness[0]
    loads = measured.product / measured.bound
    late = loads[measured.steps >= 2 * steps // 3]
    found = [f.cause.value for f in defib.diagnose(view).findings if f.rule == "lr-too-high"]
    return Edge(
        first=float(loads[0]),
        late=float(np.median(late)) if len(late) else math.nan,
        start=losses[0],
        end=losses[-1],
        verdict=", ".join(found) or "nothing",
    )


# ------------------------------------------------------------- cost


def cost(workload_name: str, most: int) -> tuple[float, float, float, float] | str:
    """Median seconds of a bare step and of a measurement, how many steps that is, and products for one."""
    with tempfile.TemporaryDirectory() as place:
        torch.manual_seed(0)
        work = WORKLOADS[workload_name]()
        for _ in range(3):
            work.step()
        bare = []
        for _ in range(max(10, most)):
            start = time.perf_counter()
            work.step()
            bare.append(time.perf_counter() - start)
        session, _ = every_step(work.model, Path(place) / "run.rec")
        curvatures = session._recorder.curvatures
        assert curvatures is not None
        taken, before = [], 0.0
        for _ in range(most):
            work.step()
            spent = curvatures._governor.spent
            if spent > before:
                taken.append(spent - before)
            before = spent
        session.close()
        if not curvatures.measured:
            return curvatures.why_off or next(iter(curvatures.skipped), "nothing was measured")
        products = defib.open_run(Path(place) / "run.rec").view.sharpness[0].products
    step, one = statistics.median(bare), statistics.median(taken)
    return step, one, one / step, float(np.median(products))


# ------------------------------------------------------------- the page


def _share(hits: int, count: int) -> str:
    if not count:
        return "-"
    interval = clopper_pearson(hits, count)
    return f"{hits} of {count} ({100 * interval.low:.1f} to {100 * interval.high:.1f} %)"


def _dense_rows(found: dict[tuple[str, str], Errors]) -> Iterator[str]:
    for (net, precision), e in found.items():
        relative = np.array(e.relative)
        yield (
            f"| {net} | {precision} | {len(relative)} | {np.median(relative):.1e} | {relative.max():.1e} "
            f"| {_share(sum(e.inside), len(e.inside))} | {_share(sum(e.highest), len(e.highest))} "
            f"| {np.median(e.products):.0f} |"
        )


def page(
    dense: dict[tuple[str, str], Errors],
    sweeps: dict[str, Sweep],
    edges: dict[tuple[str, float], list[Edge]],
    costs: dict[str, tuple[float, float, float, float] | str],
    seconds: float,
) -> str:
    sweep_rows = [
        f"| {name} | {s.runs} | {s.told} | {_share(s.right, s.told)} | {s.nearest:.1%} "
        f"| {_share(s.named, s.diverged)} | {_share(s.blamed, s.runs - s.diverged)} |"
        for name, s in sweeps.items()
    ]
    edge_rows = [
        f"| {name} | {rate:g} | {_range([e.first for e in some])} | {_range([e.late for e in some])} "
        f"| {_range([e.end / e.start for e in some])} | {'; '.join(sorted({e.verdict for e in some}))} |"
        for (name, rate), some in edges.items()
    ]
    cost_rows = [
        f"| {name} | {c} |  |  |  |"
        if isinstance(c, str)
        else f"| {name} | {1e3 * c[0]:.3g} ms | {1e3 * c[1]:.3g} ms | {c[2]:.1f} | {c[3]:.0f} |"
        for name, c in costs.items()
    ]
    return f"""# Curvature in a run

Written by `python bench/curvature.py` (method: its text); do not edit.
{date.today()}, torch {torch.__version__}, one thread, {seconds:.0f} s.

## Against dense eigenvalues

Five kinds of networks under SGD and Adam, each step's own batch; H and S^1/2 H S^1/2, dense and in
float64 here. *Within its bound*: some eigenvalue lies within the stated residual bound of the
measured one. *Largest*: it is the largest eigenvalue to a thousandth. 95 % intervals
(Clopper-Pearson).

| network | precision | values | median error | largest error | within its bound | largest | products |
|---|---|---|---|---|---|---|---|
{chr(10).join(_dense_rows(dense))}

## Divergence foretold, on quadratic losses

Rates at {", ".join(f"{r:g}" for r in AROUND)} times the largest stable
one; 600 steps each. *Told* from the first measurement, on step 1: the whole interval lies on one
side of the optimiser's bound. *Seen*: the error along the steepest direction was larger in the last
quarter of the run than in the second, or a thousand times its first (Adam's second moments catch up
with it in the end). *Named*: the diagnosis of the run says `steps-beyond-stability`; it does so of
runs that fail. Adam's own do not: as soon as its gradients grow so do its second moments, and the
loss falls again.

| optimiser | runs | told | told as seen | nearest rate told | diverged and named | stable and blamed |
|---|---|---|---|---|---|---|
{chr(10).join(sweep_rows)}

## On a network, full batches

A tanh network of 1,377 parameters whose curvature changes while it trains; *load* is rate x largest
curvature over the optimiser's bound. A load near 1 while the loss falls is the edge of stability
(Cohen et al. 2021), and one above 1 at first need not end badly: the curvature may fall before the
loss is lost. So the load alone is no finding. Range over the seeds.

| optimiser | rate | load at first | load in the last third | loss at the end over at first | finding |
|---|---|---|---|---|---|
{chr(10).join(edge_rows)}

## Cost

The four networks of `overhead.py`; a measurement under Adam is of two matrices. By default a run
measures once, then for two seconds in all, then for 5 % of its time.

| network | bare step | one measurement | in steps | products |
|---|---|---|---|---|
{chr(10).join(cost_rows)}
"""


def _range(values: list[float]) -> str:
    known = [v for v in values if math.isfinite(v)]
    if not known:
        return "not finite"
    more = "" if len(known) == len(values) else f", {len(values) - len(known)} not finite"
    low, high = f"{min(known):.3g}", f"{max(known):.3g}"
    return (low if low == high else f"{low} to {high}") + more


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="half a minute; nothing is written")
    small = parser.parse_args().small
    torch.set_num_threads(1)
    began = time.perf_counter()
    dense: dict[tuple[str, str], Errors] = {}
    for (name, make), single in itertools.product(NETS.items(), (False, True)):
        errors = dense[name, "float32" if single else "float64"] = Errors()
        for stepper, seed in itertools.product(STEPPERS, range(1 if small else 4)):
            against_dense(make, stepper, seed, single, errors)
        print(f"{name} done", file=sys.stderr)
    sweeps = {name: Sweep() for name in RULES}
    edges: dict[tuple[str, float], list[Edge]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run.rec"
        around = AROUND[:: 4 if small else 1]
        for name, ratio, seed in itertools.product(RULES, around, range(1 if small else 3)):
            quadratic_run(name, ratio, seed, folder, sweeps[name])
        print("quadratics done", file=sys.stderr)
        rates = {"SGD": (0.02, 0.1, 0.3, 1.0, 3.0), "momentum 0.9": (0.01, 0.05, 0.2, 1.0)}
        for name, some in rates.items():
            for rate, seed in itertools.product(some, range(1 if small else 3)):
                steps = 300 if small else 2000
                edges.setdefault((name, rate), []).append(network_run(name, rate, seed, folder, steps))
    print("networks done", file=sys.stderr)
    costs = {name: cost(name, 3 if small or name == "cnn" else 8) for name in WORKLOADS}
    text = page(dense, sweeps, edges, costs, time.perf_counter() - began)
    print(text)
    if not small:
        (HERE / "results" / "curvature.md").write_text(text, encoding="utf-8")
    wrong = sum(s.told - s.right + s.blamed for s in sweeps.values())
    outside = sum(len(e.inside) - sum(e.inside) for e in dense.values())
    return int(wrong + outside > 0)


if __name__ == "__main__":
    sys.exit(main())
