"""What went on around one layer."""

import numpy as np

from defib.core.run import RunView
from defib.core.site import Signal
from defib.diagnosis.measures.wires import Wires


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
