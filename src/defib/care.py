"""Treats what trains in this process: at a safe point, on all ranks alike, and written into the record.

A treatment asked for from the start is given right before an optimiser's first
step: by then the network is built and has been seen once, and nothing has been
learnt. The gradients of that step belong to the untreated network and are
dropped, unless only settings change. Later treatments are given right after a
step, when no graph of the stepping parameters is waiting for its backward pass.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from defib.core.errors import DefibError, Refused
from defib.core.prescription import Prescription, Safety
from defib.giving import Ward as Ward  # noqa: PLC0414 - the run that a care treats
from defib.giving import give as give  # noqa: PLC0414
from defib.orders import Order as Order  # noqa: PLC0414 - an order is what a care carries out
from defib.orders import as_data as as_data  # noqa: PLC0414
from defib.orders import named as named  # noqa: PLC0414
from defib.orders import parse_order as parse_order  # noqa: PLC0414
from defib.vigil import Vigil

if TYPE_CHECKING:
    import torch


class Care:
    """Carries out an order while a script trains, without its knowledge.

    Make it before the watch begins and :meth:`attend` after: a treatment before the first step
    must come before that step is looked at, one after a step when it has been looked at.

    Args:
        order: What to do.
    """

    def __init__(self, order: Order) -> None:
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        self._order = order
        self._ward: Ward | None = None
        # Weak: a later optimiser may get the number that a discarded one had in memory.
        self._steps: WeakKeyDictionary[torch.optim.Optimizer, int] = WeakKeyDictionary()
        self._vigil = Vigil() if order.auto else None
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
        ward, vigil = self._ward, self._vigil
        if ward is None or self._steps.get(optimizer):
            return
        self._safely(ward, lambda: self._give_all(ward, optimizer, 0, dropping=True))
        if vigil is not None:  # what was asked for belongs to the start that is gone back to
            self._safely(ward, lambda: vigil.begin(ward, optimizer))

    def _after(self, optimizer: "torch.optim.Optimizer", _args: Any, _kwargs: Any) -> None:
        step = self._steps[optimizer] = self._steps.get(optimizer, 0) + 1
        ward, vigil = self._ward, self._vigil
        if ward is None:
            return
        self._safely(ward, lambda: self._give_all(ward, optimizer, step, dropping=False))
        if vigil is not None and step == max(self._steps.values()):
            self._safely(ward, lambda: vigil.stepped(ward, optimizer, step))

    def _give_all(self, ward: Ward, optimizer: "torch.optim.Optimizer", step: int, dropping: bool) -> None:
        for prescription in (p for p in self._order.given if p.at == step):
            try:
                self._give(ward, optimizer, prescription, step)
            except Refused:
                continue  # it is in the record
            if dropping and prescription.safety is not Safety.SETTINGS:
                optimizer.zero_grad(set_to_none=True)
            if self._vigil is not None and not dropping:
                self._vigil.ordered(ward, optimizer, step)

    def _give(
        self, ward: Ward, optimizer: "torch.optim.Optimizer", prescription: Prescription, step: int
    ) -> None:
        from defib.therapy.gather import gather

        states = gather(optimizers=(optimizer,))
        give(states, prescription, lambda data: ward.tell(step, data), meeting=f"order/{step}")
        ward.treated()

    def _safely(self, ward: Ward, act: Callable[[], None]) -> None:
        """Whatever goes wrong in defib's own code, training goes on, untreated from there."""
        try:
            act()
        except Exception as error:  # noqa: BLE001
            ward.tell(-1, {"stage": "failed", "why": f"{type(error).__name__}: {error}"})
            if not isinstance(error, DefibError):
                self.release()
