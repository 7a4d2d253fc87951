"""Starts to watch a training run, and keeps the script's own numbers."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from defib.core.config import load_settings, parse_budget, parse_every
from defib.core.launch_options import default_record
from defib.live import LIVE, LiveRun, logged
from defib.watched import several

if TYPE_CHECKING:
    import torch

    from defib.core.kill import Prober
    from defib.core.sharpness import Surveyor


def watch(
    model: "torch.nn.Module | Sequence[torch.nn.Module] | None" = None,
    optimizer: "torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | None" = None,
    *,
    output: str | os.PathLike[str] | None = None,
    budget: float | str | None = None,
    every: int | None = None,
    force: bool = False,
    autopsy: bool | None = None,
    keep_inputs: bool | None = None,
    curvature: bool | None = None,
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
        autopsy: Keep the last steps, and when a unit dies find out by what; takes memory and time
            (see the page Autopsy). None for the setting ``autopsy``.
        keep_inputs: Keep samples of what feeds a layer in the record, for the prognosis. None for the
            setting ``keep_inputs``.
        curvature: Measure the largest curvature of the loss on some steps, against what the optimiser can
            follow; takes about 5 % more time (see the page Curvature). None for the setting ``curvature``.

    Returns:
        The live run: ``diagnose()``, ``close()``, ``path``, ``faults``.
    """
    models = several(model)
    known = LIVE.watching(models)
    if known is not None:
        return known
    settings = load_settings()
    share = settings.budget if budget is None else parse_budget(budget)
    period = settings.every if every is None else parse_every(every)

    wanted = settings.autopsy if autopsy is None else autopsy
    inquire, memory = prober(settings.autopsy_memory if wanted else None)

    from defib.capture import session as capture
    from defib.record.writer import Writer

    path = Path(output) if output is not None else _unused(default_record(sys.argv[0], settings.output))
    writer = Writer.create(path, rank=rank(), force=force)
    writer.facts({"target": sys.argv[0]})
    try:
        session = capture.start(
            models or None,
            several(optimizer),
            sink=writer,
            budget=share,
            every=period,
            inquire=inquire,
            memory=memory,
            keep_inputs=settings.keep_inputs if keep_inputs is None else keep_inputs,
            survey=surveyor(settings.curvature if curvature is None else curvature),
        )
    except BaseException:
        writer.close("interrupted")
        raise
    live = LiveRun(session, writer, writer.path)
    LIVE.add(models, live)
    return live


def prober(mebibytes: int | None) -> "tuple[Prober | None, int]":
    """What looks into killing steps, and the bytes that may be kept for it.

    Args:
        mebibytes: MiB; None for no autopsies.

    Returns:
        Both, as ``capture.session.start`` takes them.
    """
    if mebibytes is None:
        return None, 0
    from defib.probe.kill import inquire

    return inquire, mebibytes << 20


def surveyor(wanted: bool) -> "Surveyor | None":
    """What measures the curvature of a loss; None where that is not wanted."""
    if not wanted:
        return None
    from defib.probe.sharpness import survey

    return survey


def log(name: str, value: float) -> None:
    """Keeps a number of the script's own in the record, beside the step that was taken last.

    A validation loss, say: passes without a backward are not seen by themselves. A name that holds
    "val", "test", "dev" or "eval" and "loss" is taken for one, and `overfit` judges by it. Where
    nothing is under watch this does nothing, so that a script runs the same without defib. Of
    several numbers of one name on one step the last one counts.

    Args:
        name: What it is ("val_loss").
        value: A number, or a tensor or array that holds one.

    Raises:
        UsageError: If the name is empty or longer than 200 characters, or the value is no number.
    """  # noqa: DOC502 - the function below raises it
    name, number = logged(name, value)
    for run in LIVE.runs():
        run.log(name, number)


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
