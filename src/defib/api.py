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
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from defib.core.config import Settings, load_settings, parse_budget, parse_every
from defib.core.errors import DefibError, NotFound
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
            self.close(_ending())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close("finished" if kind is None else "interrupted")


_LIVE: list[tuple[tuple[object, ...], LiveRun]] = []
"""Open runs, each with the models that it watches (none: whatever trains in this process)."""


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
    writer = Writer.create(path, rank=_rank(), force=force)
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
    from defib.diagnosis import engine

    if isinstance(run, (str, os.PathLike)):
        run = open_run(run)
    view = run if isinstance(run, RunView) else run.view
    return engine.diagnose(view, settings or load_settings())


def rules() -> "tuple[type[Rule], ...]":
    """Every rule that a run is judged by, ours and those of other distributions."""
    from defib.core.catalogue import entries
    from defib.diagnosis.rule import Rule

    return entries(Rule, "defib.diagnosis.rules", "defib.rules")


def explain(slug: str) -> str:
    """The page of a rule, a cause or an error.

    Args:
        slug: "dead-unit", "born-dead", "record-damaged", ...

    Returns:
        Text of several lines.
    """
    from defib.report.pages import page

    return page(slug, {rule.slug: sys.modules[rule.__module__].__doc__ or "" for rule in rules()})


def launched(options: dict[str, Any]) -> None:
    """Called first thing in a process that ``defib run`` became: watch once torch is there.

    Args:
        options: ``LaunchOptions`` as plain data, with the record's absolute path.
    """
    from defib.capture.launch import when_imported

    path, owner = Path(options["output"]), os.getpid()
    started: list[LiveRun] = []

    def begin() -> None:
        try:
            live = _launch_watch(path, options)
        except DefibError as error:
            print(f"defib: not watching: {error}", file=sys.stderr)
        except Exception as error:  # noqa: BLE001 - the script must run whatever happens to us
            print(f"defib: not watching: {type(error).__name__}: {error}", file=sys.stderr)
        else:
            started.append(live)

    def end() -> None:
        if os.getpid() != owner:
            return
        if not started and "torch" not in sys.modules:
            _record_nothing(path, options)
        for live in started:
            live.close(_ending())
        conclude(path, options["quiet"])

    atexit.register(end)
    when_imported("torch", begin)


def _launch_watch(path: Path, options: dict[str, Any]) -> LiveRun:
    """The watch of everything that trains in this process."""
    from defib.capture import session as capture
    from defib.record.writer import Writer

    writer = Writer.create(path, rank=_rank(), force=options["force"])
    writer.facts({"target": options["target"], "arguments": list(options["arguments"])})
    session = capture.start(sink=writer, budget=options["budget"], every=options["every"])
    live = LiveRun(session, writer, path)
    _LIVE.append(((), live))
    return live


def _record_nothing(path: Path, options: dict[str, Any]) -> None:
    """A record that says why there is nothing in it: silence would look like health."""
    from defib.record.writer import Writer

    try:
        writer = Writer.create(path, rank=_rank(), force=options["force"])
        writer.facts({"target": options["target"], "torch": "never imported"})
        writer.close("finished")
    except DefibError as error:
        print(f"defib: {error}", file=sys.stderr)


def _ending() -> str:
    """How the script ends, as far as an exit handler can know."""
    error = getattr(sys, "last_value", None)
    return "finished" if error is None else f"failed: {type(error).__name__}"


def conclude(path: Path, quiet: bool = False) -> None:
    """Says at a script's end what was found, as one block on stderr. Never raises.

    Only the first rank of a job speaks. A record that cannot be read is one line.

    Args:
        path: The record.
        quiet: Say nothing unless something went wrong with the record itself.
    """
    try:
        if quiet or _rank() != 0:
            return
        from defib.report.terminal import say, style_of
        from defib.report.text import to_text

        try:
            text = to_text(diagnose(path), style_of(sys.stderr))
        except DefibError as error:
            text = f"defib: {error}"
        except Exception as error:  # noqa: BLE001 - the script's own end must not be spoilt
            text = f"defib: no diagnosis: {type(error).__name__}: {error} (try `defib diagnose {path}`)"
        say("\n" + text, sys.stderr)
    except (Exception, KeyboardInterrupt):  # noqa: BLE001 - a closed stderr, an impatient user
        return


def _rank() -> int:
    """Rank of this process in a distributed job; 0 outside of one."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdecimal() else 0


def _unused(path: Path) -> Path:
    """The path, or the next free variation of it where one process makes several records."""
    if _rank() != 0 or os.environ.get("WORLD_SIZE", "1") not in {"", "1"}:
        return path  # ranks must agree on a name, so none of them may look around
    names = [path, *(path.with_name(f"{path.stem}-{n}{path.suffix}") for n in range(2, 1000))]
    return next((p for p in names if not os.path.lexists(p)), path)
