"""What ``defib run`` was asked to do, and the name that a record gets by default."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """One ``defib run`` command line, understood.

    Attributes:
        target: The script's path, or the module's dotted name.
        is_module: ``target`` is a module (``-m``).
        arguments: Everything after the target, untouched: it belongs to the script.
        output: Where the record goes; None for :func:`default_record`.
        budget: Share of the training time that watching may cost, between 0 and 1.
        every: Steps between readings; None leaves it to the governor.
        quiet: Say nothing at the end.
        force: Replace a record that is already there.
        treat: Treatments to give, as :func:`defib.care.parse_order` understands them.
        treat_at: Optimiser step at which those that are named are given; 0 for before the first.
        seed_shift: Added to every seed that the script sets; None leaves all randomness alone.
        stop_at: Optimiser step after which the script is ended; None to let it end by itself.
        race: File with the losses of a control run (:mod:`defib.trials.race`): the script is ended
            where it does not do better; None for no such race.
        autopsy: MiB that an autopsy may keep of the last steps; None for no autopsies.
        keep_inputs: Keep samples of what feeds a layer in the record.
        curvature: Measure the largest curvature of the loss on some steps.
    """

    target: str
    is_module: bool
    arguments: tuple[str, ...]
    output: Path | None
    budget: float
    every: int | None
    quiet: bool
    force: bool
    treat: tuple[str, ...] = ()
    treat_at: int = 0
    seed_shift: int | None = None
    stop_at: int | None = None
    race: Path | None = None
    autopsy: int | None = None
    keep_inputs: bool = True
    curvature: bool = False


def default_record(target: str, folder: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The record's path where none was given: ``defib-<stem>.<pid>.rec``.

    All ranks of a torchrun job on one machine must arrive at one name, so
    there the launcher's process id (the parent's) takes the place of our own.

    Args:
        target: Script path or dotted module name; "" for an interactive session.
        folder: Where to put it; the current folder if None.
        environ: The environment in which a job's ``WORLD_SIZE`` is looked up.

    Returns:
        A path that nobody has made yet.
    """
    one_of_many = environ.get("WORLD_SIZE", "1") not in {"", "1"}
    pid = os.getppid() if one_of_many else os.getpid()
    return (folder or Path()) / f"defib-{_stem(target)}.{pid}.rec"


def _stem(target: str) -> str:
    """A short name for a script: "train" for train.py, "pkg" for pkg/__main__.py."""
    path = Path(target)
    name = path.stem if path.suffix == ".py" else path.name
    if name == "__main__":
        name = path.parent.name
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return kept[:60].strip(".-") or "python"
