"""`defib check` on the command line: factories by name, one line for each mistake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NETS = """
import torch
from torch import nn


def deep():
    return nn.Sequential(*[m for _ in range(10) for m in (nn.Linear(16, 16), nn.Sigmoid())], nn.Linear(16, 4))


def good():
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        raise ValueError("no luck")


def broken():
    raise OSError("no such disk")


def batch():
    return torch.randn(32, 16), torch.arange(32) % 4


def small_loss(output, target):
    return nn.functional.cross_entropy(output, target) / 2


MODEL = good()
"""


def defib(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "mine.py").write_text(NETS, encoding="utf-8")
    environ = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "defib", "check", *words],
        cwd=folder,
        env=environ,
        text=True,
        capture_output=True,
    )


def test_a_deep_sigmoid_network_is_told_with_its_ledger_in_80_columns(tmp_path: Path) -> None:
    done = defib(tmp_path, "mine:deep", "--batch", "mine:batch", "--fail-on", "warning")
    assert done.returncode == 1
    assert done.stderr == ""
    assert done.stdout.startswith("defib: sick: 1 cause of trouble before any training (vanishing-gradient).")
    assert "gain ledger: decades of gradient from layer 20 down to layer 0" in done.stdout
    assert "\nin all " in done.stdout
    assert "\nper layer " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    "loss",
    [(), ("--loss", "torch.nn:CrossEntropyLoss"), ("--loss", "mine:small_loss")],
    ids=["usual", "class", "own"],
)
def test_a_healthy_network_passes_the_gate(tmp_path: Path, loss: tuple[str, ...]) -> None:
    done = defib(tmp_path, "mine:good", "--batch", "mine:batch", *loss, "--fail-on", "info", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["schema"] == "defib.checkup/1"
    assert answer["verdict"] == "healthy"
    assert answer["loss"] == pytest.approx(0.7 if "mine:small_loss" in loss else 1.4, abs=0.2)
    assert {layer["path"] for layer in answer["layers"]} == {"0", "2"}


def test_two_checks_with_one_seed_give_the_same_answer(tmp_path: Path) -> None:
    words = ("mine:deep", "--batch", "mine:batch", "--json", "--seed")
    first, again, other = (defib(tmp_path, *words, seed).stdout for seed in ("3", "3", "4"))
    assert first == again != other


@pytest.mark.parametrize(
    ("model", "code", "line"),
    [
        ("mine:Net", 64, "defib: the model raised ValueError: no luck (at mine.py:20)"),
        ("mine:broken", 64, "defib: mine:broken raised OSError: no such disk (at mine.py:24)"),
        ("mine:nothing", 66, "defib: mine has no nothing"),
        ("yours:net", 66, "defib: no such module: yours"),
        ("mine", 64, "defib: write module:factory (my_project.nets:make_model), not 'mine'"),
        ("mine:batch", 64, "defib: mine:batch gives a tuple, not a torch.nn.Module"),
    ],
)
def test_every_mistake_is_one_clear_line(tmp_path: Path, model: str, code: int, line: str) -> None:
    done = defib(tmp_path, model, "--batch", "mine:batch")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", line + "\n")


def test_a_model_that_exists_already_is_taken_as_it_is(tmp_path: Path) -> None:
    assert defib(tmp_path, "mine:MODEL", "--batch", "mine:batch").returncode == 0


def test_the_pages_of_its_own_findings_are_explained_without_torch() -> None:
    code = (
        "import sys; from defib import catalogues; "
        "print(catalogues.explain('gradient-path'), catalogues.explain('untrue-backward'), "
        "'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True).stdout
    assert "## False alarms" in said
    assert said.endswith("False\n")
