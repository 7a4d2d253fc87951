"""The step of each death and the update that killed are exact: against a forward pass over every batch."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import planted
import pytest
import torch
from planted import Kill, Trained, faults, plant

from defib.core.cause import Cause

CHOSEN = [
    Kill(optimizer=optimizer, manner=manner, net=net, seed=1000 + i)
    for i, (optimizer, manner, net) in enumerate(
        (
            ("SGD", "learning rate", "mlp"),
            ("SGD", "outlier batch", "deep"),
            ("momentum", "both", "mlp"),
            ("momentum", "known units", "deep"),
            ("Nesterov", "learning rate", "deep"),
            ("Nesterov", "known units", "conv"),
            ("Adam", "learning rate", "mlp"),
            ("Adam", "both", "deep"),
            ("AdamW", "known units", "mlp"),
            ("AdamW", "learning rate", "deep"),
            ("RMSprop", "known units", "deep"),
            ("RMSprop", "both", "mlp"),
        )
    )
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kill", CHOSEN, ids=lambda k: f"{k.optimizer}, {k.manner}, {k.net}")
def test_the_dead_their_steps_and_the_killing_update_are_those_of_the_truth(
    kill: Kill, tmp_path: Path
) -> None:
    trained = plant(kill, tmp_path)
    assert trained.truth.killed(kill.step) >= 1
    assert faults(trained) == []


def test_known_units_are_named(tmp_path: Path) -> None:
    """Units pushed under by hand are reported dead since the step after."""
    trained = plant(Kill(optimizer="SGD", manner="known units", net="mlp", seed=4), tmp_path)
    truth = trained.truth
    killed = set(np.flatnonzero(truth.dead("fc1") & (truth.last("fc1") == trained.kill.step)).tolist())
    (finding,) = [f for f in trained.findings if f.rule == "dead-unit" and f.cause is Cause.DIED_AT_STEP]
    assert killed
    assert killed <= set(planted.KNOWN)
    assert killed <= set(finding.units)
    assert {e.name: e.value for e in finding.evidence}["killing update"] == trained.kill.step


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    trained: Trained = plant(CHOSEN[0], tmp_path)
    late = {path: np.roll(alive, 1, axis=0) for path, alive in trained.truth.alive.items()}
    moved = replace(trained, truth=replace(trained.truth, alive=late, heard=late))
    assert any("last step alive" in text for text in faults(moved))
    silent = replace(trained, findings=())
    assert any("reported []" in text for text in faults(silent))
