"""Is the death-free factor right, do the three terms add up, and what would have revived the dead?

    .venv/bin/python bench/autopsy.py            about two minutes; writes bench/results/autopsy.md
    .venv/bin/python bench/autopsy.py --small    a few seconds, printed and not written

First table: trainings on real digits until one harsh step; every unit that this step killed is brought
back by making that very step smaller, and the network itself is asked (a forward hook on a copy).
Second table: natural deaths in the first layer, by the step that killed them, under `defib.watch` with
autopsies on. Both are seeded; nothing is chosen by hand.
"""

import argparse
import copy
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import defib
from defib.core.kill import EXHIBIT, Culprit, LayerKill

HERE = Path(__file__).parent
State = dict[str, Tensor]
DATA = load_digits()
X, Y = torch.tensor(DATA.data / 16.0, dtype=torch.float32), torch.tensor(DATA.target)


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(),
        nn.Linear(48, 10),
    )  # fmt: skip


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(432, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def normed() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU6(), nn.Linear(48, 10)
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two, self.out = (
            nn.Linear(a, b) for a, b in ((64, 40), (40, 40), (40, 40), (40, 10))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + torch.relu(self.one(x))
        x = x + F.relu(self.two(x))
        return self.out(x)


NETS: dict[str, Callable[[], nn.Module]] = {
    "MLP, 3 hidden layers": mlp,
    "CNN": cnn,
    "batch norm and ReLU6": normed,
    "residual MLP": Residual,
}
OPTIMIZERS: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=2e-3),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=2e-3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
}


@dataclass
class Row:
    """What was counted for one network.

    Attributes:
        units: Killed units.
        below: Alive at 0.99 of their factor.
        tried_above: Of which 1.01 of the factor is still part of the step.
        above: Dead at 1.01 of it.
        residual: Largest error of the split, relative to the largest pre-activation.
    """

    kills: int = 0
    units: int = 0
    below: int = 0
    tried_above: int = 0
    above: int = 0
    residual: float = 0.0
    causes: Counter[Culprit] = field(default_factory=Counter)


def tops(model: nn.Module, values: State, x: Tensor, path: str) -> Tensor:
    """Largest pre-activation of each unit over the batch, as the network itself computes it."""
    copied, seen = copy.deepcopy(model), []
    copied.load_state_dict(values)
    copied.get_submodule(path).register_forward_hook(lambda _m, _i, out: seen.append(out.detach().clone()))
    copied(x)
    axis = 1 if seen[0].ndim == 4 else -1
    return seen[0].movedim(axis, -1).reshape(-1, seen[0].shape[axis]).max(0).values


def scaled(before: State, after: State, alpha: float) -> State:
    """The state after that part of the step."""

    def part(old: Tensor, new: Tensor) -> Tensor:
        if not old.is_floating_point():
            return old
        return (old.double() + alpha * (new.double() - old.double())).to(old.dtype)

    return {name: part(old, after[name]) for name, old in before.items()}


def harsh_steps(make: Callable[[], nn.Module], optimizer: str, seed: int) -> Iterator[tuple]:
    """Trains on, and at step 15 the learning rate is raised; gives the step with the states around it."""
    torch.manual_seed(seed)
    model = make()
    opt = OPTIMIZERS[optimizer](list(model.parameters()))
    rise = float(torch.empty(()).uniform_(8, 80))
    for step in range(16):
        i = torch.randint(len(X), (128,))
        if step == 15:
            for group in opt.param_groups:
                group["lr"] *= rise
        opt.zero_grad()
        F.cross_entropy(model(X[i]), Y[i]).backward()
        before = copy.deepcopy(model.state_dict())
        opt.step()
    yield model, before, copy.deepcopy(model.state_dict()), X[i]


def brute(row: Row, model: nn.Module, before: State, after: State, x: Tensor) -> None:
    """Carries out a little less and a little more than the factor of every killed unit."""
    kills = defib.autopsy(model, before, after, x)
    row.kills += bool(kills.layers)
    for layer in kills.layers:
        row.residual = max(row.residual, layer.residual)
        row.causes.update(layer.culprits)
        for unit, alpha in zip(layer.units, layer.alpha, strict=True):
            row.units += 1
            row.below += bool(tops(model, scaled(before, after, 0.99 * alpha), x, layer.path)[unit] > 0)
            if 1.01 * alpha <= 1:
                row.tried_above += 1
                row.above += bool(tops(model, scaled(before, after, 1.01 * alpha), x, layer.path)[unit] <= 0)


@dataclass
class Natural:
    """First-layer deaths in ordinary trainings, and what would have revived the unit right after its step."""

    runs: int = 0
    dead: int = 0
    attributed: int = 0
    centred: int = 0
    bias_zero: int = 0
    negative: int = 0
    end_centred: int = 0
    end_bias_zero: int = 0
    causes: Counter[Culprit] = field(default_factory=Counter)
    factors: list[float] = field(default_factory=list)


def natural(found: Natural, seed: int, lr: float, folder: Path, *, centre: bool) -> None:
    """Digits in [0, 1] (or centred), 64 hidden units, SGD with momentum 0.9, 200 steps."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    data = X - X.mean(0) if centre else X
    with defib.watch(model, opt, output=folder, autopsy=True, force=True) as run:
        for _ in range(200):
            i = torch.randint(len(X), (128,))
            opt.zero_grad()
            F.cross_entropy(model(data[i]), Y[i]).backward()
            opt.step()
        view = run.view
    dead = {int(u) for u in torch.nonzero((model[0](data) <= 0).all(0)).flatten()}
    last = {unit: int(step) for unit, step in enumerate(view.liveness["0"].last_alive)}
    found.runs += 1
    found.dead += len(dead)
    with torch.no_grad():
        w, b, units = model[0].weight, model[0].bias, sorted(dead)
        found.end_centred += int((((data - data.mean(0)) @ w.T + b) > 0).any(0)[units].sum())
        found.end_bias_zero += int(((data @ w.T) > 0).any(0)[units].sum())
    for exhibit in view.exhibits:
        if exhibit.kind != EXHIBIT or exhibit.path != "0":
            continue
        kill = LayerKill.from_exhibit(exhibit.facts, exhibit.arrays)
        kill = kill.only(
            np.array([int(u) in dead and last[int(u)] == exhibit.step for u in kill.units], bool)
        )
        found.attributed += len(kill.units)
        found.centred += int(np.isfinite(kill.centring).sum())
        found.bias_zero += int(kill.bias_zero.sum())
        found.negative += int(np.isfinite(kill.negative).sum())
        found.causes.update(kill.culprits)
        found.factors += kill.alpha.tolist()


def share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.1f} %)" if whole else "-"


def page(rows: dict[str, Row], groups: dict[str, Natural], seconds: float, small: bool) -> str:
    """The result as Markdown."""
    brute_lines = "\n".join(
        f"| {name} | {r.kills} | {r.units} | {share(r.below, r.units)} | {share(r.above, r.tried_above)} | "
        f"{r.residual:.1e} |"
        for name, r in rows.items()
    )
    causes = sum((r.causes for r in rows.values()), Counter())
    ends = "\n".join(
        f"| {name} | {g.dead} | {share(g.end_centred, g.dead)} | {share(g.end_bias_zero, g.dead)} |"
        for name, g in groups.items()
    )
    lines = "\n".join(
        f"| {name} | {g.runs} | {g.dead} | {g.attributed} | {share(g.centred, g.attributed)} | "
        f"{share(g.bias_zero, g.attributed)} | {share(g.negative, g.attributed)} | "
        f"{f'{np.median(g.factors):.2f}' if g.factors else '-'} |"
        for name, g in groups.items()
    )
    deaths = sum((g.causes for g in groups.values()), Counter())
    units, tried = sum(r.units for r in rows.values()), sum(r.tried_above for r in rows.values())
    return f"""\
# Autopsies

Command: `.venv/bin/python bench/autopsy.py{" --small" if small else ""}`, {date.today()}, torch \
{torch.__version__}, one thread, {seconds:.0f} s.

## The death-free factor and the split, against the network itself

{sum(r.kills for r in rows.values())} harsh steps (the learning rate times 8 to 80 for one step; five
optimisers) killed {units} units. Each killed unit's own factor was carried out: the step times 0.99 of it
leaves {share(sum(r.below for r in rows.values()), units)} alive, the step times 1.01 of it leaves
{share(sum(r.above for r in rows.values()), tried)} dead (left out where 1.01 of the factor is more than
the whole step). The residual is the largest error of own update + upstream drift + cross term against
the change of the pre-activation, over all samples, relative to the largest pre-activation.

| network | steps that killed | units | alive at 0.99 | dead at 1.01 | residual |
|---|---|---|---|---|---|
{brute_lines}

What they died of: {", ".join(f"{c}: {n}" for c, n in causes.most_common())}.

## Natural deaths in a first layer, and what would have revived the unit right after its step

Digits, 64-64-10 MLP with ReLU, SGD with momentum 0.9, 200 steps of 128, found under `defib.watch(...,
autopsy=True)`. *Dead* is off for all 1,797 digits at the end of the run. The counterfactuals are those
of the batch of the killing step: the mean of the inputs taken away, the bias set to 0, the negative
weights set to 0.

| data, learning rate | runs | dead | autopsies | centred | bias 0 | no negative weights | median factor |
|---|---|---|---|---|---|---|---|
{lines}

What they died of: {", ".join(f"{c}: {n}" for c, n in deaths.most_common())}.
Without an autopsy: units that never lived, that lived on too few of the steps before for eight silent
ones to mean anything, or that died after the sixteen steps a layer that are looked into.

Right after its step a unit is only just below, and a small thing would do. At the end of the run, over
all digits, the same units have been carried further down:

| data, learning rate | dead | would fire with centred inputs | would fire with the bias at 0 |
|---|---|---|---|
{ends}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a few seconds; nothing is written")
    small = parser.parse_args().small
    torch.set_num_threads(1)
    began = time.perf_counter()
    rows = {name: Row() for name in NETS}
    for name, make in NETS.items():
        for optimizer in OPTIMIZERS:
            for seed in range(1 if small else 7):
                for step in harsh_steps(make, optimizer, seed):
                    brute(rows[name], *step)
        print(f"{name} done", file=sys.stderr)
    groups: dict[str, Natural] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run.rec"
        for centre, lr in ((False, 0.3), (False, 1.0), (False, 3.0), (True, 1.0)):
            found = groups[f"{'centred' if centre else '[0, 1]'}, lr {lr:g}"] = Natural()
            for seed in range(1 if small else 6):
                natural(found, seed, lr, folder, centre=centre)
    text = page(rows, groups, time.perf_counter() - began, small)
    print(text)
    if not small:
        (HERE / "results" / "autopsy.md").write_text(text, encoding="utf-8")
    wrong = sum(r.units - r.below + r.tried_above - r.above for r in rows.values())
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
