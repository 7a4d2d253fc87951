"""The proving ground: pathologies planted on purpose, and what defib makes of them.

Each pair is a training with a planted cause and its healthy twin, the same draw without
the plant. Both run under ``defib.watch`` with default settings and are diagnosed from
their records. A sick run counts only if the plant took, measured without defib's rules;
a twin counts only if it learned. Runs that do not count are told.
"""

import difflib
import hashlib
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from defib.core.errors import NotFound
from defib.lab.draws import draw
from defib.lab.pairs import Failed, Named, Pair, Seen, Trial, pathologies, read, written
from defib.lab.parallel import Tell, Trade, carry_out
from defib.lab.pathology import Pathology
from defib.lab.training import Training, begin

_GROUND = ("training.py", "draws.py", "ordinary.py", "pathology.py", "nets.py", "data.py")
"""Files of the lab that decide what is trained."""


def trials(draws: int, only: Sequence[str] = (), first: int = 0) -> tuple[Trial, ...]:
    """What a scoreboard of that many draws a pathology runs.

    Args:
        draws: Draws of each.
        only: Slugs of pathologies; none for all.
        first: Number of the first draw.

    Returns:
        Draw after draw, so that one that is cut short has seen every pathology.

    Raises:
        NotFound: If there is no such pathology.
    """
    unknown = [slug for slug in only if slug not in pathologies()]
    if unknown:
        near = difflib.get_close_matches(unknown[0], pathologies(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else "the docs' page The proving ground lists them"
        raise NotFound(f"no pathology is called {unknown[0]!r}; {hint}")
    chosen = only or tuple(pathologies())
    numbers = range(first, first + draws)
    return tuple(Trial(pathology=slug, number=number) for number in numbers for slug in chosen)


def conduct(wanted: Sequence[Trial], folder: Path, *, jobs: int = 0) -> Iterator[Pair | Failed]:
    """Runs what has no result yet, several at a time, each in a process of its own.

    Results are kept one file a pair; a result counts as long as neither the pathology nor any of
    defib that looks or judges has changed.

    Args:
        wanted: What to run.
        folder: Where results are kept; made if it is not there.
        jobs: Processes at a time; 0 for one a core.

    Yields:
        Pairs and failures as they come, kept ones first.

    Raises:
        OutputError: If the folder cannot be made or written.
    """  # noqa: DOC502 - the function below raises it
    trade = Trade(
        perform=examine,
        name=lambda trial: f"{trial.pathology}-{trial.number}-{_mark(trial.pathology)}.json",
        read=lambda path: read(path.read_text(encoding="utf-8")),
        write=written,
    )
    for trial, done in carry_out(wanted, folder, trade, jobs=jobs):
        yield Failed(trial=trial, why=done) if isinstance(done, str) else done


def examine(trial: Trial, told: Tell = lambda _share: None) -> Pair:
    """Runs one pair in this process, on one thread.

    Args:
        trial: Which.
        told: Hears the share done.

    Returns:
        Both runs and what was found.
    """
    import torch

    torch.set_num_threads(1)
    pathology = pathologies()[trial.pathology]()
    of = pathology.fit(draw(pathology.kinds, trial.seed))
    job = begin(of)
    twin = _watched(job, pathology)
    told(0.5)
    job = begin(of)
    pathology.plant(job)
    return Pair(trial=trial, drawn=asdict(of), sick=_watched(job, pathology), twin=twin)


def _watched(job: Training, pathology: Pathology) -> Seen:
    """Trains under watch, with a record of its own, and diagnoses that record."""
    import defib
    from defib.core.config import Settings

    start = time.perf_counter()
    job.start = {name: tensor.clone() for name, tensor in job.net.state_dict().items()}
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of some plants (shapes that broadcast)
        optimiser = job.optimiser(job.net.parameters())
        record = Path(place) / "run.rec"
        with defib.watch(job.net, optimiser, output=record) as live:
            job.log = live.log
            job.run(optimiser)
        faults = live.faults
        diagnosis = defib.diagnose(record, Settings())
        seconds = time.perf_counter() - start
        skill, took = job.skill(), pathology.shows(job)
    return Seen(
        skill=skill,
        took=took,
        verdict=str(diagnosis.verdict),
        findings=tuple(_named(diagnosis.findings, 0)),
        faults=faults,
        seconds=seconds,
    )


def _named(findings: Sequence[Any], depth: int) -> Iterator[Named]:
    for found in findings:
        yield Named(
            rule=found.rule,
            cause=str(found.cause),
            fault=str(found.fault),
            severity=str(found.severity),
            depth=depth,
        )
        yield from _named(found.explains, depth + 1)


@cache
def _mark(slug: str) -> str:
    """Changes with the pathology and with everything of defib that looks or judges."""
    import inspect

    module = inspect.getmodule(pathologies()[slug])
    return hashlib.sha256(
        f"{_judgement()}{inspect.getsource(module) if module else ''}".encode()
    ).hexdigest()[:10]


@cache
def _judgement() -> str:
    """One number for the sources of the eyes, the record, the rules, and the proving ground itself."""
    home = Path(__file__).parents[1]
    parts = [home / name for name in ("core", "capture", "record", "diagnosis", "torchgraph")]
    sources = [path for part in parts for path in sorted(part.rglob("*.py"))]
    sources += [home / "lab" / name for name in _GROUND]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
