"""Finds treatments, prescribes them, and applies one, all or nothing."""

import difflib

from defib.core.catalogue import entries
from defib.core.diagnosis import Diagnosis
from defib.core.errors import NotFound
from defib.core.finding import Finding, Severity
from defib.core.prescription import Prescription
from defib.core.run import RunView
from defib.therapy.experience import experience, seasoned
from defib.therapy.followers import follow
from defib.therapy.journal import Receipt
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState
from defib.therapy.treatment import Treatment

PACKAGE = "defib.therapy.treatments"
GROUP = "defib.treatments"
"""Entry-point group in which other distributions offer treatments."""


def treatments() -> tuple[type[Treatment], ...]:
    """Every treatment, ours and those of other distributions."""
    return entries(Treatment, PACKAGE, GROUP)  # type: ignore[type-abstract]


def treatment(slug: str) -> Treatment:
    """The treatment of that name.

    Returns:
        The treatment, ready to operate.

    Raises:
        NotFound: If there is none.
    """
    known = {cls.slug: cls for cls in treatments()}
    if slug not in known:
        near = difflib.get_close_matches(slug, known, n=3, cutoff=0.6)
        hint = f"did you mean {', '.join(near)}?" if near else "`defib treatments` lists them"
        raise NotFound(f"no treatment {slug!r}; {hint}")
    return known[slug]()


def prescribe(diagnosis: Diagnosis, run: RunView) -> tuple[Prescription, ...]:
    """What could help, the most promising first.

    Args:
        diagnosis: The findings.
        run: What they rest on.

    Returns:
        For each finding of warning or worse, in their order, its treatments: strongest first, and
        of two equally strong ones the safer. Consequences are not treated: their cause is.
    """
    harmful = [f for f in diagnosis.findings if f.severity is not Severity.INFO]
    return tuple(p for finding in harmful for p in _for(finding, run))


def _for(finding: Finding, run: RunView) -> list[Prescription]:
    """Treatments of one finding, ranked."""
    judged = [p for cls in treatments() if (p := cls().prescribe(finding, run)) is not None]
    found = [seasoned(p, experience()) for p in judged]
    return sorted(found, key=lambda p: (-p.strength, p.safety.rank, p.treatment))


def treat(
    state: TrainState,
    prescription: Prescription,
    *,
    seed: int = 0,
    surgery: type[Surgery] = Surgery,
) -> Receipt:
    """Applies one prescription; on any error or interruption every bit is as it was.

    Call it between an optimiser's step and the next forward pass only.

    Args:
        state: Model and optimisers; edited in place.
        prescription: Which treatment, and its dose.
        seed: For the treatment's own randomness; equal on all ranks.
        surgery: How edits are made.

    Returns:
        Enough to undo it.
    """
    operation = surgery(state, prescription.treatment, seed)
    try:
        treatment(prescription.treatment).operate(operation, prescription.dose)
        follow(operation, prescription.treatment)
    except BaseException:
        operation.take_back()
        raise
    return operation.close()
