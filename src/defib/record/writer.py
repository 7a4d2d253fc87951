"""The record's writer: takes what capture saw.

Calls put things into a bounded batch in memory, :mod:`defib.record.pump` writes
it: four transactions a second at most, or at once after an event. Whatever goes wrong on
the disk stops the recording, never the run: see :attr:`Writer.fault`.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self

import numpy as np
from numpy.typing import NDArray

from defib.core.errors import OutputError
from defib.core.precision import single
from defib.core.reading import Reading
from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.core.wiring import Layer, Wiring
from defib.record import folder
from defib.record.batch import Alive, Flow, Happened, NormRow, ObjectiveRow, Points, Shown
from defib.record.codec import dumps
from defib.record.disk import most_bytes
from defib.record.process import identity
from defib.record.pump import CLOSE_WITHIN, Pump
from defib.record.schema import SCHEMA_VERSION, rank_file
from defib.record.store import Store

CAP = 256 << 20
"""Most bytes a rank writes, unless told otherwise."""

SMALLEST_CAP = 512 << 10
"""No cap is smaller: tables and journal alone take a tenth of it."""

P = ParamSpec("P")


Method = Callable[Concatenate["Writer", P], None]


def _harmless(method: Method[P]) -> Method[P]:
    """Makes a method do nothing in a forked child and after the end, and never raise."""

    @wraps(method)
    def guarded(self: "Writer", /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self._closed or os.getpid() != self._pid:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001  no fault of ours may reach training
            self._pump.fault = f"{type(error).__name__} in {method.__name__}: {str(error)[:200]}"

    return guarded


class Writer:
    """Writes one rank's part of a record; a :class:`defib.core.ports.Sink`.

    Use :meth:`create`. Methods may be called from any thread, do nothing in a
    forked child, nothing after :meth:`close`, and never raise.

    Attributes:
        path: The run's folder, absolute.
        file: This rank's file in it.
        rank: Which rank.
    """

    def __init__(self, path: Path, rank: int, store: Store) -> None:
        self.path = path
        self.file = store.path
        self.rank = rank
        self._pump = Pump(store)
        self._pid = os.getpid()
        self._closed = False

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        rank: int = 0,
        force: bool = False,
        *,
        cap: int = CAP,
        wait: float = 10.0,
    ) -> Self:
        """Makes the record; for a rank above 0, its file in the record that rank 0 makes.

        Args:
            path: The run's folder, the same for all ranks.
            rank: This process's rank, from 0.
            force: Replace a record that is there.
            cap: Most bytes of this rank's file.
            wait: Seconds that another rank waits for rank 0.

        Returns:
            A writer; its thread starts with the first thing to write.

        Raises:
            OutputError: If the record cannot be made there: one line with the way out.
        """
        try:
            absolute = Path(os.path.abspath(path))
            known = folder.make(absolute, force) if rank == 0 else folder.join(absolute, rank, wait)
        except (OSError, ValueError) as error:
            raise OutputError(folder.cannot(path, error)) from None
        store = Store(absolute / rank_file(rank), max(SMALLEST_CAP, most_bytes(cap)))
        ident = {"schema": SCHEMA_VERSION, "rank": rank, "run": known.get("run"), "created": time.time()}
        try:
            store.create(ident | identity())
        except (sqlite3.Error, OSError) as error:
            store.close()
            if rank == 0:
                folder.unmake(absolute)
            raise OutputError(folder.cannot(path, error)) from None
        return cls(absolute, rank, store)

    @property
    def fault(self) -> str | None:
        """The last thing that went wrong, in one line; None if nothing did."""
        return self._pump.fault

    @property
    def seconds(self) -> float:
        """CPU time that the writer's thread has taken so far, in seconds."""
        return self._pump.seconds

    @_harmless
    def facts(self, values: dict[str, Any]) -> None:
        """Facts about the run; later values replace earlier ones of the same name."""
        for name, value in values.items():
            self._pump.state(("fact", name), dumps(value))

    @_harmless
    def layers(self, layers: tuple[Layer, ...]) -> None:
        """The layers; a later call replaces the list."""
        self._pump.state(("layers", None), tuple(layers))

    @_harmless
    def wirings(self, wirings: tuple[Wiring, ...], loss_operations: tuple[str, ...]) -> None:
        """What feeds what; a later call replaces the list."""
        self._pump.state(("wirings", None), (tuple(wirings), tuple(loss_operations)))

    @_harmless
    def optimizer(self, index: int, facts: dict[str, Any]) -> None:
        """Facts about one optimiser ("kind", "groups", "parameters", "steps"); merged by name."""
        for name, value in facts.items():
            self._pump.state(("optimizer", (int(index), name)), dumps(value))

    @_harmless
    def stream(self, optimizer: int, step: int, columns: dict[str, NDArray[np.float32]]) -> None:
        """Per-step numbers from ``step`` on ("loss", "lr", "scale"), each of shape (T,)."""
        for name, values in columns.items():
            kept = single(values)
            self._pump.add(Points(optimizer=int(optimizer), name=name, step=int(step), values=kept))

    @_harmless
    def liveness(
        self,
        optimizer: int,
        path: str,
        facts: dict[str, Any],
        units: NDArray[np.int32],
    ) -> None:
        """The whole state of one layer's liveness, shape (3, U); replaces the last."""
        kept = Alive(facts=dict(facts), units=np.array(units, dtype=np.int32))
        self._pump.alive(int(optimizer), path, kept)

    @_harmless
    def reading(self, site: Site, signal: Signal, first: int, last: int, tally: Tally) -> None:
        """A tally merged over the sampled steps ``first`` to ``last``; not to be changed afterwards."""
        self._pump.add(Reading(site=site, signal=signal, first=int(first), last=int(last), tally=tally))

    @_harmless
    def flow(self, step: int, values: dict[tuple[Site, Signal], float]) -> None:
        """RMS of each signal on one sampled step."""
        self._pump.add(Flow(step=int(step), values=dict(values)))

    @_harmless
    def norms(self, step: int, parameters: tuple[str, ...], values: NDArray[np.float32]) -> None:
        """Gradient, weight, update norm and swallowed share, shape (4, P)."""
        kept = single(values)
        self._pump.add(NormRow(step=int(step), parameters=tuple(parameters), values=kept))

    @_harmless
    def objective(self, step: int, facts: dict[str, str], values: NDArray[np.float64]) -> None:
        """What the loss compared on one sampled step, in the order of ``OBJECTIVE_COLUMNS``."""
        self._pump.state(("fact", "objective"), dumps(facts))
        self._pump.add(ObjectiveRow(step=int(step), values=np.array(values, dtype=np.float64)))

    @_harmless
    def event(self, step: int, kind: str, data: dict[str, Any]) -> None:
        """Something that happened once; written at once."""
        self._pump.add(Happened(step=int(step), kind=kind, data=dict(data)), urgent=True)

    @_harmless
    def exhibit(
        self,
        kind: str,
        path: str,
        step: int,
        facts: dict[str, Any],
        arrays: dict[str, NDArray[np.generic]],
    ) -> None:
        """Arrays kept as evidence; replaces those of the same kind, path and step.

        They are copied. Past a quarter of the record's cap the oldest of a kind give way.
        """
        copies = {name: np.array(array) for name, array in arrays.items()}
        self._pump.show((str(kind), path, int(step)), Shown(facts=dumps(facts), arrays=copies))

    def flush(self, within: float = CLOSE_WITHIN) -> bool:
        """Waits until everything said so far is on the disk, ``within`` seconds at most.

        Returns:
            Whether it is.
        """
        if self._closed or os.getpid() != self._pid:
            return False
        return self._pump.flush(within)

    @_harmless
    def close(self, status: str) -> None:
        """Everything is written; ``status`` says how the run ended.

        Gives up 5 s after the disk took the last thing: at once where it hangs, after a minute at most.
        """
        self._closed = True
        self._pump.close(status)
