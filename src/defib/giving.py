"""Gives one prescription to what trains in this process: on all ranks or on none, and told in the record."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from defib.core.errors import Refused
from defib.core.prescription import Prescription
from defib.orders import plain

if TYPE_CHECKING:
    from defib.core.diagnosis import Diagnosis
    from defib.core.run import RunView
    from defib.therapy.journal import Receipt
    from defib.therapy.train_state import TrainState


class Ward(Protocol):
    """The run that is treated."""

    @property
    def view(self) -> "RunView":
        """All that was recorded up to now."""

    def diagnosed(self, since: int | None = None) -> "tuple[Diagnosis, RunView]":
        """The findings since a step (None for the last treatment), and what they rest on."""

    def tell(self, step: int, data: dict[str, Any]) -> None:
        """Writes an event into the record."""

    def kept(self, step: int) -> None:
        """Writes into the record that a snapshot was taken."""

    def treated(self) -> None:
        """The network was changed: what is known of it has to be looked up anew."""


def words_of(prescription: Prescription) -> dict[str, Any]:
    """What an event in the record says about a prescription."""
    return {
        "treatment": prescription.treatment,
        "rule": prescription.rule,
        "layer": prescription.layer,
        "cause": str(prescription.cause or ""),
        "dose": plain(prescription.dose),
    }


def give(
    states: "tuple[TrainState, ...]",
    prescription: Prescription,
    tell: "Callable[[dict[str, Any]], None]",
    *,
    meeting: str = "",
) -> "Receipt":
    """Applies one prescription to the model that it is about, and says so before and after.

    Args:
        states: The models that are trained here.
        prescription: What to do.
        tell: Writes an event's data into the record.
        meeting: When this is, the same on all ranks (the step).

    Returns:
        The receipt.

    Raises:
        Refused: If it cannot be done safely; nothing is changed then, and that too is told.
    """
    from defib.therapy.agreement import agree

    words = words_of(prescription)
    tell({**words, "stage": "planned"})
    try:
        agree(prescription, meeting=meeting)
        receipt = _on_all_ranks(states, prescription, meeting)
    except Refused as refused:
        tell({**words, "stage": "refused", "why": str(refused)})
        raise
    except BaseException as error:
        tell({**words, "stage": "rolled-back", "why": f"{type(error).__name__}: {error}"})
        raise
    tell({**words, "stage": "done", "changed": list(receipt.changed), "left": list(receipt.left)})
    return receipt


def _on_all_ranks(states: "tuple[TrainState, ...]", prescription: Prescription, meeting: str) -> "Receipt":
    """Treats here, and takes it back where another rank could not do the same."""
    from defib.therapy.agreement import confirm
    from defib.therapy.engine import treat
    from defib.therapy.gather import joined

    try:
        receipt = treat(joined(states), prescription)
    except Refused as refused:
        confirm(str(refused), meeting=meeting)
        raise
    try:
        elsewhere = confirm("", meeting=meeting)
    except BaseException:  # an interruption while it waits for the others
        receipt.undo(force=True)
        raise
    if elsewhere:
        receipt.undo(force=True)
        raise Refused(f"{prescription.treatment}: taken back, for another rank could not ({elsewhere})")
    return receipt
