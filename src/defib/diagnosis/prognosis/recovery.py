"""How often silent units came back in a run so far: what the run itself says about deeper layers.

Letters: ``U`` units.
"""

import numpy as np
from numpy.typing import NDArray

from defib.core.evidence import Evidence
from defib.core.prognosis import Recovery
from defib.core.reading import EPISODE_STEPS, Liveness
from defib.core.run import RunView
from defib.diagnosis.prognosis.hazard import return_rate

WITHIN = 200
"""Steps after which it is asked how many are back."""

MOST = 20_000
"""Silences that are entered at most, an even share of each length."""


def recovery_of(run: RunView, path: str) -> Recovery | None:
    """How many silences of a layer's units ended.

    Args:
        run: The run.
        path: The layer.

    Returns:
        None where no unit was silent for long, and for records of before.
    """
    live = run.liveness.get(path)
    return None if live is None else _of_layer(live)


def _of_layer(live: Liveness) -> Recovery | None:
    """The silences of one layer; None if there were none, or they were not counted."""
    if live.lengths is None or live.steps == 0:
        return None
    silent = np.minimum(live.silent_steps, live.steps)
    lasting = silent[silent >= EPISODE_STEPS]
    returned = int(live.lengths.sum())
    ended, kept = _thinned(live.lengths, lasting)
    now = int(max(ended.max(initial=0), kept.max(initial=0)))
    starts = np.concatenate([np.zeros(len(ended)), now - kept])
    ends = np.concatenate([ended, np.full(len(kept), -1.0)])
    rate = return_rate(starts, ends, now=now, within=WITHIN)
    if rate is None:
        return None
    return Recovery(
        path=live.path,
        returned=returned,
        open=len(lasting),
        within=WITHIN,
        share=rate.share,
        low=rate.interval.low,
        high=rate.interval.high,
    )


def _thinned(
    lengths: NDArray[np.int64], lasting: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Lengths of ended silences, the middle of their class each, and of lasting ones; not too many."""
    spacing = -(-int(lengths.sum() + len(lasting)) // MOST)
    middle = 1.5 * 2.0 ** np.arange(len(lengths))
    ended = np.repeat(middle, lengths)
    return ended[:: max(spacing, 1)], np.sort(lasting)[:: max(spacing, 1)]


def recovery_evidence(recovery: Recovery) -> tuple[Evidence, ...]:
    """The numbers of a recovery.

    Args:
        recovery: How often units of the layer came back.

    Returns:
        Share that returned with its interval, and how many silences that rests on.
    """
    interval = f"{recovery.low:.0%} to {recovery.high:.0%}"
    return (
        Evidence(name=f"silences of {EPISODE_STEPS} steps or more in this layer", value=recovery.episodes),
        Evidence(name=f"share that ends within {recovery.within} steps", value=round(recovery.share, 4)),
        Evidence(name="its 95 % interval", value=interval),
    )
