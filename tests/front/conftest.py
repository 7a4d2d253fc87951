"""Hand-made diagnoses, and the real command in a real process."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from defib.core.cause import Cause, Fault
from defib.core.coverage import Coverage, Overhead
from defib.core.diagnosis import Diagnosis, Verdict
from defib.core.evidence import Evidence, Unseen
from defib.core.finding import Confidence, Finding, Severity
from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.core.wiring import Layer, Wiring
from defib.record.writer import Writer

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def defib(tmp_path) -> Command:
    """Runs ``python -m defib`` in an empty folder."""

    def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "defib", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            timeout=60,
            env={**clean_environ(), **environ},
        )

    return run


@pytest.fixture
def clean() -> dict[str, str]:
    return clean_environ()


def clean_environ() -> dict[str, str]:
    """This environment without settings of ours in it."""
    return {k: v for k, v in os.environ.items() if not k.startswith("DEFIB_") and k != "RANK"}


@pytest.fixture
def consequence() -> Finding:
    return Finding(
        rule="vanishing-gradient",
        fault=Fault.VANISHING,
        severity=Severity.ERROR,
        confidence=Confidence.MEASURED,
        layer="fc1",
        cause=Cause.ACTIVATION_DERIVATIVE,
        message="No gradient reaches fc1.",
    )


@pytest.fixture
def finding(consequence) -> Finding:
    return Finding(
        rule="dead-unit",
        fault=Fault.DEAD_UNITS,
        severity=Severity.ERROR,
        confidence=Confidence.EXACT,
        layer="fc2",
        cause=Cause.DIED_AT_STEP,
        message="4 of 8 units of fc2 stopped firing at step 41.",
        units=(0, 1, 2, 6),
        units_total=8,
        since_step=41,
        evidence=(
            Evidence(name="silent samples", value=5120, unit="samples"),
            Evidence(name="firing rate at most", value=0.000586),
        ),
        modules=("fc2", "relu2"),
        explains=(consequence,),
        try_next=("lower the learning rate",),
    )


@pytest.fixture
def sick(finding) -> Diagnosis:
    return Diagnosis(
        run={"path": "runs/a.rec", "status": "finished"},
        verdict=Verdict.SICK,
        coverage=Coverage(
            layers=3,
            observed=2,
            not_observed=(Unseen(what="head", why="runs inside torch.compile"),),
            steps=200,
            readings=14,
            samples=448,
        ),
        overhead=Overhead(ratio=0.0081, seconds=0.5, budget=0.01, period=16),
        findings=(finding,),
    )


@pytest.fixture
def healthy(sick) -> Diagnosis:
    return replace(sick, verdict=Verdict.HEALTHY, findings=())


@pytest.fixture(scope="session")
def record(tmp_path_factory) -> Path:
    """A record of a short run in which unit 2 of fc1 never fired, made by the real writer."""
    path = tmp_path_factory.mktemp("records") / "small.rec"
    write_record(path)
    return path


def write_record(path: Path, dead: bool = True, learns: bool = False) -> None:
    """Forty steps of a network 4-8-2 with a ReLU; the whole of fc1 is dead or nothing is."""
    steps, units = 40, 8
    writer = Writer.create(path)
    writer.facts({"target": "train.py", "python": "3.11"})
    fc1 = Layer(path="fc1", kind="Linear", units=units, parameters=("fc1.weight", "fc1.bias"), optimizer=0)
    fc2 = Layer(path="fc2", kind="Linear", units=2, parameters=("fc2.weight", "fc2.bias"), optimizer=0)
    writer.layers((fc1, fc2))
    wired = Wiring(
        site=Site(path="fc1"),
        activation="relu",
        operation="ReluBackward0",
        units=units,
        order=0,
        modules=("fc1",),
    )
    writer.wirings((wired,), ("NllLossBackward0",))
    writer.optimizer(
        0, {"kind": "SGD", "steps": steps, "groups": [{"lr": 0.1}], "parameters": list(fc1.parameters)}
    )
    loss = np.linspace(2.3, 0.1 if learns else 2.3, steps, dtype=np.float32)
    writer.stream(0, 0, {"loss": loss, "lr": np.full(steps, 0.1, np.float32)})
    alive = np.array([[0] * units, [steps - 1] * units, [steps] * units], np.int32)
    silent = np.array([[-1] * units, [-1] * units, [0] * units], np.int32)
    facts = {"steps": steps, "last_step": steps - 1, "period": 1, "batch": 64.0}
    writer.liveness(0, "fc1", {"source": "fc1.bias", **facts}, silent if dead else alive)
    writer.liveness(0, "fc2", {"source": "fc2.bias", **facts}, alive[:, :2])
    for first in range(0, steps, 10):
        z = np.random.default_rng(first).normal(-9.0 if dead else 0.0, 1.0, (64, units))
        writer.reading(Site(path="fc1"), Signal.PREACTIVATION, first, first, tally(z))
        writer.reading(Site(path="fc1"), Signal.ACTIVATION, first, first, tally(np.maximum(z, 0)))
    writer.close("finished")


def tally(values: np.ndarray) -> Tally:
    """The tally of samples by units, of a ReLU."""
    off = (values <= 0).sum(0).astype(float)
    return Tally(
        samples=len(values),
        count=np.full(values.shape[1], float(len(values))),
        positive=(values > 0).sum(0).astype(float),
        zero=(values == 0).sum(0).astype(float),
        saturated=off,
        flat=off,
        nonfinite=np.zeros(values.shape[1]),
        total=values.sum(0),
        squares=(values**2).sum(0),
        low=values.min(0),
        high=values.max(0),
    )


@pytest.fixture(scope="session")
def healthy_record(tmp_path_factory) -> Path:
    """A record of a short run that learns."""
    path = tmp_path_factory.mktemp("records") / "healthy.rec"
    write_record(path, dead=False, learns=True)
    return path


@pytest.fixture(scope="session")
def empty_record(tmp_path_factory) -> Path:
    """A record of a script that never trained."""
    path = tmp_path_factory.mktemp("records") / "empty.rec"
    writer = Writer.create(path)
    writer.facts({"target": "train.py"})
    writer.close("finished")
    return path
