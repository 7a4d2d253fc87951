"""`defib check` leaves every healthy network alone at its start (R27, R28)."""

import math
from collections.abc import Callable
from typing import Any

import nets
import pytest
import torch
import torch.nn.functional as F
from jobs import Job, digit_vectors
from torch import Tensor, nn

import defib
from defib.core.diagnosis import Verdict
from defib.core.finding import Severity


class Codes(nn.Module):
    """The sparse autoencoder with its codes as a second output."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(x), self.net[:2](x)  # type: ignore[index]


class Adversaries(nn.Module):
    """Both halves of the GAN; the judge's and the generator's losses together reach every parameter."""

    def __init__(self, both: nn.ModuleDict) -> None:
        super().__init__()
        self.both = both

    def forward(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        fake = self.both["generator"](noise)
        return self.both["judge"](fake), self.both["judge"](fake.detach())


def setting(name: str, job: Job) -> tuple[nn.Module, Any, Callable[..., Tensor]]:
    """Model, batch and loss of a job, which has them in its step's closure."""
    if name == "sparse_autoencoder":
        x, _ = next(digit_vectors())
        return Codes(job.model), (x, x), lambda o, y: F.mse_loss(o[0], y) + 1e-3 * o[1].abs().mean()
    if name == "gan":
        noise = torch.randn(64, 4)
        return (
            Adversaries(job.model),
            (noise, noise),
            lambda o, _y: (F.softplus(-o[0]) + F.softplus(o[1])).mean(),
        )  # type: ignore[arg-type]
    cells = dict(zip(job.step.__code__.co_freevars, job.step.__closure__ or (), strict=True))
    return job.model, next(cells["batches"].cell_contents), cells["loss"].cell_contents


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", nets.STOCK)
def test_a_healthy_network_is_left_alone_before_training(name: str, seed: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model, batch, loss = setting(name, nets.STOCK[name]())
    checkup = defib.check(model, batch, loss)
    alarms = [finding for finding in checkup.findings if finding.severity is not Severity.INFO]
    assert not alarms, alarms
    assert checkup.verdict is Verdict.HEALTHY
    assert math.isfinite(checkup.loss)
    ledger = checkup.ledger
    assert ledger is not None, "silence is worth something only where the gradient was followed"
    assert ledger.stretches
    assert abs(10 ** (ledger.gain.total) / (ledger.end / ledger.start) - 1) < 0.01
