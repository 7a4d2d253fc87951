"""Plants at least 300 kills and compares every reported death with the truth.

    .venv/bin/python bench/planted_kills.py [KILLS]

A kill is one step of a small training (tests/diagnosis/planted.py) whose update
silences units for good. For each: which units died, since which step, which
update killed, and how large that update was. Writes bench/results/planted_kills.md.
One process, one thread, about half a second a kill.
"""

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "diagnosis"))

import torch  # noqa: E402
from planted import NETS, OPTIMIZERS, Kill, Trained, faults, manners, plant  # noqa: E402


@dataclass
class Row:
    """What was counted under one optimiser."""

    kills: int = 0
    exact: int = 0
    harmless: int = 0
    dead: int = 0
    undecided: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, trained: Trained) -> None:
        truth = trained.truth
        found = faults(trained)
        self.kills += 1
        self.exact += not found
        self.faults += [f"{trained.kill}: {text}" for text in found]
        for path in truth.alive:
            decided = ~truth.undecided(path)
            self.dead += int((truth.dead(path) & decided).sum())
            self.undecided += int((~decided).sum())


def kills(count: int) -> Iterator[list[Kill]]:
    """For each kill wanted, candidates until one dies: optimisers by turns, then networks and manners."""
    luck = itertools.count(1)
    ways = {
        optimizer: itertools.cycle([(net, manner) for net in NETS for manner in manners(optimizer, net)])
        for optimizer in OPTIMIZERS
    }
    for _, optimizer in zip(range(count), itertools.cycle(OPTIMIZERS), strict=False):
        net, manner = next(ways[optimizer])
        yield [Kill(optimizer=optimizer, manner=manner, net=net, seed=next(luck)) for _ in range(5)]


def main() -> None:
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 306
    rows = {optimizer: Row() for optimizer in OPTIMIZERS}
    start = time.process_time()
    for candidates in kills(count):
        row = rows[candidates[0].optimizer]
        for kill in candidates:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    row.add(plant(kill, Path(folder)))
                    break
                except AssertionError as error:
                    if "nothing died" not in str(error):
                        raise
                    row.harmless += 1
    text = page(rows, time.process_time() - start)
    print(text)
    target = HERE / "results" / "planted_kills.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text(text)
    sys.exit(any(row.faults for row in rows.values()))


def page(rows: dict[str, Row], seconds: float) -> str:
    """The result as Markdown."""
    table = "\n".join(
        f"| {name} | {r.kills} | {r.exact} | {r.dead} | {r.undecided} | {r.harmless} |"
        for name, r in rows.items()
    )
    planted, exact = sum(r.kills for r in rows.values()), sum(r.exact for r in rows.values())
    wrong = "".join(f"\n- {text}" for r in rows.values() for text in r.faults)
    return f"""\
# Planted kills

Command: `.venv/bin/python bench/planted_kills.py {planted}`, {date.today()}, torch {torch.__version__},
one thread, {seconds:.0f} s of CPU time.

Of {planted} trainings in which one planted update killed units, {exact} are reported without any
difference from a brute-force forward pass over every batch: the set of the dead, each one's last step
alive, the first step of the finding, the killing update, and where the planted update killed most, that
update's size (to 0.1 %).

| optimiser | kills | reported exactly | dead units compared | left out | tries in which nothing died |
|---|---|---|---|---|---|
{table}

Left out are silent units whose silence proves little, since they fired on less than half of the batches
before it, and units that fired only where all of the next layer was off (blocked, not dead).
Networks: an MLP with one and with two hidden layers, a convolution with batch norm. Manners: the learning
rate multiplied for one step, a batch with wild targets, both, a large gradient on the biases of known
units.
{wrong}"""


if __name__ == "__main__":
    main()
