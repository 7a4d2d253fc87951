"""What came of a controlled comparison: plain data, JSON-able."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Goal(StrEnum):
    """Which way is better."""

    LOWER = "lower"
    HIGHER = "higher"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a job.

    Attributes:
        arm: Name of the arm.
        seed: Its seed.
        score: What it was worth; None if it never said.
        loss: Training loss at the end, over the last twentieth of its steps; None if there is none.
        first_loss: Training loss of the first step.
        steps: Optimiser steps taken.
        seconds: Wall time.
        code: Exit code of the script.
        stop_at: Step at which it was ended on purpose, because its treatment was refused or it did no
            better than the control; None if it was not.
        treated: Slugs of the treatments that were done, in order.
        refused: Why a treatment was not given; "" if it was.
        record: The record's folder, relative to the trial's.
        cpu: CPU time of the process and its children, seconds, start-up included; 0 in older trials.
        gain: Where it was last compared on the way, with the control or with the shorter course that it
            adds to: by how much its loss was lower, in decades, or in units of the loss where that
            is not positive; None if it never was.
        wrong: Findings of severity error in its own diagnosis; None if there was none to make.
        findings: Rules of the errors and warnings in its own diagnosis, with the layer ("dead-unit in fc1").
        rival: Folder of the run whose losses it had to beat, if that is not the control's: the shorter
            course; "" otherwise.
    """

    arm: str
    seed: int
    score: float | None
    loss: float | None
    first_loss: float | None
    steps: int
    seconds: float
    code: int
    stop_at: int | None = None
    treated: tuple[str, ...] = ()
    refused: str = ""
    record: str = ""
    cpu: float = 0.0
    gain: float | None = None
    wrong: int | None = None
    findings: tuple[str, ...] = ()
    rival: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm against the control, paired by seed.

    Attributes:
        arm: The arm.
        answer: "better", "worse", "undecided", "stopped" (on the way, for it did no better) or "refused".
        difference: Mean paired difference in the measure's own unit, positive where the arm is better.
        low: Lower end of its 95 % interval (paired t); None with fewer than two pairs.
        high: Upper end.
        effect: Mean difference / standard deviation of the differences; None where that is 0 or unknown.
        pairs: Seeds compared.
        score: Median score of the arm.
        why: One sentence.
        course: Its treatments in order, each as ``--treat`` takes it; none for random repairs.
    """

    arm: str
    answer: str
    difference: float | None
    low: float | None
    high: float | None
    effect: float | None
    pairs: int
    score: float | None
    why: str
    course: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The whole answer: ``defib trial --json`` prints exactly this.

    Attributes:
        script: Command line of the script.
        measure: What a run is worth, in words.
        goal: Which way is better.
        best: Name of the best arm that is better than the control; "" if none is.
        comparisons: Each treated arm against the control, best first.
        outcomes: Every run.
        cost: Wall time of all runs / mean wall time of one control run.
        cost_cpu: The same in CPU time, start-up included.
        cost_steps: The same in optimiser steps.
        extra_cpu: What it cost to find a treatment and train with it once: CPU time of all runs of the
            search with the script's own seeds / that of the control run, which is the failing run itself.
        extra_steps: The same in optimiser steps.
        diagnosis: What the control run suffers from, in one line.
        patches: What only a change of the source could do.
        schema: Name and version of this structure.
    """

    script: str
    measure: str
    goal: Goal
    best: str
    comparisons: tuple[Comparison, ...]
    outcomes: tuple[Outcome, ...]
    cost: float
    diagnosis: str
    patches: tuple[str, ...] = ()
    cost_cpu: float = 0.0
    cost_steps: float = 0.0
    extra_cpu: float = 0.0
    extra_steps: float = 0.0
    schema: str = field(default="defib.trial/1")


def outcome_from(data: dict[str, Any]) -> Outcome:
    """The inverse of ``dataclasses.asdict`` after JSON."""
    lists = {name: tuple(data.get(name, ())) for name in ("treated", "findings")}
    return Outcome(**{**data, **lists})
