"""Where the organs meet: each public verb, a few lines each.

Nothing heavy is imported before it is used: ``open_run`` and ``diagnose`` need
numpy, only ``watch`` needs torch.
"""

import atexit
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, cast

from defib.core.config import Settings, load_settings, parse_budget, parse_every
from defib.core.errors import NotFound, UsageError
from defib.core.launch_options import default_record

if TYPE_CHECKING:
    import torch

    from defib.capture.session import Session
    from defib.core.finding import Diagnosis
    from defib.core.run import RunView
    from defib.diagnosis.rule import Rule
    from defib.record.writer import Writer


T = TypeVar("T")


class Run:
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

    def diagnose(self, settings: Settings | None = None) -> "Diagnosis":
        """What is wrong with this run; see :func:`diagnose`."""
        return diagnose(self, settings)

    def close(self) -> None:
        """Forgets what was read; a record is never held open."""
        self.__dict__.pop("view", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class LiveRun:
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

    def diagnose(self, settings: Settings | None = None) -> "Diagnosis":
        """What is wrong with the run up to now; see :func:`diagnose`."""
        return diagnose(self, settings)

    def close(self, status: str = "finished") -> None:
        """Ends watching; the record is complete. A second call does nothing.

        Args:
            status: How the run ended: "finished" or "interrupted".
        """
        if self._open:
            self._open = False
            _LIVE[:] = [(of, run) for of, run in _LIVE if run is not self]
            atexit.unregister(self._at_exit)
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


_LIVE: list[tuple[tuple[object, ...], LiveRun]] = []
"""Open runs, each with the models that it watches (none: whatever trains in this process)."""


def adopt(live: LiveRun) -> None:
    """Makes a run that watches everything in this process the one that ``watch`` returns."""
    atexit.unregister(live._at_exit)  # whoever started it closes it, after the script's own exit handlers
    _LIVE.append(((), live))


def watch(
    model: "torch.nn.Module | Sequence[torch.nn.Module] | None" = None,
    optimizer: "torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | None" = None,
    *,
    output: str | os.PathLike[str] | None = None,
    budget: float | str | None = None,
    every: int | None = None,
    force: bool = False,
) -> LiveRun:
    """Watches a model while it trains; the training itself is not changed by a bit.

    Watching the same model twice gives the same run back. With and without
    ``with``: a run that is not closed is closed when the process ends.

    Args:
        model: What to watch, one or several; None for whatever is trained in this process.
        optimizer: One optimiser or several; left out, those that own the model's
            parameters are found when they take their first step.
        output: The record's folder, which must not exist yet; None for
            ``defib-<script>.<pid>.rec`` in the current folder.
        budget: Share of the training time that watching may cost, as 0.01 or "1%".
        every: Steps between readings; None leaves it to the governor.
        force: Replace a record at ``output``.

    Returns:
        The live run: ``diagnose()``, ``close()``, ``path``, ``faults``.
    """
    models = _several(model)
    for watched, run in _LIVE:
        if not watched or any(one is other for one in watched for other in models):
            return run
    settings = load_settings()
    share = settings.budget if budget is None else parse_budget(budget)
    period = settings.every if every is None else parse_every(every)

    from defib.capture import session as capture
    from defib.record.writer import Writer

    path = Path(output) if output is not None else _unused(default_record(sys.argv[0], settings.output))
    writer = Writer.create(path, rank=rank(), force=force)
    writer.facts({"target": sys.argv[0]})
    try:
        session = capture.start(models or None, _several(optimizer), sink=writer, budget=share, every=period)
    except BaseException:
        writer.close("interrupted")
        raise
    live = LiveRun(session, writer, writer.path)
    _LIVE.append((models, live))
    return live


def _several(given: "T | Iterable[T] | None") -> "tuple[T, ...]":
    """What was given as a tuple, whether it was nothing, one thing or several."""
    if given is None:
        return ()
    # Not "iterable": an nn.Sequential is, and is still one model.
    is_several = isinstance(given, (list, tuple, set, Iterator))
    return tuple(cast("Iterable[T]", given)) if is_several else (cast("T", given),)


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
    run: "str | os.PathLike[str] | Run | LiveRun | RunView", settings: Settings | None = None
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


def _check_slugs(settings: Settings) -> None:
    """Refuses limits for a rule that nobody knows: a misspelt one would silently do nothing."""
    known = [rule.slug for rule in rules()] if settings.rules else []
    for slug in settings.rules:
        if slug not in known:
            raise UsageError(f"{settings.source}: no rule {slug!r}; there are {', '.join(known)}")


def rules() -> "tuple[type[Rule], ...]":
    """Every rule that a run is judged by, ours and those of other distributions."""
    from defib.core.catalogue import entries
    from defib.diagnosis.engine import GROUP, PACKAGE
    from defib.diagnosis.rule import Rule

    return entries(Rule, PACKAGE, GROUP)  # type: ignore[type-abstract]


def explain(slug: str) -> str:
    """The page of a rule, a cause or an error.

    Args:
        slug: "dead-unit", "born-dead", "record-damaged", ...

    Returns:
        Text of several lines.
    """
    from defib.probe.rules import PAGES
    from defib.report.pages import LimitLine, RulePage, page

    pages = {own: RulePage(text=each.text, causes=each.causes) for own, each in PAGES.items()}
    for rule in rules():
        limits = (
            LimitLine(name=n.name, value=n.default, unit=n.unit, meaning=n.meaning, reason=n.reason)
            for n in rule.limits
        )
        text = sys.modules[rule.__module__].__doc__ or ""
        pages[rule.slug] = RulePage(text=text, causes=rule.causes, limits=tuple(limits))
    return page(slug, pages)


def ending() -> str:
    """How the script ends, as far as an exit handler can know."""
    error = getattr(sys, "last_value", None)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "finished" if error is None else f"failed: {type(error).__name__}"


def rank() -> int:
    """Rank of this process in a distributed job; 0 outside of one."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdecimal() else 0


def _unused(path: Path) -> Path:
    """The path, or the next free variation of it where one process makes several records."""
    if rank() != 0 or os.environ.get("WORLD_SIZE", "1") not in {"", "1"}:
        return path  # ranks must agree on a name, so none of them may look around
    names = [path, *(path.with_name(f"{path.stem}-{n}{path.suffix}") for n in range(2, 1000))]
    return next((p for p in names if not os.path.lexists(p)), path)
