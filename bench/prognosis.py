"""Foretells thousands of random silent units and lets real torch optimisers run beside.

    .venv/bin/python bench/prognosis.py [UNITS A SETTING]

Writes bench/results/prognosis.md. Takes about three minutes.
"""

import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "prognosis"))

from bruteforce import Setting, bury, predicted, units_of  # noqa: E402
from optimizer_settings import BARE, SETTINGS  # noqa: E402

from defib.core.prognosis import Outlook  # noqa: E402
from defib.diagnosis.prognosis.foresight import foresee  # noqa: E402
from defib.diagnosis.prognosis.plane import HeavyBall, adam_reach, weight_only_return  # noqa: E402

UNITS = 100


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One setting's outcome; counts of units but for the last two."""

    setting: Setting
    units: int
    exact: int
    own: int
    false_claims: int
    returned: int
    never: int
    wrong_never: int
    mechanisms: dict[str, int]
    foreseen: float
    played: float


def main() -> None:
    torch.set_num_threads(1)
    units = int(sys.argv[1]) if len(sys.argv) > 1 else UNITS
    tried = [attempt(s, units) for s in SETTINGS]
    full = [t for t in tried if t.setting.dtype in {"float32", "float64"}]
    half = [t for t in tried if t not in full] + [attempt(s, units) for s in halves()]
    others = [attempt(s, units) for s in variants()]
    parts = [head(full), table(full, by_kind(full)), rows_of(others, OTHERS), rows_of(half, HALF), science()]
    target = HERE / "results" / "prognosis.md"
    target.write_text("\n\n".join(parts) + "\n")
    print(target.read_text())


def attempt(setting: Setting, units: int) -> Tried:
    remains, run = bury(setting, units, seed=2026)
    start = time.perf_counter()
    answers = foresee(remains, setting.steps)
    middle = time.perf_counter()
    truth = run.play()
    end = time.perf_counter()
    first = predicted(answers, remains)
    wrong = set(np.flatnonzero(first != truth.first).tolist())
    never = units_of(answers, outlook=Outlook.NEVER)
    mechanisms: dict[str, int] = defaultdict(int)
    for answer in answers:
        if answer.steps:
            mechanisms[str(answer.mechanism)] += len(answer.units)
    found = Tried(
        setting=setting,
        units=units,
        exact=units - len(wrong),
        own=int((first == truth.own).sum()),
        false_claims=len(wrong & units_of(answers, exact=True)),
        returned=int((truth.first > 0).sum()),
        never=len(never),
        wrong_never=sum(bool(truth.first[u] > 0) for u in never),
        mechanisms=dict(mechanisms),
        foreseen=middle - start,
        played=end - middle,
    )
    print(setting.kind, setting.name, found.exact, "of", units, flush=True)
    return found


def variants() -> Iterator[Setting]:
    """The settings again in torch's other forms of the same optimisers."""
    for kind, flag in itertools.product(("SGD", "Adam", "AdamW", "Adagrad"), ("foreach", "fused")):
        for setting in SETTINGS:
            plain = setting.dtype == "float32" and not setting.schedule
            if plain and setting.kind == kind:
                yield replace(setting, name=flag, weight=setting.weight | {flag: True})
    for kind in ("NAdam", "RAdam", "RMSprop", "Adamax", "Adadelta"):
        for setting in SETTINGS:
            if setting.kind == kind and setting.dtype == "float32":
                yield replace(setting, name="foreach", weight=setting.weight | {"foreach": True})


def halves() -> Iterator[Setting]:
    """Some settings in float16."""
    for kind, name in (("SGD", "momentum"), ("SGD", "only weights decay")):
        setting = next(s for s in SETTINGS if (s.kind, s.name) == (kind, name))
        yield replace(setting, name="float16", dtype="float16")


def by_kind(tried: list[Tried]) -> dict[str, list[Tried]]:
    groups: dict[str, list[Tried]] = defaultdict(list)
    for t in tried:
        groups[t.setting.kind].append(t)
    return groups


def head(tried: list[Tried]) -> str:
    units, exact = sum(t.units for t in tried), sum(t.exact for t in tried)
    return f"""# Prognosis against real optimisers

`bench/prognosis.py`: random silent units (10 features, 96 samples, a third with a positive bias) get a
history of random gradients from a real torch {torch.__version__.split("+")[0]} optimiser on the CPU; defib
foretells from their weights and the optimiser's state on which step each fires first; then the same optimiser
is stepped with zero gradients and every step is looked at. *Exact* means the same step, or rightly no return
within the setting's 300 to 3,000 steps. Firing is judged in float64 from the real parameters; *own forward*
judges it by a forward pass in the parameters' own format. Settings: `tests/prognosis/optimizer_settings.py`.

**{exact:,} of {units:,} units exact ({exact / units:.2%})**; answers called exact that were wrong:
{sum(t.false_claims for t in tried)}; units called never to return that returned:
{sum(t.wrong_never for t in tried)} of {sum(t.never for t in tried):,}. Foretelling took
{sum(t.foreseen for t in tried):.1f} s, stepping the real optimisers {sum(t.played for t in tried):.1f} s."""


def table(tried: list[Tried], groups: dict[str, list[Tried]]) -> str:
    lines = [
        "| optimiser | settings | units | exact | own forward | returned | proved never | returns by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, members in [*groups.items(), ("all", tried)]:
        units = sum(t.units for t in members)
        how: dict[str, int] = defaultdict(int)
        for t in members:
            for name, count in t.mechanisms.items():
                how[name] += count
        said = ", ".join(f"{name} {count}" for name, count in sorted(how.items(), key=lambda x: -x[1]))
        lines.append(
            f"| {kind} | {len(members)} | {units:,} | {sum(t.exact for t in members):,} "
            f"| {sum(t.own for t in members):,} | {sum(t.returned for t in members) / units:.1%} "
            f"| {sum(t.never for t in members) / units:.1%} | {said or '-'} |"
        )
    return "\n".join(lines)


OTHERS = """## torch's other forms of the same optimisers

`foreach` and `fused` (CPU) round some operations differently in the last bit; a GPU does, too (not measured
here). Nearly always the step is the same."""

HALF = """## Half formats

Never called exact: the last entries of a tensor, which fill no vector register, are rounded in another
order."""


def rows_of(tried: list[Tried], title: str) -> str:
    groups: dict[tuple[str, str], list[Tried]] = defaultdict(list)
    for t in tried:
        groups[t.setting.kind, t.setting.name].append(t)
    columns = ("optimiser", "form", "units", "exact", "returned", "called exact and wrong")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for (kind, name), members in groups.items():
        units = sum(t.units for t in members)
        lines.append(
            f"| {kind} | {name} | {units:,} | {sum(t.exact for t in members):,} "
            f"| {sum(t.returned for t in members) / units:.1%} | {sum(t.false_claims for t in members)} |"
        )
    return title + "\n\n" + "\n".join(lines)


KNOWN = """## Known numbers

Expected: from an earlier, independent survey of the same laws, with other random units. The rows on kills
use the plane's coefficients (`plane.HeavyBall`), those on 12,000 steps the prognosis alone; the others are
torch's own steps beside the formula."""


def science() -> str:
    rows = [*frontier(), *coasting(), *weights_alone(), *theorem(), *underdamped(), *long_runs()]
    lines = ["| what | expected | measured here |", "|---|---|---|"]
    lines += [f"| {what} | {expected} | {measured} |" for what, expected, measured in rows]
    return KNOWN + "\n\n" + "\n".join(lines)


def frontier() -> Iterator[tuple[str, str, str]]:
    """Where the sign of the pre-activation begins to change, found by stepping."""
    for momentum, nesterov in ((0.9, False), (0.99, False), (0.9, True)):
        low, high = 0.0, 1.0 - momentum
        for _ in range(40):
            middle = (low + high) / 2
            ball = HeavyBall(lr=1.0, momentum=momentum, decay=middle, nesterov=nesterov)
            steps = itertools.islice(ball.coefficients(), 200_000)
            crosses = any(a < 0 for a, _ in itertools.takewhile(lambda p: abs(p[0]) > 1e-250, steps))
            low, high = (low, middle) if crosses else (middle, high)
        formula = "((1-mu)/(1+mu))^2" if nesterov else "(1-sqrt mu)^2"
        critical = HeavyBall(lr=1.0, momentum=momentum, nesterov=nesterov).critical
        yield f"critical lr x decay, mu = {momentum}, {formula}", f"{critical:.4e}", f"{high:.4e}"


def coasting() -> Iterator[tuple[str, str, str]]:
    for name, expected, betas, amsgrad in (
        ("default", 9.045, (0.9, 0.999), False),
        ("AMSGrad", 9.000, (0.9, 0.999), True),
        ("beta_2 = .99", 9.47, (0.9, 0.99), False),
        ("beta_2 = .95", 12.05, (0.9, 0.95), False),
    ):
        p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = torch.optim.Adam([p], lr=1.0, betas=betas, amsgrad=amsgrad)
        for _ in range(5000):
            p.grad = torch.ones_like(p)
            optimizer.step()
        state, before = optimizer.state[p], p.item()
        unit = float(state["exp_avg"] / state["exp_avg_sq"].sqrt())
        reach = adam_reach(1.0, betas, 5000, amsgrad=amsgrad)
        for _ in range(3000):
            p.grad = torch.zeros_like(p)
            optimizer.step()
        measured = f"{before - p.item():.3f} (formula {reach * unit:.3f})"
        yield f"Adam's travel after a constant gradient, {name}, in lr", f"{expected}", measured


def weights_alone() -> Iterator[tuple[str, str, str]]:
    """The formula k* for decay of the weights alone, the prognosis, and torch."""
    setting = Setting(
        name="", kind="SGD", weight={"lr": 0.1, "weight_decay": 5e-3}, bias=BARE, steps=12_000, history=0
    )
    remains, run = bury(setting, 60, seed=7)
    weight, bias = (part.values.astype(np.float64) for part in remains.parts)
    nearest = np.abs(remains.features @ weight.T).min(axis=0)
    closed = [weight_only_return(b, m, 1 - 5e-4) for b, m in zip(bias[:, 0], nearest, strict=True)]
    first, foretold = run.play().first, predicted(foresee(remains, 12_000), remains)
    said = [(-1 if k is None or k > 12_000 else k) for k in closed]
    agree = sum(a == b == c for a, b, c in zip(said, first, foretold, strict=True))
    example = int(np.argmax(first))
    yield (
        "decay of weights alone: formula = prognosis = torch",
        "2752 = 2752 (one unit)",
        f"{agree} of 60 units; e.g. {said[example]} = {foretold[example]} = {first[example]}",
    )


def theorem() -> Iterator[tuple[str, str, str]]:
    """Kills by a momentum step: does coasting bring the unit back through a sample that it just lost?"""
    for nesterov, expected in ((False, "0 of 11,341"), (True, "252 of 16,046")):
        rng = np.random.default_rng(5)
        kills = through_lost = back = 0
        ball = HeavyBall(lr=0.1, momentum=0.9, nesterov=nesterov)
        ahead = np.array(list(itertools.islice(ball.coefficients(), 300)))
        while kills < 12_000:
            n = 4000
            features = np.c_[rng.normal(size=(24, 3)), np.ones(24)]
            p, v, g = rng.normal(size=(3, n, 4)) * np.array([1.0, 3.0, 10.0])[:, None, None]
            p[:, 3] -= 1.0
            v = 0.9 * v + g
            after = p - 0.1 * (g + 0.9 * v if nesterov else v)
            was, now, q = p @ features.T, after @ features.T, v @ features.T
            killed = (was > 0).any(1) & (now <= 0).all(1)
            was, now, q = was[killed], now[killed], q[killed]
            fires = (ahead[:, 0, None, None] * now - ahead[:, 1, None, None] * q > 1e-12).any(0)
            kills += int(killed.sum())
            back += int(fires.any(1).sum())
            through_lost += int((fires & (was > 0)).any(1).sum())
        name = "Nesterov" if nesterov else "momentum"
        measured = f"{through_lost:,} of {kills:,} (back through others: {back / kills:.1%})"
        yield f"kills undone by coasting through a lost sample, {name}", expected, measured


def underdamped() -> Iterator[tuple[str, str, str]]:
    latest, units, bound = 0, 0, 0
    for seed in range(5):
        setting = Setting(
            name="", kind="SGD", weight={"lr": 0.1, "momentum": 0.99, "weight_decay": 5e-4}, steps=1000
        )
        _, run = bury(setting, 100, seed)
        first = run.play().first
        units += int((first > 0).sum())
        latest = max(latest, int(first.max()))
        bound = HeavyBall(lr=0.1, momentum=0.99, decay=5e-4).latest_return or 0
    measured = f"{units} of 500, {latest}, {bound}"
    yield "underdamped: units that return, latest, bound", "100 %, 629, 630", measured


def long_runs() -> Iterator[tuple[str, str, str]]:
    """Adam with coupled decay for 12,000 steps, foretold only."""
    for name, kind, bias, expected in (
        ("Adam, decay of all, 12,000 steps at lr 1e-3", "Adam", {}, "100 %"),
        ("the same without decay of the bias", "Adam", BARE, "6 %"),
        ("AdamW, decay of all", "AdamW", {}, "0 %"),
    ):
        setting = Setting(
            name="", kind=kind, weight={"lr": 1e-3, "weight_decay": 1e-2}, bias=bias, steps=12_000, history=0
        )
        remains, _ = bury(setting, 200, seed=1)
        lifted = remains.parts[1].values[:, 0] > 0
        first = predicted(foresee(remains, 12_000), remains)
        shares = f"{(first[~lifted] > 0).mean():.0%} of b <= 0, {(first[lifted] > 0).mean():.0%} of b > 0"
        median = f"; median step {np.median(first[first > 0]):,.0f}" if (first > 0).any() else ""
        yield f"units that return: {name}", expected, shares + median


if __name__ == "__main__":
    main()
