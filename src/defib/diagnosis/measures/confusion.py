"""Labels and answers counted: the table of confusion of a classifier, from sampled batches.

Letters: ``C`` classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from defib.core.run import Exhibit, RunView

Counts = NDArray[np.int64]


def confusion(run: RunView, since: int = 0) -> Counts | None:
    """Labels by answers in all batches read from step ``since`` on.

    Where every batch has the same labels it is the same data again and again, and
    counts once: seen ten times, a sample is still one.

    Args:
        run: The run.
        since: Windows that begin earlier are left out.

    Returns:
        Counts, shape (C, C), true class by answered class; None if there are none, or with several
        optimisers (the "real" and "fake" of a GAN are no classes).
    """
    if len(run.optimizers) != 1:
        return None
    found = [e for e in run.exhibits if e.kind == "confusion" and "matrix" in e.arrays]
    found = [e for e in found if e.arrays["matrix"].shape == found[-1].arrays["matrix"].shape]
    late = [e for e in found if e.step >= since]
    if not late:
        return None
    tables = [np.asarray(e.arrays["matrix"], dtype=np.int64) for e in late]
    whole = np.asarray(np.sum(tables, axis=0), dtype=np.int64)
    return whole // sum(map(_batches, late)) if _repeated(found) else whole


def _batches(exhibit: Exhibit) -> int:
    """How many batches were counted in one window."""
    return max(1, int(exhibit.facts.get("batches", 1)))


def _repeated(exhibits: Sequence[Exhibit]) -> bool:
    """Whether all batches of a run have the same labels, as far as windows of several tell."""
    labels = [np.asarray(e.arrays["matrix"], dtype=np.int64).sum(axis=1) / _batches(e) for e in exhibits]
    return len(labels) > 1 and all(bool((one == labels[0]).all()) for one in labels)
