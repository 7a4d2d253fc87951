"""Healthy networks of every family are left alone (R27, R28, R31, R34)."""

from pathlib import Path

import nets
import pytest
import torch
from jobs import Job, digits

import defib
from defib.core.diagnosis import Verdict
from defib.core.finding import Severity


def train(job: Job) -> list[float]:
    return [job.step() for _ in range(job.steps)]


def fell(losses: list[float], drop: float) -> bool:
    tenth = max(len(losses) // 10, 5)
    return sum(losses[-tenth:]) / tenth <= drop * sum(losses[:5]) / 5


@pytest.fixture(autouse=True)
def one_thread_and_one_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def test_the_stock_is_large() -> None:
    assert len(nets.STOCK) >= 14


def test_the_net_of_mostly_zeros_is_sparse_and_has_no_dead_unit() -> None:
    job = nets.STOCK["mostly_zeros"]()
    train(job)
    x = digits()[0]
    with torch.no_grad():
        fires = job.model[:2](x - x.mean(0)) > 0  # type: ignore[index]
    assert 0.05 < fires.float().mean() < 0.15
    assert fires.any(0).all()


@pytest.mark.parametrize("name", nets.STOCK)
def test_a_healthy_network_raises_no_alarm(name: str, tmp_path: Path) -> None:
    job = nets.STOCK[name]()
    with defib.watch(job.model, job.optimizers, output=tmp_path / "healthy.rec") as run:
        losses = train(job)
    assert fell(losses, job.drop), "the network is to learn, or its silence proves nothing"
    diagnosis = run.diagnose()
    alarms = [finding for finding in diagnosis.findings if finding.severity != Severity.INFO]
    assert not alarms, alarms
    assert diagnosis.verdict is Verdict.HEALTHY
    assert diagnosis.coverage.readings > 0
    assert diagnosis.coverage.samples > 0
    assert not diagnosis.not_run
    assert run.faults == 0
