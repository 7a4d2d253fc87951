"""Carries out a trial: control, screening, full arms; every run in a process of its own.

The order: the control arm runs once with the script's own seeds and is
diagnosed. The first treatments of its prescription become arms. More arms than
the budget has room for are screened: each runs to a quarter of the control's
steps, and those with the lowest training loss there go on. What goes on runs
with every seed, and so do the control and the random-repair arm.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from defib import api, care
from defib.core.errors import DefibError
from defib.core.finding import Severity
from defib.core.prescription import Prescription, Safety
from defib.core.trial import Outcome, Verdict
from defib.trials.book import Book
from defib.trials.design import CONTROL, RANDOM, Arm, Job, Measure, Script
from defib.trials.executor import Executor, Finished, Task, executor, found_in
from defib.trials.verdict import compare, ranked

if TYPE_CHECKING:
    from defib.core.run import RunView, Series

SCREENED = 4
"""Treatments that are tried at all when the arms are chosen by defib."""

SHARE = 0.25
"""Part of the control's steps to which a screened arm runs."""

LATE = 0.05
"""Part of a run's steps over which its final loss is averaged."""

PATIENCE = 5.0
"""A treated run is ended after this many times the control's wall time (and 60 s)."""

Say = Callable[[str, int, int], None]
"""Told what is under way, how many runs are done, and how many there will be."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What ``defib trial`` asks for.

    Attributes:
        script: What is run.
        measure: What a run is worth.
        arms: Treatments by ``--treat`` words; empty to choose by diagnosis.
        seeds: How many seeds each arm gets.
        budget: Treated runs with one seed, in plain runs; room for more arms with a larger one.
        random: Also run an arm of randomly chosen treatments.
    """

    script: Script
    measure: Measure
    arms: tuple[str, ...] = ()
    seeds: int = 3
    budget: float = 2.0
    random: bool = True

    def plan(self) -> dict[str, object]:
        """What another life of the same trial must ask for too."""
        return {"words": self.script.words, **{k: v for k, v in asdict(self).items() if k != "script"}}


class Trial:
    """One trial under way.

    Args:
        request: What is asked.
        book: Its folder.
        executor: Where runs take place.
        say: Told of progress.
    """

    def __init__(self, request: Request, book: Book, executor: Executor, say: Say) -> None:
        self._request = request
        self._book = book
        self._executor = executor
        self._say = say
        self._done = 0
        self._planned = 1

    def run(self) -> Verdict:
        """Runs what has not been run yet, and judges.

        Returns:
            The verdict.
        """
        request = self._request
        control = Arm(name=CONTROL)
        first = self._complete([Job(arm=control, seed=0)])[0]
        diagnosis, prescriptions, patches = self._examined(first)
        arms = self._chosen(prescriptions)
        kept = self._screened(arms, first)
        others = [control, *kept] + ([Arm(name=RANDOM)] if request.random and kept else [])
        jobs = [Job(arm=self._seeded(a, s), seed=s) for a in others for s in range(request.seeds)]
        self._complete(jobs)
        return self._verdict(kept, diagnosis, patches)

    def _complete(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Outcomes of all those jobs; only what no earlier life of the trial completed is run."""
        missing = {job.name: job for job in jobs if self._book.known(job) is None}
        self._planned = max(self._planned, self._done + len(missing))
        tasks = [self._task(job) for job in missing.values()]
        for task in tasks:
            self._say(task.name, self._done, self._planned)
        for finished in self._executor.run(tasks) if tasks else ():
            job = missing[finished.name]
            self._book.add(job, self._outcome(job, finished))
            self._done += 1
            self._say(job.name, self._done, self._planned)
        return [o for job in jobs if (o := self._book.known(job)) is not None]

    def _task(self, job: Job) -> Task:
        output = self._book.folder / "runs" / job.name
        words = [sys.executable, "-m", "defib", "run", "-q", "-f", "-o", str(output / "run.rec")]
        words += ["--seed-shift", str(job.seed)]
        files: dict[str, str] = {}
        if job.stop_at is not None:
            words += ["--stop-at", str(job.stop_at)]
        if job.arm.given:
            files["treat.json"] = json.dumps([care.as_data(p) for p in job.arm.given])
            words += ["--treat", f"@{output / 'treat.json'}"]
            words += ["--treat-at", str(max(p.at for p in job.arm.given))]
        plain = [o.seconds for o in self._book.outcomes.values() if o.arm == CONTROL]
        limit = 60 + PATIENCE * max(plain) if plain else None
        script = self._request.script
        return Task(
            name=job.name,
            command=(*words, "--", *script.words),
            folder=Path(script.folder),
            output=output,
            files=files,
            limit=limit,
        )

    def _outcome(self, job: Job, finished: Finished) -> Outcome:
        """What came of a run, from its record and its standard output."""
        folder = self._book.folder / "runs" / job.name
        record = folder / "run.rec"
        try:
            view: RunView | None = api.open_run(record).view
        except DefibError:
            view = None
        losses = view.loss.values if view is not None else np.zeros(0)
        return Outcome(
            arm=job.arm.name,
            seed=job.seed,
            score=self._score(folder, view, losses),
            loss=final(losses),
            first_loss=_number(losses[0]) if len(losses) else None,
            steps=view.steps if view is not None else 0,
            seconds=finished.seconds,
            code=finished.code,
            stop_at=job.stop_at,
            treated=_treated(view),
            refused=_refused(view),
            record=str(record.relative_to(self._book.folder)),
        )

    def _score(self, folder: Path, view: "RunView | None", losses: "np.ndarray") -> float | None:
        measure = self._request.measure
        if measure.pattern:
            text = (folder / "stdout").read_text(encoding="utf-8", errors="replace")
            return _number(found_in(text, measure.pattern))
        if measure.logged:
            logged: Series | None = view.logged.get(measure.logged) if view is not None else None
            return _number(logged.values[-1]) if logged is not None and len(logged) else None
        return final(losses)

    def _examined(self, control: Outcome) -> tuple[str, list[Prescription], tuple[str, ...]]:
        """What the control run suffers from, what could help, and what only the source could change."""
        run = api.open_run(self._book.folder / control.record)
        harmful = [f for f in run.diagnose().findings if f.severity is not Severity.INFO]
        prescriptions = api.prescribe(run)
        patches = tuple(dict.fromkeys(p.patch for p in prescriptions if p.patch))
        live = [p for p in prescriptions if p.safety is not Safety.SOURCE]
        return (harmful[0].message if harmful else "nothing was found wrong"), live, patches

    def _chosen(self, prescriptions: Iterable[Prescription]) -> list[Arm]:
        """The arms: those asked for, or the first few different treatments that were prescribed."""
        if self._request.arms:
            return [_arm(care.parse_order([word]), word) for word in self._request.arms]
        different: dict[tuple[str, str], Prescription] = {}
        for prescription in prescriptions:
            different.setdefault(
                (prescription.treatment, str(sorted(prescription.dose.items()))), prescription
            )
        arms = [Arm(name=_name(p, different.values()), given=(p,)) for p in different.values()]
        return arms[:SCREENED]

    def _screened(self, arms: list[Arm], control: Outcome) -> list[Arm]:
        """Those that the budget has room for, after a short run of each if they are too many."""
        room = self._request.budget
        if self._request.arms or len(arms) <= 1 or len(arms) <= room:
            return arms
        stop = max(1, math.ceil(control.steps * SHARE))
        found = self._complete([Job(arm=arm, seed=0, stop_at=stop) for arm in arms])
        by_name = {o.arm: o for o in found}
        keep = max(1, int(room - SHARE * len(arms)))

        def promise(arm: Arm) -> tuple[bool, float]:
            """Given at all first, then by the loss; one that is not finite comes last among the given."""
            outcome = by_name.get(arm.name)
            if outcome is None or not outcome.treated:
                return True, math.inf
            return False, outcome.loss if outcome.loss is not None else math.inf

        return sorted(arms, key=promise)[:keep]

    def _seeded(self, arm: Arm, seed: int) -> Arm:
        """The arm as it is run with one seed: the random one draws a treatment."""
        if arm.name != RANDOM:
            return arm
        from defib.therapy.engine import treatments

        live = sorted((t for t in treatments() if t.safety is not Safety.SOURCE), key=lambda t: t.slug)
        draw = Random(f"random repair {seed}")
        layers = self._layers()
        drawn = draw.choice(live)
        dose = drawn().drawn(draw, layers)
        return Arm(name=RANDOM, given=(care.named(drawn.slug, dose),))

    def _layers(self) -> tuple[str, ...]:
        first = self._book.known(Job(arm=Arm(name=CONTROL), seed=0))
        if first is None:
            return ()
        return tuple(layer.path for layer in api.open_run(self._book.folder / first.record).view.layers)

    def _verdict(self, arms: Sequence[Arm], diagnosis: str, patches: tuple[str, ...]) -> Verdict:
        request, outcomes = self._request, tuple(self._book.outcomes.values())
        names = [a.name for a in arms] + ([RANDOM] if any(o.arm == RANDOM for o in outcomes) else [])
        comparisons = ranked([compare(name, outcomes, request.measure) for name in names])
        plain = [o.seconds for o in outcomes if o.arm == CONTROL]
        better = (c.arm for c in comparisons if c.answer == "better" and c.arm != RANDOM)
        return Verdict(
            script=" ".join(request.script.words),
            measure=request.measure.name,
            goal=request.measure.goal,
            best=next(better, ""),
            comparisons=comparisons,
            outcomes=outcomes,
            cost=sum(o.seconds for o in outcomes) / float(np.mean(plain)),
            diagnosis=diagnosis,
            patches=patches,
        )


def final(losses: "np.ndarray") -> float | None:
    """Mean training loss over the last twentieth of the steps; None if it is not finite.

    Args:
        losses: Loss of each step, shape (T,).

    Returns:
        The mean.
    """
    count = max(1, round(len(losses) * LATE))
    return _number(float(np.mean(losses[-count:]))) if len(losses) else None


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _arm(order: "care.Order | None", word: str) -> Arm:
    return Arm(name=word, given=order.given if order is not None else ())


def _name(prescription: Prescription, among: Iterable[Prescription]) -> str:
    """The treatment's slug; with the layer where two arms would have the same name."""
    alike = [p for p in among if p.treatment == prescription.treatment]
    return prescription.treatment if len(alike) == 1 else f"{prescription.treatment}@{prescription.layer}"


def _treated(view: "RunView | None") -> tuple[str, ...]:
    events = view.of_kind("treatment") if view is not None else ()
    return tuple(e.data["treatment"] for e in events if e.data.get("stage") == "done")


def _refused(view: "RunView | None") -> str:
    events = view.of_kind("treatment") if view is not None else ()
    return next((str(e.data.get("why", "")) for e in events if e.data.get("stage") in _FAILED), "")


_FAILED = {"refused", "rolled-back", "failed"}


def conduct(request: Request, folder: Path, *, on: str = "local", jobs: int = 1) -> Verdict:
    """Runs a trial, with a progress bar on stderr where that is a terminal.

    Args:
        request: What is asked.
        folder: The trial's folder; one of the same trial is gone on with.
        on: Where runs take place: "local", "ray", "ray://host:port".
        jobs: Runs at a time.

    Returns:
        The verdict; it is also written to ``verdict.json`` in the folder.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    where = executor(on, jobs)
    book = Book(folder.absolute(), request.plan())
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def say(name: str, done: int, planned: int) -> None:
            bar.update(task, description=name, completed=done, total=planned)

        verdict = Trial(request, book, where, say).run()
    book.conclude(verdict)
    return verdict
