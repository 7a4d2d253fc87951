"""All ranks of a distributed job do the same, or none does anything."""

import hashlib
import json
from datetime import timedelta

import torch.distributed as dist

from defib.core.errors import Refused
from defib.core.prescription import Prescription

PATIENCE = timedelta(seconds=20)
"""How long a rank waits for the others to ask for the same."""

_asked = 0


def agree(prescription: Prescription, patience: timedelta | None = None) -> None:
    """Makes sure that every rank is about to do exactly this.

    The ranks meet in the job's key-value store and not in a collective: a rank
    that never comes must end in a refusal, not in a job that hangs.

    Args:
        prescription: What this rank is about to do.
        patience: How long to wait for the others; None for :data:`PATIENCE`.

    Raises:
        Refused: If a rank does not come, or comes with something else; nothing has been changed then.
    """
    global _asked  # noqa: PLW0603 - the number of this meeting, counted alike on every rank
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    patience = PATIENCE if patience is None else patience
    meeting, size = f"defib/treat/{_asked}", dist.get_world_size()
    _asked += 1
    store = dist.distributed_c10d._get_default_store()
    words = {"treatment": prescription.treatment, "dose": dict(prescription.dose)}
    mine = hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode()).hexdigest()
    store.set(f"{meeting}/{dist.get_rank()}", mine)
    keys = [f"{meeting}/{rank}" for rank in range(size)]
    try:
        store.wait(keys, patience)
        said = [store.get(key).decode() for key in keys]
    except Exception:  # noqa: BLE001 - each backend's store has an error of its own
        said = []
    # The first to know decides for all, and what it decides names what was agreed on: a rank that
    # comes late, or whose store has lost sight of the others, finds the meeting over.
    verdict = mine if said and set(said) == {mine} else "differ" if said else "alone"
    decision = store.compare_set(f"{meeting}/decision", "", verdict).decode()
    if decision == mine:
        return
    if "alone" in {decision, verdict}:
        raise Refused(
            f"{prescription.treatment}: not every rank asked for it within {patience.total_seconds():g} s; "
            "call treat on all ranks at the same step"
        )
    raise Refused(f"{prescription.treatment}: the ranks ask for different doses; decide from shared data")
