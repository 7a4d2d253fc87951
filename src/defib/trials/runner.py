"""Carries out a trial: control, search, seeds, random repairs; every run in a process of its own.

The order: the control arm runs once with the script's own seeds and is diagnosed; it is
the failing run itself. What is prescribed for it is tried one after the other, and what is
prescribed for a treated run that is not well yet is tried in addition
(:mod:`defib.trials.search`). The course that was found there runs with every other seed,
and so does the control. Random repairs go through the same search with as many draws,
in as many rounds, for every seed. Arms that a person names all run in full.

One process a run, although importing torch takes longer than many a small script: a
process that was forked after its imports would have inherited the state of thread
pools (numpy's BLAS starts its own when it is imported, torch's stand with the first
operation) without their threads, a CUDA context cannot be carried over at all, and
``__main__``, exit handlers and signal handlers would be those of the parent. What is
saved instead is runs: most trials need one treated run to find their treatment.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from defib import api, care
from defib.core.prescription import Prescription
from defib.core.trial import Outcome, Verdict
from defib.orders import check_order
from defib.report.prescription import word
from defib.trials.book import Book
from defib.trials.design import CONTROL, RANDOM, Arm, Job, Measure, Script
from defib.trials.executor import Executor, Task, executor
from defib.trials.outcomes import final as final  # noqa: PLC0414 - known under this name as well
from defib.trials.outcomes import harm, outcome_of
from defib.trials.proposals import FURTHER, additions, draws, prescriptions_of
from defib.trials.race import marks_of, to_text
from defib.trials.search import MOST, Propose, Search, Tried, search
from defib.trials.verdict import compare, ranked

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
        first = self._one(Job(arm=control, seed=0))
        diagnosis, prescriptions, patches = self._examined(first)
        if request.arms:
            arms, found = [_arm(care.parse_order([word]), word) for word in request.arms], None
            kept = arms
        else:
            found = self._searched(self._prescribed(prescriptions), first, MOST)
            arms, kept = list(found.arms), [found.arm] if found.arm is not None else []
        if kept:
            others = [control, *kept]
            self._complete([self._full(arm, seed) for arm in others for seed in range(request.seeds)])
        if request.random and kept:
            self._drawn(1 if found is None else found.tried)
        return self._verdict(arms, found, diagnosis, patches)

    def _full(self, arm: Arm, seed: int) -> Job:
        """A run to the end: the raced one where it got there."""
        raced = Job(arm=arm, seed=seed, raced=True)
        known = self._book.known(raced)
        return raced if known is not None and known.stop_at is None else Job(arm=arm, seed=seed)

    def _searched(self, propose: Propose, control: Outcome, most: int) -> Search:
        return search(propose, control, self._request.measure, self._request.budget, self._one, most)

    def _prescribed(self, first: Sequence[Prescription]) -> Propose:
        """What the control's diagnosis brings; in addition to a course, what that of its own run brings."""

        def propose(tried: Tried | None) -> Sequence[Arm]:
            if tried is None:
                return additions(Arm(name=CONTROL), first)
            record = self._book.folder / tried.outcome.record
            return additions(tried.job.arm, prescriptions_of(record))

        return propose

    def _drawn(self, tries: int) -> None:
        """Random repairs: for every seed the same search, with as many draws."""
        for seed in range(self._request.seeds):
            control = self._book.known(Job(arm=Arm(name=CONTROL), seed=seed))
            if control is not None:
                self._searched(self._by_chance(seed, tries), control, tries)

    def _by_chance(self, seed: int, tries: int) -> Propose:
        """Random first treatments, and random additions to a course."""
        script, layers = Path(self._request.script.target).name, self._layers()

        def propose(tried: Tried | None) -> Sequence[Arm]:
            if tried is None:
                return draws(None, tries, script=script, seed=seed, attempt=0, layers=layers)
            arm, attempt = tried.job.arm, tried.job.attempt
            return draws(arm, FURTHER, script=script, seed=seed, attempt=attempt, layers=layers)

        return propose

    def _one(self, job: Job) -> Outcome:
        return self._complete([job])[0]

    def _complete(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Outcomes of all those jobs; only what no earlier life of the trial completed is run."""
        missing = {job.name: job for job in jobs if self._book.known(job) is None}
        self._planned = max(self._planned, self._done + len(missing))
        tasks = [self._task(job) for job in missing.values()]
        for task in tasks:
            self._say(task.name, self._done, self._planned)
        for finished in self._executor.run(tasks) if tasks else ():
            job = missing[finished.name]
            folder = self._book.folder / "runs" / job.name
            self._book.add(job, outcome_of(job, finished, folder, self._request.measure))
            self._done += 1
            self._say(job.name, self._done, self._planned)
        return [o for job in jobs if (o := self._book.known(job)) is not None]

    def _task(self, job: Job) -> Task:
        output = self._book.folder / "runs" / job.name
        words = [sys.executable, "-m", "defib", "run", "-q", "-f", "-o", str(output / "run.rec")]
        words += ["--seed-shift", str(job.seed)]
        files: dict[str, str] = {}
        if job.raced and (marks := self._marks(job)):
            files["race.json"] = marks
            words += ["--race", str(output / "race.json")]
        if job.arm.given:
            files["treat.json"] = json.dumps([care.as_data(p) for p in job.arm.given])
            words += ["--treat", f"@{output / 'treat.json'}"]
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

    def _marks(self, job: Job) -> str:
        """What the control of the same seed asks of a raced run, or the shorter course that it adds to."""
        control = self._book.known(Job(arm=Arm(name=CONTROL), seed=job.seed))
        rival = self._book.outcomes.get(job.rival, control)
        record = self._book.folder / rival.record if rival is not None else None
        return "" if record is None else to_text(marks_of(api.open_run(record).view.loss))

    def _examined(self, control: Outcome) -> tuple[str, tuple[Prescription, ...], tuple[str, ...]]:
        """What the control run suffers from, what could help, and what only the source could change."""
        record = self._book.folder / control.record
        harmful = harm(api.open_run(record).view)
        prescriptions = prescriptions_of(record)
        patches = tuple(dict.fromkeys(p.patch for p in prescriptions if p.patch))
        return (harmful[0].message if harmful else "nothing was found wrong"), prescriptions, patches

    def _layers(self) -> tuple[str, ...]:
        first = self._book.known(Job(arm=Arm(name=CONTROL), seed=0))
        if first is None:
            return ()
        return tuple(layer.path for layer in api.open_run(self._book.folder / first.record).view.layers)

    def _verdict(
        self, arms: Sequence[Arm], found: Search | None, diagnosis: str, patches: tuple[str, ...]
    ) -> Verdict:
        request, outcomes = self._request, tuple(self._book.outcomes.values())
        run = {o.arm for o in outcomes}
        names = [a.name for a in arms if a.name in run] + ([RANDOM] if RANDOM in run else [])
        courses = {a.name: tuple(map(word, a.given)) for a in arms}
        comparisons = ranked(
            [
                replace(compare(name, outcomes, request.measure), course=courses.get(name, ()))
                for name in dict.fromkeys(names)
            ]
        )
        plain = [o for o in outcomes if o.arm == CONTROL]
        better = (c.arm for c in comparisons if c.answer == "better" and c.arm != RANDOM)
        first = [o for o in plain if o.seed == 0]
        sought = found.outcomes if found is not None else [o for o in outcomes if o.arm in names]
        return Verdict(
            script=" ".join(request.script.words),
            measure=request.measure.name,
            goal=request.measure.goal,
            best=next(better, ""),
            comparisons=comparisons,
            outcomes=outcomes,
            cost=_ratio(outcomes, plain, "seconds"),
            diagnosis=diagnosis,
            patches=patches,
            cost_cpu=_ratio(outcomes, plain, "cpu"),
            cost_steps=_ratio(outcomes, plain, "steps"),
            extra_cpu=_ratio(sought, first, "cpu"),
            extra_steps=_ratio(sought, first, "steps"),
        )


def _ratio(runs: Sequence[Outcome], plain: Sequence[Outcome], what: str) -> float:
    """All of some runs over the mean of others; 0 where those cost nothing that was counted."""
    one = sum(getattr(o, what) for o in plain) / max(1, len(plain))
    return float(sum(getattr(o, what) for o in runs) / one) if one > 0 else 0.0


def _arm(order: "care.Order | None", word: str) -> Arm:
    return Arm(name=word, given=order.given if order is not None else ())


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

    check_order(request.arms)
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
