"""Treats what trains in this process: at a safe point, on all ranks alike, and written into the record.

A treatment asked for from the start is given right before an optimiser's first
step: by then the network is built and has been seen once, and nothing has been
learnt. The gradients of that step belong to the untreated network and are
dropped, unless only settings change. Later treatments are given right after a
step, when no graph of the stepping parameters is waiting for its backward pass.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from defib.core.errors import DefibError, Refused
from defib.core.finding import Diagnosis, Verdict
from defib.core.prescription import Prescription, Safety
from defib.orders import Order as Order  # noqa: PLC0414 - an order is what a care carries out
from defib.orders import as_data as as_data  # noqa: PLC0414
from defib.orders import named as named  # noqa: PLC0414
from defib.orders import parse_order as parse_order  # noqa: PLC0414
from defib.orders import plain

if TYPE_CHECKING:
    import torch

    from defib.core.run import RunView
    from defib.therapy.surgery import Receipt
    from defib.therapy.train_state import TrainState

FIRST_CHECK = 25
"""Steps before ``--treat auto`` looks for the first time; then whenever that number has doubled."""

MOST_TREATMENTS = 8
"""Treatments that ``--treat auto`` gives in one run."""


def give(
    states: "tuple[TrainState, ...]", prescription: Prescription, tell: "Callable[[dict[str, Any]], None]"
) -> "Receipt":
    """Applies one prescription to the model that it is about, and says so before and after.

    Args:
        states: The models that are trained here.
        prescription: What to do.
        tell: Writes an event's data into the record.

    Returns:
        The receipt.

    Raises:
        Refused: If it cannot be done safely; nothing is changed then, and that too is told.
    """
    from defib.therapy.agreement import agree

    words: dict[str, Any] = {
        "treatment": prescription.treatment,
        "rule": prescription.rule,
        "layer": prescription.layer,
        "cause": str(prescription.cause or ""),
        "dose": plain(prescription.dose),
    }
    tell({**words, "stage": "planned"})
    try:
        agree(prescription)
        receipt = _on_all_ranks(states, prescription)
    except Refused as refused:
        tell({**words, "stage": "refused", "why": str(refused)})
        raise
    except BaseException as error:
        tell({**words, "stage": "rolled-back", "why": f"{type(error).__name__}: {error}"})
        raise
    tell({**words, "stage": "done", "changed": list(receipt.changed), "left": list(receipt.left)})
    return receipt


def _on_all_ranks(states: "tuple[TrainState, ...]", prescription: Prescription) -> "Receipt":
    """Treats here, and takes it back where another rank could not do the same."""
    from defib.therapy.agreement import confirm
    from defib.therapy.engine import treat
    from defib.therapy.gather import joined

    try:
        receipt = treat(joined(states), prescription)
    except Refused as refused:
        confirm(str(refused))
        raise
    elsewhere = confirm("")
    if elsewhere:
        receipt.undo(force=True)
        raise Refused(f"{prescription.treatment}: taken back, for another rank could not ({elsewhere})")
    return receipt


class Ward(Protocol):
    """The run that a :class:`Care` treats."""

    def diagnosed(self) -> "tuple[Diagnosis, RunView]":
        """The findings since the last treatment, and what they rest on."""

    def tell(self, step: int, data: dict[str, Any]) -> None:
        """Writes an event into the record."""

    def kept(self, step: int) -> None:
        """Writes into the record that a snapshot was taken."""

    def treated(self) -> None:
        """The network was changed: what is known of it has to be looked up anew."""


class Care:
    """Carries out an order while a script trains, without its knowledge.

    Make it before the watch begins and :meth:`attend` after: a treatment before the first step
    must come before that step is looked at, one after a step when it has been looked at.

    Args:
        order: What to do.
    """

    def __init__(self, order: Order) -> None:
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        from defib.therapy.vault import Vault

        self._order = order
        self._ward: Ward | None = None
        self._steps: dict[int, int] = {}
        self._next_check = FIRST_CHECK
        self._given: set[tuple[str, str, str]] = set()
        self._done = 0
        self._vault = Vault()
        self._handles: list[Any] = [register_optimizer_step_pre_hook(self._before)]

    def attend(self, ward: Ward) -> None:
        """From now on, treat this run."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self._ward = ward
        self._handles.append(register_optimizer_step_post_hook(self._after))

    def release(self) -> None:
        """Treat no more."""
        self._ward = None
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _before(self, optimizer: "torch.optim.Optimizer", _args: Any, _kwargs: Any) -> None:
        ward = self._ward
        if ward is None or self._steps.get(id(optimizer)):
            return
        if self._order.auto:
            self._safely(ward, lambda: self._keep(ward, optimizer, 0))
        if self._order.at == 0:
            self._safely(ward, lambda: self._give_all(ward, optimizer, 0, dropping=True))

    def _keep(self, ward: Ward, optimizer: "torch.optim.Optimizer", step: int) -> None:
        """A snapshot to go back to: of the start, and of whenever a check finds nothing."""
        from defib.therapy.gather import gather

        self._vault.keep(gather(optimizers=(optimizer,)), step)
        ward.kept(step)

    def _after(self, optimizer: "torch.optim.Optimizer", _args: Any, _kwargs: Any) -> None:
        step = self._steps[id(optimizer)] = self._steps.get(id(optimizer), 0) + 1
        ward = self._ward
        if ward is None:
            return
        if step == self._order.at:
            self._safely(ward, lambda: self._give_all(ward, optimizer, step, dropping=False))
        if self._order.auto and step == max(self._steps.values()) and step >= self._next_check:
            self._next_check = 2 * step
            self._safely(ward, lambda: self._check(ward, optimizer, step))

    def _give_all(self, ward: Ward, optimizer: "torch.optim.Optimizer", step: int, dropping: bool) -> None:
        for prescription in self._order.given:
            try:
                self._give(ward, optimizer, prescription, step)
            except Refused:
                continue  # it is in the record
            if dropping and prescription.safety is not Safety.SETTINGS:
                optimizer.zero_grad(set_to_none=True)

    def _check(self, ward: Ward, optimizer: "torch.optim.Optimizer", step: int) -> None:
        """Diagnose, and give the most promising treatment that has not been tried there."""
        from defib.therapy.agreement import decided
        from defib.therapy.engine import prescribe

        if self._done >= MOST_TREATMENTS:
            return
        diagnosis, view = ward.diagnosed()
        wanted = decided(_to_try(prescribe(diagnosis, view)))
        if diagnosis.verdict is Verdict.HEALTHY:
            self._keep(ward, optimizer, step)
        gone_back = ""
        for prescription in wanted:
            key = prescription.treatment, prescription.rule, prescription.layer
            again = key in self._given and prescription.treatment != "roll-back"
            if again or (gone_back and prescription.rule != gone_back):
                continue
            self._given.add(key)
            try:
                self._give(ward, optimizer, prescription, step)
            except Refused:
                continue
            self._done += 1
            if prescription.treatment != "roll-back":
                return
            gone_back = prescription.rule  # what broke it comes again: one more for the same finding

    def _give(
        self, ward: Ward, optimizer: "torch.optim.Optimizer", prescription: Prescription, step: int
    ) -> None:
        from defib.therapy.gather import gather

        states = self._vault.lend(gather(optimizers=(optimizer,)))
        give(states, prescription, lambda data: ward.tell(step, data))
        ward.treated()

    def _safely(self, ward: Ward, act: Callable[[], None]) -> None:
        """Whatever goes wrong in defib's own code, training goes on, untreated from there."""
        try:
            act()
        except Exception as error:  # noqa: BLE001
            ward.tell(-1, {"stage": "failed", "why": f"{type(error).__name__}: {error}"})
            if not isinstance(error, DefibError):
                self.release()


def _to_try(prescriptions: Iterable[Prescription]) -> list[Prescription]:
    """What can be given live, in order; where training has destroyed the weights, going back comes first."""
    live = [p for p in prescriptions if p.safety is not Safety.SOURCE]
    if not live:
        return []
    first = live[0].rule
    back = [p for p in live if p.treatment == "roll-back" and p.rule == first and first in _DESTROY]
    return [*back, *(p for p in live if p not in back)]


_DESTROY = {"non-finite", "lr-too-high"}
"""Findings after which weights are of no use, whatever is changed about the steps to come."""
