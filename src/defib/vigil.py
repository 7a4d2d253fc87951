"""``--treat auto``: looks now and then, and at once when something breaks; treats, and sees what came of it.

A snapshot of the start is kept, one whenever a check finds nothing, and one right after a
treatment that changed the weights. Where the weights are no numbers any more, or training has
destroyed them, the last such snapshot is restored before anything is given: no treatment
helps against NaN. What was given is on trial for
:data:`defib.therapy.aftercare.WINDOW` steps: if the weights break in that time and had not been
broken before, or the loss lies clearly above what it was, it is taken back from its receipt,
the weights are restored, and it is never given again. Then comes the next choice. While a
treatment is on trial up to three copies of model and optimiser state are kept, else one.
All of it is in the record.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from defib.core.diagnosis import Verdict
from defib.core.errors import Refused
from defib.core.prescription import Dose, Prescription, Safety
from defib.giving import Ward, give, words_of

if TYPE_CHECKING:
    import torch

    from defib.therapy.journal import Receipt
    from defib.therapy.train_state import TrainState
    from defib.therapy.vault import Vault

FIRST_CHECK = 25
"""Steps before the first look where nothing breaks; then whenever that number has doubled."""

MOST_TREATMENTS = 8
"""Treatments that are given in one run, those that were taken back included."""

DESTROY = {"non-finite", "lr-too-high"}
"""Findings after which weights are of no use, whatever is changed about the steps to come."""

BACK = "roll-back"


@dataclass(frozen=True, kw_only=True)
class _OnTrial:
    """A treatment that has been given and not been judged yet.

    Attributes:
        prescription: What was given.
        receipt: To take it back by.
        step: Optimiser steps taken by then.
        restored: A snapshot was restored right before it.
        broken: The weights were no numbers right before it.
        others: What could have been given instead, in order.
        healthy: What would have been gone back to before it.
        before: The weights right before it, to go back to if it is taken back.
        optimizer: What it was given to is changed after steps of this one alone: right after those of
            another, a graph of these parameters may wait for its backward pass.
    """

    prescription: Prescription
    receipt: "Receipt"
    step: int
    restored: bool
    broken: bool
    others: tuple[Prescription, ...]
    healthy: "Vault"
    before: "Vault"
    optimizer: "torch.optim.Optimizer"


class Vigil:
    """Treats one run by what its record shows, until nothing is left to try."""

    def __init__(self) -> None:
        from defib.therapy.alarm import Alarm
        from defib.therapy.vault import Vault

        self._healthy = Vault()
        self._alarm = Alarm()
        self._next_check = FIRST_CHECK
        self._given: dict[tuple[str, str, str], list[Dose]] = {}
        self._harmful: list[tuple[str, Dose]] = []
        self._done = 0
        self._since = 0
        self._broken = False
        self._wait = 1
        self._on_trial: _OnTrial | None = None

    def begin(self, ward: Ward, optimizer: "torch.optim.Optimizer") -> None:
        """Right before an optimiser's first step: a snapshot of the start."""
        self._keep(ward, optimizer, 0)

    def ordered(self, ward: Ward, optimizer: "torch.optim.Optimizer", step: int) -> None:
        """A treatment that a person asked for was given: going back must not take it away.

        What was on trial stays, for it could no longer be taken back from under the other.

        Args:
            ward: The run.
            optimizer: It has just taken a step.
            step: Steps that it has taken.
        """
        self._on_trial, self._since = None, step
        self._alarm.forget()
        if not self._broken:
            self._keep(ward, optimizer, step)

    def stepped(self, ward: Ward, optimizer: "torch.optim.Optimizer", step: int) -> None:
        """Right after a step of the optimiser that has taken the most.

        Args:
            ward: The run.
            optimizer: The optimiser.
            step: Steps that it has taken.
        """
        from defib.therapy.aftercare import WINDOW

        trial = self._on_trial
        if trial is not None and trial.optimizer is not optimizer:
            if step < trial.step + 2 * WINDOW:
                return
            trial = self._on_trial = None  # its optimiser steps no more
        if not self._broken and self._alarm.rings(optimizer):
            self._broken, self._wait = True, 1
            self._next_check = step + 1  # what is seen by now may not be enough
            self._breaks(ward, optimizer, step)
            return
        if trial is not None and step >= trial.step + WINDOW:
            self._judge(ward, optimizer, step, trial)
        elif step >= self._next_check:
            self._next_check = self._again(step)
            self._check(ward, optimizer, step)

    def _again(self, step: int) -> int:
        """When to look again: soon while weights are broken, for they learn nothing; ever more rarely."""
        if not self._broken:
            return max(FIRST_CHECK, 2 * step)
        self._wait *= 2
        return step + self._wait

    def _breaks(self, ward: Ward, optimizer: "torch.optim.Optimizer", step: int) -> None:
        """The weights have just become NaN or infinite."""
        trial, self._on_trial = self._on_trial, None
        if trial is not None and not trial.broken:
            why = f"{step - trial.step} steps later the weights were no numbers any more"
            self._take_back(ward, step, trial, why)
            self._give_one(ward, optimizer, step, trial.others)
            if self._broken:  # nothing else is left to give, but these weights were finite without it
                self._restore(ward, optimizer, step, trial.prescription, trial.before)
        else:
            self._check(ward, optimizer, step)

    def _judge(self, ward: Ward, optimizer: "torch.optim.Optimizer", step: int, trial: _OnTrial) -> None:
        """The window of a treatment is over."""
        from defib.therapy.aftercare import worse
        from defib.therapy.agreement import said

        self._on_trial = None
        found = worse(ward.view.loss, trial.step, trial.prescription.safety, trial.restored)
        why = said(f"worse/{step}", found)  # each rank has losses of its own
        if not why:
            return
        self._take_back(ward, step, trial, why)
        self._restore(ward, optimizer, step, trial.prescription, trial.before)
        self._give_one(ward, optimizer, step, trial.others)

    def _take_back(self, ward: Ward, step: int, trial: _OnTrial, why: str) -> None:
        """Undoes a treatment that made it worse; it is never given again.

        What was seen under it is no evidence about the network without it: that begins anew.
        """
        trial.receipt.undo(force=True)
        self._harmful.append(_medicine(trial.prescription))
        self._since, self._healthy = step, trial.healthy
        self._alarm.forget()
        ward.tell(step, {**words_of(trial.prescription), "stage": "undone", "why": why})
        ward.treated()

    def _check(self, ward: Ward, optimizer: "torch.optim.Optimizer", step: int) -> None:
        """Diagnoses, and gives the most promising treatment that has not been tried there."""
        from defib.therapy.agreement import decided, said
        from defib.therapy.engine import prescribe

        if self._done >= MOST_TREATMENTS:
            return
        diagnosis, view = ward.diagnosed(self._since)
        wanted = [p for p in decided(_live(prescribe(diagnosis, view)), str(step)) if self.may(p)]
        if not wanted:
            healthy = "yes" if diagnosis.verdict is Verdict.HEALTHY else ""
            # The first rank's word: going back to different steps would part the ranks for good.
            if not self._broken and said(f"healthy/{step}", healthy):
                self._keep(ward, optimizer, step)
            return
        self._give_one(ward, optimizer, step, wanted)

    def _give_one(
        self, ward: Ward, optimizer: "torch.optim.Optimizer", step: int, wanted: Sequence[Prescription]
    ) -> None:
        """The first that is not refused; to restored weights, where they are of no use as they are."""
        wanted = [p for p in wanted if self.may(p)]
        broken, restored = self._broken, False
        if self._done >= MOST_TREATMENTS or not wanted:
            return
        if broken or wanted[0].rule in DESTROY:
            restored = self._restore(ward, optimizer, step, wanted[0], self._healthy)
            if broken and not restored:
                return
        for i, each in enumerate(wanted):
            others = tuple(wanted[i + 1 :])
            if self.treat(ward, optimizer, step, each, others=others, restored=restored, broken=broken):
                return

    def may(self, prescription: Prescription) -> bool:
        """Whether it did no harm before, and was not given for this finding (in need: in this dose)."""
        if _medicine(prescription) in self._harmful:
            return False
        doses = self._given.get(_key(prescription), [])
        return not doses or (self._broken and dict(prescription.dose) not in doses)

    def treat(
        self,
        ward: Ward,
        optimizer: "torch.optim.Optimizer",
        step: int,
        prescription: Prescription,
        *,
        others: tuple[Prescription, ...] = (),
        restored: bool = False,
        broken: bool = False,
    ) -> bool:
        """Gives one, and puts it on trial.

        Args:
            ward: The run.
            optimizer: It has just taken a step.
            step: Steps that it has taken.
            prescription: What to give.
            others: What comes next if this is taken back.
            restored: A snapshot was restored right before.
            broken: The weights were no numbers right before that.

        Returns:
            False if it was refused.
        """
        self._given.setdefault(_key(prescription), []).append(dict(prescription.dose))
        from defib.therapy.vault import Vault

        states, before = _states(optimizer), Vault()
        before.keep(states, step)
        try:
            receipt = self._give(ward, self._healthy.lend(states), prescription, step)
        except Refused:
            return False
        self._done += 1
        self._on_trial = _OnTrial(
            prescription=prescription,
            receipt=receipt,
            step=step,
            restored=restored,
            broken=broken,
            others=others,
            healthy=self._healthy.copy(),
            before=before,
            optimizer=optimizer,
        )
        self._since = step
        self._changed(ward)
        if restored or prescription.safety in {Safety.CHANGES, Safety.RESTART}:
            self._keep(ward, optimizer, step)  # going back must not take this treatment away again
        return True

    def _restore(
        self,
        ward: Ward,
        optimizer: "torch.optim.Optimizer",
        step: int,
        reason: Prescription,
        vault: "Vault",
    ) -> bool:
        """Goes back to a snapshot; False where there is none that fits."""
        back = Prescription(
            treatment=BACK,
            rule=reason.rule,
            cause=reason.cause,
            layer=reason.layer,
            safety=Safety.RESTART,
            reason="what is given next finds weights that can learn",
            strength=1.0,
        )
        try:
            self._give(ward, vault.lend(_states(optimizer)), back, step)
        except Refused:
            return False
        self._broken = False
        self._changed(ward)
        return True

    @staticmethod
    def _give(
        ward: Ward, states: "tuple[TrainState, ...]", prescription: Prescription, step: int
    ) -> "Receipt":
        return give(states, prescription, lambda data: ward.tell(step, data), meeting=f"auto/{step}")

    def _changed(self, ward: Ward) -> None:
        self._alarm.forget()
        ward.treated()

    def _keep(self, ward: Ward, optimizer: "torch.optim.Optimizer", step: int) -> None:
        """A snapshot to go back to."""
        self._healthy.keep(_states(optimizer), step)
        ward.kept(step)


def _states(optimizer: "torch.optim.Optimizer") -> "tuple[TrainState, ...]":
    """What this optimiser trains, gathered anew."""
    from defib.therapy.gather import gather

    return gather(optimizers=(optimizer,))


def _key(prescription: Prescription) -> tuple[str, str, str]:
    return prescription.treatment, prescription.rule, prescription.layer


def _medicine(prescription: Prescription) -> tuple[str, Dose]:
    """What counts as the same treatment, wherever; a setting in another dose (a lower rate) is another."""
    dose: Dose = dict(prescription.dose) if prescription.safety is Safety.SETTINGS else {}
    return prescription.treatment, dose


def _live(prescriptions: Iterable[Prescription]) -> list[Prescription]:
    """What can be given to a running network; going back after destruction is no choice, it comes first."""
    return [p for p in prescriptions if p.safety is not Safety.SOURCE and not _is_back_for_destroyed(p)]


def _is_back_for_destroyed(prescription: Prescription) -> bool:
    return prescription.treatment == BACK and prescription.rule in DESTROY
