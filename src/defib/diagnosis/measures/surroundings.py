"""What happened around one step, and around one layer."""

import numpy as np

from defib.core.finding import Evidence
from defib.core.run import Optimizer, RunView, Series
from defib.core.site import Signal
from defib.diagnosis.measures.wires import Wires


def around(run: RunView, path: str, step: int) -> tuple[Evidence, ...]:
    """The numbers around the update that came before ``step``.

    Args:
        run: The run.
        path: The layer whose optimiser and gradients are meant.
        step: First step after the update in question; 0 if there was none.

    Returns:
        As many as are known; none for step 0.
    """
    if step <= 0:
        return ()
    optimizer = _owner(run, path)
    found = []
    if optimizer is not None:
        for name, series, at in (
            ("learning rate at the step before", optimizer.lr, step - 1),
            ("loss at the step before", optimizer.loss, step - 1),
            ("loss at the step itself", optimizer.loss, step),
        ):
            value = _at(series, at)
            if value is not None:
                found.append(Evidence(name=name, value=value, unit="loss" if "loss" in name else "1"))
    size = _gradient(run, path, step - 1)
    if size is not None:
        found.append(Evidence(name="gradient norm of the layer, last read before", value=size, unit="norm"))
    return tuple(found)


def _owner(run: RunView, path: str) -> Optimizer | None:
    """The optimiser that steps a layer; the first one if that is unknown."""
    layer = run.layer(path)
    index = layer.optimizer if layer is not None else 0
    return next((o for o in run.optimizers if o.index == index), None)


def _at(series: Series, step: int) -> float | None:
    """The number at exactly that step."""
    place = int(np.searchsorted(series.steps, step))
    if place < len(series) and int(series.steps[place]) == step:
        return float(series.values[place])
    return None


def _gradient(run: RunView, path: str, step: int) -> float | None:
    """Norm of a layer's gradient on the last sampled step up to ``step``."""
    layer = run.layer(path)
    if run.norms is None or layer is None:
        return None
    columns = [i for i, name in enumerate(run.norms.parameters) if name in layer.parameters]
    rows = np.flatnonzero(run.norms.steps <= step)
    if not columns or not len(rows):
        return None
    return float(np.sqrt(np.nansum(run.norms.gradient[rows[-1], columns] ** 2)))


def flows_around(run: RunView, wires: Wires, path: str, since: int) -> bool:
    """Whether the layers around a dead one show that the input still reaches the loss.

    Args:
        run: The run.
        wires: Its graph.
        path: The dead layer.
        since: First step on which all of it was dead.

    Returns:
        True if a layer below it still got gradient, or the layers above it still tell samples apart.
    """
    for below in wires.before(path) & set(run.liveness):
        if int(run.liveness[below].last_alive.max(initial=-1)) > since:
            return True
    for above in wires.after(path):
        for use in wires.wirings.get(above, ()):
            late = [r.tally for r in run.at(use.site, Signal.PREACTIVATION) if r.first > since]
            if late and late[-1].units:
                top = np.maximum(np.abs(late[-1].low), np.abs(late[-1].high))
                spread = (late[-1].high - late[-1].low) / np.where(top > 0, top, np.inf)
                # rounding and the drift of a constant over a window of steps stay far below this
                if float(np.median(np.nan_to_num(spread))) > 0.05:
                    return True
    return False
