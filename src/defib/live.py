"""Watching a training run while it goes on, and treating it."""

import atexit
import os
import sys
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from defib.api import WATCHED, AnyRun, diagnose
from defib.core.errors import UsageError
from defib.watched import Register

if TYPE_CHECKING:
    import torch

    from defib.capture.session import Session
    from defib.care import Care
    from defib.core.diagnosis import Diagnosis
    from defib.core.prescription import Prescription, Value
    from defib.core.run import RunView
    from defib.record.writer import Writer
    from defib.therapy.journal import Receipt
    from defib.therapy.train_state import TrainState
    from defib.therapy.vault import Vault


class LiveRun(AnyRun):
    """A training run under watch: the eyes (a session) and the record they write.

    Attributes:
        path: The record's folder.
    """

    def __init__(self, session: "Session", writer: "Writer", path: Path) -> None:
        self.path = path
        self._session = session
        self._writer = writer
        self._open = True
        self._pid = os.getpid()
        self._care: Care | None = None
        self._treated = 0
        atexit.register(self._at_exit)

    @property
    def faults(self) -> int:
        """Faults of defib's own that were swallowed so that training could go on."""
        return self._session.faults

    @property
    def record_fault(self) -> str | None:
        """What last went wrong with writing the record (a full disk); None if nothing did."""
        return self._writer.fault

    @property
    def readings(self) -> int:
        """Steps on which activations were read."""
        return self._session.readings

    @property
    def steps(self) -> int:
        """Optimiser steps taken under watch."""
        return self._session.steps

    @property
    def is_open(self) -> bool:
        """False once closed."""
        return self._open

    @property
    def view(self) -> "RunView":
        """All that was recorded up to now."""
        from defib.record.reader import read

        self.flush()
        return read(self.path)

    def flush(self) -> None:
        """Brings everything seen so far to the disk."""
        if self._open:
            self._session.flush()
            self._writer.flush()

    def prescribe(self) -> "tuple[Prescription, ...]":
        """What could help the run as it is since its last treatment; see :func:`prescribe`."""
        from defib.therapy import engine

        return engine.prescribe(*self.diagnosed())

    def snapshot(self) -> None:
        """Copies weights and optimiser state, for treatments that go back (``roll-back``).

        Call it after an optimiser's step, while the run is healthy. Only the last one is kept; it takes
        as much memory as the model and its optimiser.

        Raises:
            Refused: If nothing is trained.
        """  # noqa: DOC502 - the gathering raises it
        self._vault.keep(self._states(), self._session.steps)
        self.kept(self._session.steps)

    def log(self, name: str, value: float) -> None:
        """Keeps a number of the script's own in the record; see :func:`log`."""
        self._session.log(*logged(name, value))

    def treat(self, what: "str | Prescription | None" = None, /, **dose: "Value") -> "Receipt":
        """Applies one treatment to the live network, all or nothing; on all ranks at the same step.

        Call it after an optimiser's step and before the next forward pass.

        Args:
            what: A prescription, or a treatment's slug; None for the first that the diagnosis of now
                brings and that can be given.
            **dose: For a slug: how much and where (``layer="fc1"``); its page says what it takes.

        Returns:
            The receipt: ``receipt.undo()`` restores every bit.

        Raises:
            Refused: If it cannot be done safely, or nothing is prescribed; nothing is changed then.
        """  # noqa: DOC502 - care raises it
        from defib import care

        wanted = care.named(what, dose) if isinstance(what, str) else what or self._first_prescription()
        step = self._session.steps
        states = self._vault.lend(self._states())
        receipt = care.give(states, wanted, lambda data: self.tell(step, data), meeting=f"run/{step}")
        self.treated()
        return receipt

    def _states(self) -> "tuple[TrainState, ...]":
        """What is trained here, gathered anew."""
        from defib.therapy.gather import gather

        return gather(cast("tuple[torch.nn.Module, ...]", LIVE.models_of(self)))

    @cached_property
    def _vault(self) -> "Vault":
        from defib.therapy.vault import Vault

        return Vault()

    def _first_prescription(self) -> "Prescription":
        from defib.core.errors import Refused
        from defib.core.prescription import Safety

        wanted = (p for p in self.prescribe() if p.safety is not Safety.SOURCE)
        found = next(wanted, None)
        if found is None:
            raise Refused("nothing that can be treated live was found; see defib prescribe")
        return found

    def attend(self, care: "Care") -> None:
        """Lets ``defib run --treat`` treat this run from now on.

        Args:
            care: What it was asked to do.
        """
        self._care = care
        care.attend(self)

    def diagnosed(self, since: int | None = None) -> "tuple[Diagnosis, RunView]":
        """The findings since a step, and what they rest on.

        Args:
            since: First step that counts; None for that of the last treatment.

        Returns:
            Both.
        """
        from defib.core import window

        view = window.since(self.view, self._treated if since is None else since)
        return diagnose(view), view

    def tell(self, step: int, data: "dict[str, Any]") -> None:
        """Writes into the record what was done about the network."""
        self._writer.event(step, "treatment", data)

    def kept(self, step: int) -> None:
        """Writes into the record that a snapshot was taken."""
        self._writer.event(step, "snapshot", {})

    def treated(self) -> None:
        """The network was changed on purpose: it is looked at anew from here on."""
        self._treated = self._session.steps
        self._session.renew()

    def close(self, status: str = "finished") -> None:
        """Ends watching; the record is complete. A second call does nothing.

        Args:
            status: How the run ended: "finished" or "interrupted".
        """
        if self._open:
            self._open = False
            LIVE.remove(self)
            atexit.unregister(self._at_exit)
            if self._care is not None:
                self._care.release()
            self._session.close(status)

    def _at_exit(self) -> None:
        """Closes what the user left open; a forked child has nothing to close."""
        if self._pid == os.getpid():
            self.close(ending())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close("finished" if kind is None else "interrupted")


LIVE = cast("Register[LiveRun]", WATCHED)
"""The open runs of this process: only live ones are ever entered."""


def adopt(live: LiveRun) -> None:
    """Makes a run that watches everything in this process the one that ``watch`` returns."""
    atexit.unregister(live._at_exit)  # whoever started it closes it, after the script's own exit handlers
    LIVE.add((), live)


def logged(name: str, value: float) -> tuple[str, float]:
    """A name and a number that can be kept.

    Returns:
        Both, the value as a float.

    Raises:
        UsageError: If they are not what :func:`log` takes.
    """
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise UsageError(f"defib.log: the name must be 1 to 200 characters, not {str(name)[:40]!r}")
    detach = getattr(value, "detach", None)  # torch warns of a number made of a tensor with a graph
    try:
        return name, float(value if detach is None else detach())
    except (TypeError, ValueError, RuntimeError):
        what = type(value).__name__
        raise UsageError(f"defib.log: the value of {name!r} must be one number, not a {what}") from None


def ending() -> str:
    """How the script ends, as far as an exit handler can know."""
    error = getattr(sys, "last_value", None)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "finished" if error is None else f"failed: {type(error).__name__}"
