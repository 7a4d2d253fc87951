"""A run as if it had begun later, or ended earlier: what holds since a treatment, what held before it."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defib.core.objective import Objective
from defib.core.optimizer import Norms, Optimizer, Pairs
from defib.core.reading import Liveness
from defib.core.run import RunView
from defib.core.series import Series
from defib.core.sharpness import Sharpness


def since(run: RunView, step: int) -> RunView:
    """Only what was seen at or after a step.

    Liveness keeps its last gradients, which are all that is asked about a unit now;
    a unit whose last one lies before ``step`` counts as silent since then.

    Args:
        run: The whole run.
        step: First step that counts.

    Returns:
        The later part, under the run's own count of steps.
    """
    at = run.flow_steps >= step
    return replace(
        run,
        readings=tuple(r for r in run.readings if r.first >= step),
        liveness={path: _liveness(live, step) for path, live in run.liveness.items()},
        optimizers=tuple(_optimizer(o, step) for o in run.optimizers),
        norms=None if run.norms is None else _norms(run.norms, run.norms.steps >= step),
        pairs={index: _pairs(pairs, pairs.steps >= step) for index, pairs in run.pairs.items()},
        sharpness={index: _sharp(sharp, sharp.steps >= step) for index, sharp in run.sharpness.items()},
        logged={name: _part(series, series.steps >= step) for name, series in run.logged.items()},
        flow_steps=run.flow_steps[at],
        flow={key: values[at] for key, values in run.flow.items()},
        events=tuple(e for e in run.events if e.step >= step or e.step < 0),
        exhibits=tuple(e for e in run.exhibits if e.step >= step),
        objective=None if run.objective is None else _objective(run.objective, run.objective.steps >= step),
    )


def until(run: RunView, step: int) -> RunView:
    """Only what was seen before a step.

    Of the liveness of units, the state at the run's end is all that is kept: of an earlier
    end it is not known, and it is left out.

    Args:
        run: The whole run.
        step: First step that does not count.

    Returns:
        The earlier part.
    """
    at = run.flow_steps < step
    return replace(
        run,
        readings=tuple(r for r in run.readings if r.last < step),
        liveness={},
        optimizers=tuple(_ended(o, step) for o in run.optimizers),
        norms=None if run.norms is None else _norms(run.norms, run.norms.steps < step),
        pairs={index: _pairs(pairs, pairs.steps < step) for index, pairs in run.pairs.items()},
        sharpness={index: _sharp(sharp, sharp.steps < step) for index, sharp in run.sharpness.items()},
        logged={name: _part(series, series.steps < step) for name, series in run.logged.items()},
        flow_steps=run.flow_steps[at],
        flow={key: values[at] for key, values in run.flow.items()},
        events=tuple(e for e in run.events if e.step < step),
        exhibits=tuple(e for e in run.exhibits if e.step < step),
        objective=None if run.objective is None else _objective(run.objective, run.objective.steps < step),
    )


def _part(series: Series, kept: NDArray[np.bool_]) -> Series:
    return Series(steps=series.steps[kept], values=series.values[kept])


def _ended(optimizer: Optimizer, step: int) -> Optimizer:
    streams: dict[str, Any] = {}
    for name in ("loss", "lr", "scale", "displacement"):
        series: Series = getattr(optimizer, name)
        streams[name] = _part(series, series.steps < step)
    return replace(optimizer, steps=min(optimizer.steps, step), **streams)


def _optimizer(optimizer: Optimizer, step: int) -> Optimizer:
    streams: dict[str, Any] = {
        name: _part(series, series.steps >= step)
        for name in ("loss", "lr", "scale")
        for series in (getattr(optimizer, name),)
    }
    # the way since then cannot be told from distances to an earlier start
    return replace(optimizer, **streams, displacement=Series.empty())


def _liveness(live: Liveness, step: int) -> Liveness:
    """Units that got a gradient since then are alive; the count of such steps is not known that finely."""
    steps = max(0, min(live.steps, live.last_step + 1 - step))
    alive = live.last_alive >= step
    return replace(
        live,
        steps=steps,
        first_alive=np.where(alive, np.maximum(live.first_alive, step), -1),
        last_alive=np.where(alive, live.last_alive, -1),
        alive_steps=np.where(alive, np.minimum(live.alive_steps, steps), 0),
    )


def _norms(norms: Norms, kept: NDArray[np.bool_]) -> Norms:
    return replace(norms, **_cut(norms, kept, ("steps", "gradient", "weight", "update", "swallowed")))


def _pairs(pairs: Pairs, kept: NDArray[np.bool_]) -> Pairs:
    return replace(pairs, **_cut(pairs, kept, tuple(vars(pairs))))


def _sharp(sharpness: Sharpness, kept: NDArray[np.bool_]) -> Sharpness:
    return replace(sharpness, **_cut(sharpness, kept, tuple(vars(sharpness))))


def _objective(objective: Objective, kept: NDArray[np.bool_]) -> Objective:
    columns = {name: values[kept] for name, values in objective.columns.items()}
    return replace(objective, steps=objective.steps[kept], columns=columns)


def _cut(part: object, kept: NDArray[np.bool_], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(part, name)[kept] for name in names}
