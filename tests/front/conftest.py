"""Hand-made diagnoses, and the real command in a real process."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from defib.core.finding import (
    Cause,
    Confidence,
    Coverage,
    Diagnosis,
    Evidence,
    Fault,
    Finding,
    Overhead,
    Severity,
    Unseen,
    Verdict,
)

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
