"""Decades of gradient per layer at the start, by activation and initialisation: bench/results/ledger.md.

``python bench/ledger.py``; 20 layers of 256 units on digits, mean and spread over 5 seeds.
"""

import math
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from defib.core.checkup import GainLedger
from defib.probe.checkup import check_up

DEPTH, WIDTH, SEEDS = 20, 256, 5
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "ReLU": nn.ReLU,
    "leaky ReLU 0.3": lambda: nn.LeakyReLU(0.3),
    "GELU": nn.GELU,
}
STARTS: dict[str, Callable[[Tensor], object]] = {
    "default": lambda weight: weight,
    "Xavier": nn.init.xavier_normal_,
    "He": nn.init.kaiming_normal_,
}


def network(activation: Callable[[], nn.Module], start: str) -> nn.Sequential:
    modules: list[nn.Module] = []
    for i in range(DEPTH):
        linear = nn.Linear(WIDTH if i else 64, WIDTH)
        STARTS[start](linear.weight)
        if start != "default":
            nn.init.zeros_(linear.bias)
        modules += [linear, activation()]
    return nn.Sequential(*modules, nn.Linear(WIDTH, 10)).double()


def measured(activation: Callable[[], nn.Module], start: str, seed: int) -> GainLedger:
    torch.manual_seed(seed)
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[:256])
    batch = ((x - x.mean(0)) / x.std(), torch.tensor(labels[:256]))
    ledger = check_up(network(activation, start), batch).ledger
    assert ledger is not None
    return ledger


def row(name: str, start: str) -> str:
    ledgers = [measured(ACTIVATIONS[name], start, seed) for seed in range(SEEDS)]
    hidden = [ledger.stretches[1:] for ledger in ledgers]  # the first crosses the narrow output layer
    derivative = [math.fsum(s.gain.derivative for s in h) / len(h) for h in hidden]
    weights = [math.fsum(s.gain.weights for s in h) / len(h) for h in hidden]
    total = [ledger.gain.total for ledger in ledgers]
    error = max(abs(10**x.gain.total / (x.end / x.start) - 1) for x in ledgers)
    cells = (f"{statistics.mean(v):+.4f} ± {statistics.stdev(v):.4f}" for v in (derivative, weights))
    return f"| {name} | {start} | {' | '.join(cells)} | {statistics.mean(total):+.2f} | {error:.0e} |"


def main() -> None:
    torch.set_num_threads(1)
    lines = [
        "# The gain ledger at the start",
        "",
        f"`python bench/ledger.py`: {DEPTH} layers of {WIDTH} units on digits, float64, mean ± standard",
        f"deviation over {SEEDS} seeds. Decades (log10) of the gradient's norm per layer; the total is",
        "that of the whole network; the last column is how far the product of the parts is from the",
        "measured ratio.",
        "",
        "| activation | weights | derivative | weights | total | error of the product |",
        "|---|---|---|---|---|---|",
        *(row(name, start) for name in ACTIVATIONS for start in STARTS),
        "",
    ]
    Path(__file__).with_name("results").joinpath("ledger.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
