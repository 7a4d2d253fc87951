"""The verbs on a run that was recorded: open it, diagnose, prognose, prescribe.

Nothing heavy is imported before it is used: ``open_run`` and ``diagnose`` need
numpy; what watches a training run is in ``defib.watcher`` and ``defib.live``.
"""

import os
from abc import abstractmethod
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from defib.catalogues import rules
from defib.core.config import Settings, load_settings
from defib.core.errors import NotFound, UsageError
from defib.showing import Shown
from defib.watched import Register, several

if TYPE_CHECKING:
    import torch

    from defib.core.diagnosis import Diagnosis
    from defib.core.prescription import Plan, Prescription
    from defib.core.prognosis import Forecast
    from defib.core.run import RunView


class AnyRun(Shown):
    """A run that can be judged: what was recorded of it can be read.

    Attributes:
        path: The record's folder, or one of its files.
    """

    path: Path

    @property
    @abstractmethod
    def view(self) -> "RunView":
        """All that was recorded."""

    @property
    def steps(self) -> int:
        """Optimiser steps taken in this process under watch; 0 for a run of another one."""
        return 0

    def diagnose(self, settings: Settings | None = None) -> "Diagnosis":
        """What is wrong with this run, up to now; see :func:`diagnose`."""
        return diagnose(self, settings)

    def prognose(self, horizon: int | None = None) -> "Forecast":
        """What will become of its dead units; see :func:`prognose`."""
        return prognose(self, horizon=horizon)

    def prescribe(self) -> "tuple[Prescription, ...]":
        """What could help; see :func:`prescribe`."""
        from defib.therapy import engine

        return engine.prescribe(self.diagnose(), self.view)


WATCHED: Register[AnyRun] = Register()
"""The open runs of this process; ``defib.live`` keeps it."""


class Run(AnyRun):
    """A record that was made earlier.

    Attributes:
        path: The record's folder, or one of its files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def view(self) -> "RunView":
        """All that was recorded, read on first use."""
        from defib.record.reader import read

        return read(self.path)

    def close(self) -> None:
        """Forgets what was read; a record is never held open."""
        self.__dict__.pop("view", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def open_run(path: str | os.PathLike[str]) -> Run:
    """Opens a record that was made earlier.

    Args:
        path: The record's folder, or one of its files.

    Returns:
        The run; it is read on first use.

    Raises:
        NotFound: If there is nothing at that path.
    """
    place = Path(path)
    if "\0" in str(place) or not os.path.lexists(place):
        raise NotFound(f"no such record: {place}")
    return Run(place)


def diagnose(
    run: "str | os.PathLike[str] | AnyRun | RunView", settings: Settings | None = None
) -> "Diagnosis":
    """Says what is wrong with a run, from its record alone.

    Args:
        run: A record's path, an open run, a live run, or the data itself.
        settings: Limits of rules; None for those of the nearest pyproject.toml.

    Returns:
        The verdict, the findings in their order of cause, and what was not seen.
    """
    from defib.core.run import RunView

    if isinstance(run, (str, os.PathLike)):
        run = open_run(run)
    view = run if isinstance(run, RunView) else run.view
    settings = settings or load_settings()
    _check_slugs(settings)

    from defib.diagnosis import engine

    return engine.diagnose(view, settings)


def prognose(
    what: "str | os.PathLike[str] | AnyRun | RunView | torch.nn.Module",
    optimizer: "torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | None" = None,
    data: object = None,
    *,
    scheduler: Any = None,
    every: int = 1,
    horizon: int | None = None,
) -> "Forecast":
    """Says which dead units will come back by themselves, when, and why the others will not.

    Of a run: its dead units by the diagnosis, from the state and the samples that the record kept. Of a
    model, exactly: the units that fire for no sample of the data, with the optimiser's present state;
    steps are then counted from the present one, the next forward pass being 0 (or, under
    :func:`watch`, in the run's own count). Model, optimiser and random generators are left bit for bit
    as they were.

    Args:
        what: A record's path, an open run, a live run, its data, or a model.
        optimizer: For a model: its optimiser or optimisers, after their last step.
        data: For a model: all samples, as one batch or an iterable of batches.
        scheduler: For a model: what sets its learning rate; None if that stays.
        every: Optimiser steps between two steps of the scheduler.
        horizon: Steps to look ahead, at least 1; None for as far as is worth its time.

    Returns:
        Prognoses, what they assume, and what could not be told.

    Raises:
        UsageError: If arguments are missing or do not fit.
    """
    if horizon is not None and horizon < 1:
        raise UsageError(f"a horizon is at least 1 step, not {horizon}")
    from defib.core.run import RunView

    if isinstance(what, (str, os.PathLike)):
        what = open_run(what)
    if isinstance(what, (AnyRun, RunView)):
        from defib.diagnosis.prognosis.of_run import forecast

        view = what if isinstance(what, RunView) else what.view
        return forecast(view, diagnose(view).findings, horizon)
    if data is None or optimizer is None:
        raise UsageError("a model's prognosis takes its optimizer and all data: prognose(model, opt, data)")
    from defib.seer import forecast_of_model

    live = WATCHED.watching_by_name(what)
    return forecast_of_model(
        what,
        several(optimizer),
        data,
        scheduler=scheduler,
        every=every,
        horizon=horizon,
        step=0 if live is None else live.steps,
    )


def prescribe(run: "str | os.PathLike[str] | AnyRun") -> "tuple[Prescription, ...]":
    """What could help, the most promising first for each finding.

    Args:
        run: A record's path, an open run or a live run.

    Returns:
        Treatments with dose and reason; those that only the source can carry out bring a patch.
    """
    return (open_run(run) if isinstance(run, (str, os.PathLike)) else run).prescribe()


def plan(path: str | os.PathLike[str], only: str | None = None) -> "Plan":
    """What ``defib prescribe`` prints.

    Args:
        path: A record.
        only: One treatment's slug; None for all.

    Returns:
        Facts about the run, its verdict, and the prescriptions.

    Raises:
        NotFound: If there is no record there, or no treatment of that name.
    """  # noqa: DOC502 - what is called raises it
    from defib.core.prescription import Plan

    run = open_run(path)  # before the treatments, which import torch: no record is said at once
    from defib.therapy import engine

    if only is not None:
        engine.treatment(only)
    diagnosis = diagnose(run)
    found = engine.prescribe(diagnosis, run.view)
    return Plan(
        run=diagnosis.run,
        verdict=diagnosis.verdict.value,
        prescriptions=tuple(p for p in found if only in {None, p.treatment}),
    )


def _check_slugs(settings: Settings) -> None:
    """Refuses limits for a rule that nobody knows: a misspelt one would silently do nothing."""
    known = [rule.slug for rule in rules()] if settings.rules else []
    for slug in settings.rules:
        if slug not in known:
            raise UsageError(f"{settings.source}: no rule {slug!r}; there are {', '.join(known)}")
