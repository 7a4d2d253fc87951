"""Small real records for the tests of the record."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.core.wiring import Layer, Wiring
from defib.record.writer import Writer

FC1 = Site(path="fc1")
FC2 = Site(path="fc2", call=1)
ACTIVATION = Signal.ACTIVATION
GRADIENT = Signal.ACTIVATION_GRAD


def tally_of(entries: ArrayLike) -> Tally:
    """The tally of samples by units, shape (N, U), the slow obvious way."""
    z = np.asarray(entries, dtype=np.float64)
    finite = np.isfinite(z)
    kept = np.where(finite, z, 0.0)
    return Tally(
        samples=len(z),
        count=np.full(z.shape[1], float(len(z))),
        positive=(z > 0).sum(0).astype(float),
        zero=(z == 0).sum(0).astype(float),
        saturated=np.zeros(z.shape[1]),
        flat=(z <= 0).sum(0).astype(float),
        nonfinite=(~finite).sum(0).astype(float),
        total=kept.sum(0),
        squares=(kept**2).sum(0),
        low=np.where(finite, z, np.inf).min(0),
        high=np.where(finite, z, -np.inf).max(0),
    )


def alive(steps: int, units: int, **facts: float) -> tuple[dict[str, Any], Any]:
    """Liveness of a layer whose unit k died at step k."""
    last = np.minimum(np.arange(units), steps - 1)
    state = np.stack([np.zeros(units), last, last + 1]).astype(np.int32)
    known = {"source": "fc1.bias", "steps": steps, "last_step": steps - 1, "period": 1, "batch": 32.0}
    return known | facts, state


def fill(writer: Writer, steps: int = 40, units: int = 6, seed: int = 0) -> None:
    """Says to a writer what a small run would."""
    rng = np.random.default_rng(seed)
    writer.facts({"script": "train.py", "rank": seed})
    writer.layers(
        (
            Layer(path="fc1", kind="Linear", units=units, parameters=("fc1.weight", "fc1.bias"), optimizer=0),
            Layer(
                path="fc2", kind="Linear", units=units, parameters=("fc2.weight",), optimizer=0, frozen=True
            ),
        )
    )
    writer.wirings(
        (
            Wiring(site=FC1, activation="relu", operation="ReluBackward0", units=units, order=0),
            Wiring(
                site=FC2,
                activation="leaky_relu",
                operation="LeakyReluBackward0",
                units=units,
                order=1,
                modules=("fc2", "act"),
                inputs=(FC1,),
                skips=(FC1,),
                normalised=True,
                options={"negative_slope": 0.01},
                dtype="float16",
            ),
        ),
        ("NllLossBackward0", "LogSoftmaxBackward0"),
    )
    writer.optimizer(0, {"kind": "Adam", "parameters": ["fc1.weight", "fc1.bias"], "groups": [{"lr": 0.1}]})
    for step in range(steps):
        writer.stream(0, step, {"loss": rng.normal(size=1).astype("f4"), "lr": np.full(1, 0.1, "f4")})
        if step % 4 == 0:
            writer.flow(step, {(FC1, ACTIVATION): float(step), (FC2, ACTIVATION): 1e-40 * step})
            writer.norms(step, ("fc1.weight", "fc1.bias"), rng.normal(size=(4, 2)).astype("f4"))
    writer.optimizer(0, {"steps": steps})
    writer.liveness(0, "fc1", *alive(steps, units))
    for first in range(0, steps, 10):
        for site in (FC1, FC2):
            writer.reading(site, ACTIVATION, first, first + 9, tally_of(rng.normal(size=(8, units))))
    writer.event(3, "compiled", {"where": "fc1"})


def record(path: Path, status: str | None = "finished", **sizes: int) -> Path:
    """A record of a small run; ``status`` None leaves the writer's last words unsaid."""
    writer = Writer.create(path)
    fill(writer, **sizes)
    assert writer.flush()
    assert writer.fault is None
    if status is not None:
        writer.close(status)
        assert writer.fault is None
    return path


def killed(path: Path, **sizes: int) -> Path:
    """The record of a process that was killed right after a flush, its log still beside it."""
    child = os.fork()
    if child == 0:
        try:
            record(path, status=None, **sizes)
        finally:
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    return path
