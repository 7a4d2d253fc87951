"""Treatments that go back need a snapshot of the very run that is treated; of any other they are advice."""

from dataclasses import replace

from defib.core.prescription import Prescription, Safety
from defib.core.run import RunView

KEPT = "snapshot"
"""Kind of the event that says that a snapshot was taken."""


def is_kept(run: RunView) -> bool:
    """Whether a snapshot of this very run lies in the memory of its process.

    Args:
        run: The run.

    Returns:
        False for a run that has ended, however many it kept.
    """
    return bool(run.of_kind(KEPT)) and run.facts.get("status") == "running"


def as_far_as_kept(found: Prescription | None, run: RunView) -> Prescription | None:
    """The prescription as it is where it can be given; else as advice, at half of its strength.

    Args:
        found: A treatment that needs a snapshot.
        run: The run.

    Returns:
        The prescription; a patch that says how to keep snapshots where there is none.
    """
    if found is None or is_kept(run):
        return found
    advice = (
        "no snapshot of this run can be gone back to; the next time: run.snapshot() while the run is "
        f'healthy and run.treat("{found.treatment}") when it no longer is; defib run --treat auto keeps '
        "one of the start, and one whenever a check finds nothing"
    )
    return replace(
        found, safety=Safety.SOURCE, dose={}, strength=round(found.strength / 2, 2), patch=advice, at=0
    )
