"""Made-up runs whose first weights are of a size, or all alike; see ``cases``."""

from dataclasses import replace

import numpy as np

from defib.core.reading import Reading
from defib.core.run import RunView
from defib.diagnosis.case_parts import CLASSES, objective_of, sizes_of
from defib.diagnosis.cases import Plan, run_of


def begun(loss: np.ndarray[tuple[int], np.dtype[np.float64]], **norms: float) -> RunView:
    """Three hidden layers and a head whose units' first weights have those norms; level ones unless said."""
    plans = [Plan(path=f"fc{i}") for i in (1, 2, 3)]
    units = {"fc1": 8, "fc2": 8, "fc3": 8, "head": 10}
    sizes = {f"{path}.weight": (norms.get(path, 1.414) * width**0.5, 0.001) for path, width in units.items()}
    run = run_of(*plans, loss=loss, norms=sizes_of(sizes))
    return replace(run, objective=objective_of(CLASSES))


def multiplying(
    loss: np.ndarray[tuple[int], np.dtype[np.float64]], factor: float, growth: float = 5.0
) -> RunView:
    """Four hidden layers whose first weights are that many times level ones, and what their signal does."""
    plans = [Plan(path=f"fc{i}", forward=(growth**i, growth**i)) for i in range(4)]
    sizes = {f"fc{i}.weight": (factor * 4.0, 0.2) for i in range(4)}  # 4: level for 8 units behind ReLUs
    run = run_of(*plans, loss=loss, norms=sizes_of({**sizes, "head.weight": (1.0, 0.01)}))
    return replace(run, objective=objective_of(CLASSES))


def alike_in_one_layer(loss: np.ndarray[tuple[int], np.dtype[np.float64]]) -> RunView:
    """Two layers; in the first, all units give the same numbers."""
    run = begun(loss)
    return replace(run, readings=tuple(_alike_in(r, "fc1") for r in run.readings))


def _alike_in(reading: Reading, path: str) -> Reading:
    """The same reading, with one sum for all units if it is of that layer."""
    if reading.site.path != path:
        return reading
    return replace(reading, tally=replace(reading.tally, total=np.ones(reading.tally.units)))
