"""`defib triage` on the command line: text in 80 columns, JSON, and one line for each mistake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NETS = """
import torch
from torch import nn


def zeros():
    net = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4))
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    return net


def fresh():
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


def batch():
    y = torch.arange(300) % 4
    return torch.randn(300, 16) + 2 * nn.functional.one_hot(y, 16).float(), y


def loader():
    data = torch.utils.data.TensorDataset(*batch())
    return torch.utils.data.DataLoader(data, batch_size=50)


def broken_loss(output, target):
    raise ValueError("no luck")
"""


def defib(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "own.py").write_text(NETS, encoding="utf-8")
    environ = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "defib", "triage", *words],
        cwd=folder,
        env=environ,
        text=True,
        capture_output=True,
    )


def test_a_saddle_is_told_with_its_evidence_in_80_columns(tmp_path: Path) -> None:
    done = defib(tmp_path, "own:zeros", "--batch", "own:batch")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("defib: strict-saddle (measured)\n\nStrict saddle: curvature -0.5")
    for part in ("asked in this order", "gradient of", "curvature from", "way down", "The output layer's"):
        assert part in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_json_has_every_number_and_no_direction(tmp_path: Path) -> None:
    done = defib(tmp_path, "own:zeros", "--batch", "own:batch", "--json")
    answer = json.loads(done.stdout)
    assert (answer["schema"], answer["verdict"]) == ("defib.triage/1", "strict-saddle")
    assert answer["curvature"]["lambda_max"] == pytest.approx(-answer["curvature"]["lambda_min"])
    assert answer["escape"]["decrease"] > 0
    assert {t["state"] for t in answer["tensors"]} <= {"zero", "cancelled"}
    assert len(done.stdout) < 10_000


def test_batches_of_a_loader_are_taken_up_to_the_number_given(tmp_path: Path) -> None:
    facts = [
        json.loads(defib(tmp_path, "own:fresh", "--batch", "own:loader", "--json", *more).stdout)["facts"]
        for more in ((), ("--batches", "2"))
    ]
    assert [(f["batches"], f["samples"]) for f in facts] == [(6, 300), (2, 100)]


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["own:nothing", "--batch", "own:batch"], 66, "defib: own has no nothing"),
        (["own:batch", "--batch", "own:batch"], 64, "defib: own:batch gives a tuple, not a torch.nn.Module"),
        (
            ["own:fresh", "--batch", "own:batch", "--batches", "0"],
            64,
            "defib: --batches takes a whole number from 1, not '0'",
        ),
        (
            ["own:fresh", "--batch", "own:batch", "--memory", "much"],
            64,
            "defib: a size is written as 4G or 500M, not 'much'",
        ),
        (
            ["own:fresh", "--batch", "own:batch", "--loss", "own:broken_loss"],
            64,
            "defib: the model or the loss raised ValueError: no luck (at own.py:28)",
        ),
    ],
)
def test_every_mistake_is_one_clear_line(tmp_path: Path, words: list[str], code: int, line: str) -> None:
    done = defib(tmp_path, *words)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", line + "\n")
