"""All ranks of a distributed job do the same, or none does anything."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.prescription import Prescription, Safety

PATIENCE = timedelta(seconds=20)
"""How long a rank waits for the others to ask for the same."""

_asked: Counter[str] = Counter()
_said: Counter[str] = Counter()


def agree(prescription: Prescription, patience: timedelta | None = None, *, meeting: str = "") -> None:
    """Makes sure that every rank is about to do exactly this.

    The ranks meet in the job's key-value store and not in a collective: a rank
    that never comes must end in a refusal, not in a job that hangs.

    Args:
        prescription: What this rank is about to do.
        patience: How long to wait for the others; None for :data:`PATIENCE`.
        meeting: When (the step): after one to which a rank did not come, the ranks would else count
            their meetings differently, and never meet again.

    Raises:
        Refused: If a rank does not come, or comes with something else; nothing has been changed then.
    """
    if is_alone():
        return
    patience = PATIENCE if patience is None else patience
    _asked[meeting] += 1
    place, size = _place("treat", meeting), dist.get_world_size()
    store = dist.distributed_c10d._get_default_store()
    words = {"treatment": prescription.treatment, "dose": dict(prescription.dose)}
    mine = hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode()).hexdigest()
    store.set(f"{place}/{dist.get_rank()}", mine)
    keys = [f"{place}/{rank}" for rank in range(size)]
    try:
        store.wait(keys, patience)
        said = [store.get(key).decode() for key in keys]
    except Exception:  # noqa: BLE001 - each backend's store has an error of its own
        said = []
    # The first to know decides for all, and what it decides names what was agreed on: a rank that
    # comes late, or whose store has lost sight of the others, finds the meeting over.
    verdict = mine if said and set(said) == {mine} else "differ" if said else "alone"
    decision = store.compare_set(f"{place}/decision", "", verdict).decode()
    if decision == mine:
        return
    if "alone" in {decision, verdict}:
        raise Refused(
            f"{prescription.treatment}: not every rank asked for it within {patience.total_seconds():g} s; "
            "call treat on all ranks at the same step"
        )
    raise Refused(f"{prescription.treatment}: the ranks ask for different doses; decide from shared data")


def confirm(why: str, patience: timedelta | None = None, *, meeting: str = "") -> str:
    """Whether every rank could do what they had agreed on; comes right after it, on all of them.

    Args:
        why: Why this rank could not; "" if it has done it.
        patience: How long to wait for the others; None for :data:`PATIENCE`.
        meeting: As for :func:`agree`.

    Returns:
        Why a rank could not, then nobody's change may stay; "" if all have done it.
    """
    if is_alone():
        return why
    place, size = _place("treated", meeting), dist.get_world_size()
    store = dist.distributed_c10d._get_default_store()
    keys = [f"{place}/{rank}" for rank in range(size)]
    store.set(keys[dist.get_rank()], why or "done")
    try:
        store.wait(keys, PATIENCE if patience is None else patience)
        said = [store.get(key).decode() for key in keys]
    except Exception:  # noqa: BLE001 - each backend's store has an error of its own
        return why or "a rank did not say whether it could"
    return next((f"rank {rank}: {s}" for rank, s in enumerate(said) if s != "done"), "")


def decided(
    mine: Sequence[Prescription], meeting: str, patience: timedelta | None = None
) -> list[Prescription]:
    """What the first rank prescribes, on all ranks: each has seen other batches, and would decide otherwise.

    Args:
        mine: What this rank would do, in order; asked of the first rank only.
        meeting: Name of this question, the same on every rank.
        patience: How long to wait for the first rank; None for :data:`PATIENCE`.

    Returns:
        The first rank's; nothing if it did not say.
    """
    if is_alone():
        return list(mine)
    text = said(f"decided/{meeting}", json.dumps([asdict(p) for p in mine]), patience)
    return [_prescription(each) for each in json.loads(text or "[]")]


def said(meeting: str, mine: str, patience: timedelta | None = None) -> str:
    """What the first rank says, on all ranks.

    Args:
        meeting: Name of this question, the same on every rank. It says when it was asked, so that a rank that
            asks alone (only its copy of the weights broke) waits in vain once, and no later
            question is mistaken for it.
        mine: What this rank would say.
        patience: How long to wait for the first rank; None for :data:`PATIENCE`.

    Returns:
        The first rank's words; "" if it did not come.
    """
    if is_alone():
        return mine
    store, key = dist.distributed_c10d._get_default_store(), f"defib/said/{meeting}/{_said[meeting]}"
    _said[meeting] += 1
    if dist.get_rank() == 0:
        store.set(key, mine)
        return mine
    try:
        store.wait([key], PATIENCE if patience is None else patience)
        return store.get(key).decode()
    except Exception:  # noqa: BLE001 - each backend's store has an error of its own
        return ""


def _prescription(data: dict[str, Any]) -> Prescription:
    """The inverse of ``asdict`` after JSON."""
    dose = {name: tuple(v) if isinstance(v, list) else v for name, v in data["dose"].items()}
    cause = Cause(data["cause"]) if data["cause"] else None
    return Prescription(**{**data, "dose": dose, "cause": cause, "safety": Safety(data["safety"])})


def _place(what: str, meeting: str) -> str:
    """Where in the store the ranks meet: how often they were asked to at that time is counted by each."""
    return f"defib/{what}/{meeting}/{_asked[meeting]}"


def is_alone() -> bool:
    """Whether this process is not one of several ranks."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
