"""What is compared with what: arms, seeds, and what counts as better."""

import re
from dataclasses import dataclass
from hashlib import sha256

from defib.core.errors import UsageError
from defib.core.prescription import Prescription
from defib.core.trial import Goal

CONTROL = "control"
RANDOM = "random"
_LONGEST = 150
"""Letters of an arm's name that its folder is called by."""
_FALLS = re.compile(r"loss|err|mse|mae|rmse|nll|perplexity|ppl", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a run is worth.

    Attributes:
        pattern: Regular expression with one group, searched in the script's standard output; its
            last match counts. "" for none.
        logged: Name under which the script called ``defib.log``; "" for none. Without either, the
            training loss at the end is taken.
        goal: Which way is better.
    """

    pattern: str = ""
    logged: str = ""
    goal: Goal = Goal.LOWER

    @property
    def name(self) -> str:
        """In words."""
        return self.logged or self.pattern or "final training loss"


def parse_measure(text: str | None, goal: str | None = None) -> Measure:
    """Understands ``--metric`` and ``--goal``.

    Args:
        text: A regular expression with a group ("accuracy ([0-9.]+)"), or the plain name of
            something that the script logs with ``defib.log``; None for the training loss.
        goal: "lower" or "higher"; None to tell by the name: losses and errors fall, all else rises.

    Returns:
        The measure.

    Raises:
        UsageError: If the expression or the goal cannot be understood.
    """
    if goal not in {None, *Goal}:
        raise UsageError(f"--goal is lower or higher, not {goal!r}")
    if text is None:
        return Measure(goal=Goal(goal or Goal.LOWER))
    usual = Goal.LOWER if _FALLS.search(text) else Goal.HIGHER
    if re.fullmatch(r"[\w./-]+", text):
        return Measure(logged=text, goal=Goal(goal or usual))
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise UsageError(f"--metric {text!r} is no regular expression: {error}") from None
    if groups != 1:
        raise UsageError(f"--metric {text!r} needs exactly one group around the number, it has {groups}")
    return Measure(pattern=text, goal=Goal(goal or usual))


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to run the script: without treatment, with one, or with a course of several.

    Attributes:
        name: "control", "random", or the treatment's slug (with its layer, where two would be alike);
            those of a course joined by "+".
        given: Its treatments in the order in which they are given, each at its own step; none for the
            control arm. A later one was planned from the run that had the earlier ones.
    """

    name: str
    given: tuple[Prescription, ...] = ()

    def then(self, prescription: Prescription, name: str) -> "Arm":
        """This arm with one treatment more.

        Args:
            prescription: What is added.
            name: What the longer course is called.

        Returns:
            The longer course.
        """
        return Arm(name=name, given=(*self.given, prescription))


@dataclass(frozen=True, kw_only=True)
class Script:
    """What is run.

    Attributes:
        target: Script path or module name.
        is_module: ``target`` is a module.
        arguments: The script's own arguments.
        folder: Where it is run.
    """

    target: str
    is_module: bool
    arguments: tuple[str, ...]
    folder: str

    @property
    def words(self) -> list[str]:
        """As on a command line."""
        return [*(["-m"] if self.is_module else []), self.target, *self.arguments]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of the script.

    Attributes:
        arm: Which arm.
        seed: Added to every seed that the script sets: 0 leaves it as it is.
        raced: It is ended where it does no better than the control.
        attempt: Which draw of the random arm, from 0.
        rival: Name of the job whose losses it has to beat; "" for the control's of the same seed.
    """

    arm: Arm
    seed: int
    raced: bool = False
    attempt: int = 0
    rival: str = ""

    @property
    def name(self) -> str:
        """Its folder's name within the trial."""
        part = f"-try{self.attempt}" if self.attempt else ""
        part += "-raced" if self.raced else ""
        arm = self.arm.name
        if len(arm) > _LONGEST:  # three treatments of deep layers: no file system takes any length
            arm = f"{arm[:_LONGEST]}-{sha256(arm.encode()).hexdigest()[:8]}"
        return re.sub(r"[^\w.+-]+", "-", f"{arm}-seed{self.seed}{part}")
