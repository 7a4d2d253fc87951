"""Made-up runs whose layers get no gradient, each for another reason; see ``cases``."""

from dataclasses import replace

import numpy as np

from defib.core.evidence import Unseen
from defib.core.run import Event, RunView
from defib.core.wiring import Layer
from defib.diagnosis.case_parts import CLASSES, objective_of
from defib.diagnosis.cases import Plan, flat_loss, norms_of, run_of


def with_gradient(
    gradient: float, loss: np.ndarray[tuple[int], np.dtype[np.float64]], cut: str = "", **plan: dict[int, int]
) -> RunView:
    """Two layers and an output; the size of the first's gradient is given."""
    sizes = {"fc1.weight": gradient, "fc1.bias": gradient, "fc2.weight": 0.1, "head.weight": 0.1}
    return run_of(
        Plan(path="fc1"),
        Plan(path="fc2", dies=plan.get("dies", {})),
        loss=loss,
        norms=norms_of({name: np.full(20, size) for name, size in sizes.items()}),
        events=[Event(step=0, kind="cut", data={"operation": cut, "layer": "fc1"})] if cut else [],
    )


def mostly_without_gradient(loss: np.ndarray[tuple[int], np.dtype[np.float64]]) -> RunView:
    """Only the last of three layers gets a gradient."""
    sizes = {"fc1.weight": 0.0, "fc1.bias": 0.0, "fc2.weight": 0.0, "fc2.bias": 0.0, "head.weight": 0.1}
    norms = norms_of({name: np.full(20, size) for name, size in sizes.items()})
    return run_of(Plan(path="fc1"), Plan(path="fc2"), loss=loss, norms=norms)


def hardly_read(loss: np.ndarray[tuple[int], np.dtype[np.float64]]) -> RunView:
    """Three readings, all gradients zero."""
    zeros = {"fc1.weight": np.zeros(3), "fc1.bias": np.zeros(3), "head.weight": np.zeros(3)}
    return run_of(Plan(path="fc1", gradient=(0.0, 0.0)), loss=loss, norms=norms_of(zeros))


def never_reached(
    loss: np.ndarray[tuple[int], np.dtype[np.float64]], owner: int = 0, output: str = ""
) -> RunView:
    """No gradient was found on twenty readings; the output layer, if it is known, and who owns the layers."""
    run = run_of(Plan(path="fc1"), loss=loss)
    return replace(
        run,
        facts={**run.facts, "overhead": {"readings": 20}},
        layers=tuple(replace(layer, optimizer=owner) for layer in run.layers),
        objective=objective_of(CLASSES, output=output) if output else None,
    )


def zero_again(loss: np.ndarray[tuple[int], np.dtype[np.float64]]) -> RunView:
    """Gradients reach the units, and the parameters' are exactly zero, all of them."""
    zeros = {name: np.zeros(20) for name in ("fc1.weight", "fc1.bias", "head.weight", "head.bias")}
    return run_of(Plan(path="fc1"), loss=loss, norms=norms_of(zeros))


def stepping_copies(gradient: float) -> RunView:
    """An optimiser that steps copies of the weights."""
    run = run_of(Plan(path="fc1"), loss=flat_loss(), norms=norms_of({"parameter[0]": np.full(20, gradient)}))
    return replace(run, layers=tuple(replace(layer, optimizer=-1) for layer in run.layers))


def with_a_detached_layer(loss: np.ndarray[tuple[int], np.dtype[np.float64]]) -> RunView:
    """A layer that no backward reaches, another, and an output."""
    run = run_of(
        Plan(path="fc2"),
        loss=loss,
        norms=norms_of({"fc2.weight": np.full(20, 0.1), "head.weight": np.full(20, 0.1)}),
    )
    lost = Layer(path="fc1", kind="Linear", units=8, parameters=("fc1.weight", "fc1.bias"), optimizer=0)
    return replace(
        run, layers=(lost, *run.layers), unseen=(Unseen(what="fc1", why="no backward was seen to reach it"),)
    )
