"""Settings: ``[tool.defib]`` in the nearest pyproject.toml, then ``DEFIB_*`` in the environment.

::

    [tool.defib]
    budget = "1%"          # share of the training time that watching may cost
    every = 20             # steps between readings; left out: the governor decides
    output = "runs"        # folder in which records without a name of their own are made
    quiet = false          # true: say nothing at the end of `defib run`
    autopsy = false        # true: look into the step that kills a unit (see Autopsy)
    autopsy_memory = 256   # MiB that an autopsy may keep of the last steps
    keep_inputs = true     # false: no sample of the data goes into a record (see below)
    curvature = false      # true: measure the loss's curvature on some steps (see Curvature)

    [tool.defib.rules.dead-unit]
    some_limit = 0.01      # a limit that the rule declares (`defib explain dead-unit`)

``DEFIB_BUDGET``, ``DEFIB_EVERY``, ``DEFIB_OUTPUT``, ``DEFIB_QUIET``,
``DEFIB_AUTOPSY``, ``DEFIB_AUTOPSY_MEMORY``, ``DEFIB_KEEP_INPUTS`` and
``DEFIB_CURVATURE`` say the same for one command and win over the file; an option
on the command line, or an argument of ``defib.watch``, wins over both.

For the prognosis of dead units a record holds up to 1,024 different samples of
what feeds each layer that can die: of a first layer that is the data itself. Where
data must not leave its place, set ``keep_inputs`` to false, or type ``defib run
--no-inputs``: then a record holds statistics only and no sample of any layer (one
further up may get the data as well, around the first), and ``defib prognose`` says
that it cannot foretell for want of them.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from defib.core.errors import UsageError

_FROM_ENVIRONMENT = (
    "budget", "every", "output", "quiet", "autopsy", "autopsy_memory", "keep_inputs", "curvature",
)  # fmt: skip

RuleLimits = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a user can set.

    Attributes:
        budget: Share of the training time that watching may cost, between 0 and 1.
        every: Steps between readings; None leaves it to the governor.
        output: Folder in which records without a name of their own are made; None for the
            current one.
        quiet: Say nothing at the end of ``defib run``.
        autopsy: Look into the steps that kill units, while the run is under way.
        autopsy_memory: MiB that this may keep of the last steps.
        keep_inputs: Keep samples of what feeds a layer in the record, for the prognosis.
        curvature: Measure the largest curvature of the loss on some steps.
        rules: For each rule's slug, its limits by name.
        source: The file they came from; None if there was none.
    """

    budget: float = 0.01
    every: int | None = None
    output: Path | None = None
    quiet: bool = False
    autopsy: bool = False
    autopsy_memory: int = 256
    keep_inputs: bool = True
    curvature: bool = False
    rules: RuleLimits = field(default_factory=dict)
    source: Path | None = None


def load_settings(start: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings that hold in a folder.

    Args:
        start: Folder from which the nearest pyproject.toml is looked for, upwards; None for the
            current one.
        environ: The environment.

    Returns:
        File and environment together, the environment first.

    Raises:
        UsageError: If the file is no TOML, or a setting is unknown or out of range.
    """  # noqa: DOC502 - the readers below raise it
    settings = Settings()
    source = _nearest(start)
    if source is not None:
        for key, value in _table(source).items():
            settings = _with(settings, key, value, f"{source}: [tool.defib] {key}", source.parent)
        settings = replace(settings, source=source)
    for key in _FROM_ENVIRONMENT:
        name = f"DEFIB_{key.upper()}"
        if environ.get(name):
            settings = _with(settings, key, environ[name], name, Path())
    return settings


def parse_budget(value: object) -> float:
    """A share of the training time: ``"1%"``, ``"0.01"`` or ``0.01``.

    Returns:
        The share as a ratio.

    Raises:
        UsageError: If it is no number, or not between 0 and 1 (0 and 1 excluded).
    """
    text = "" if isinstance(value, bool) else str(value).strip()
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise UsageError(f"a budget is a share of the time such as 1% or 0.01, not {value!r}") from None
    if not 0 < share < 1:
        raise UsageError(f"a budget lies between 0 and 100% (write 1% or 0.01), not {value!r}")
    return share


def parse_every(value: object) -> int:
    """A number of steps between readings, at least 1.

    Returns:
        The number.

    Raises:
        UsageError: If it is no whole number, or less than 1.
    """
    try:
        steps = int("" if isinstance(value, bool) else str(value))
    except ValueError:
        raise UsageError(f"steps between readings are a whole number, not {value!r}") from None
    if steps < 1:
        raise UsageError(f"steps between readings are at least 1, not {steps}")
    return steps


def _nearest(start: Path | None) -> Path | None:
    """The nearest pyproject.toml at or above a folder."""
    try:
        here = (start or Path()).resolve()
        return next((p for d in (here, *here.parents) if (p := d / "pyproject.toml").is_file()), None)
    except OSError:  # the current folder was removed, or may not be looked at
        return None


def _table(source: Path) -> dict[str, Any]:
    """``[tool.defib]`` of a file, empty if it has none."""
    try:
        tool = tomllib.loads(source.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the settings in {source}: {error}") from None
    table = tool.get("defib", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise UsageError(f"{source}: tool.defib is to be a table, [tool.defib]")
    return table


def _with(settings: Settings, key: str, value: object, where: str, folder: Path) -> Settings:
    """The settings with one of them changed."""
    readers = {
        "budget": parse_budget,
        "every": parse_every,
        "output": lambda given: _folder(given, folder),
        "quiet": _truth,
        "autopsy": _truth,
        "autopsy_memory": _mebibytes,
        "keep_inputs": _truth,
        "curvature": _truth,
        "rules": _limits,
    }
    if key not in readers:
        near = difflib.get_close_matches(key, readers, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(readers)}"
        raise UsageError(f"{where}: no such setting{hint}")
    try:
        changed: dict[str, Any] = {key: readers[key](value)}
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return replace(settings, **changed)


def _folder(value: object, relative_to: Path) -> Path:
    """A folder, taken relative to the file that names it."""
    if not isinstance(value, str) or not value:
        raise UsageError(f"an output folder is a path, not {value!r}")
    return relative_to / Path(value).expanduser()


def _mebibytes(value: object) -> int:
    """A number of MiB."""
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal() or int(text) < 1:
        raise UsageError(f"memory is a whole number of MiB, at least 1, not {value!r}")
    return int(text)


def _truth(value: object) -> bool:
    """A switch."""
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    word = str(value).lower()
    if word not in words:
        raise UsageError(f"a switch is true or false, not {value!r}")
    return words[word]


def _limits(value: object) -> RuleLimits:
    """Limits of rules, by slug and by name."""
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
        raise UsageError("limits stand in tables of their own, [tool.defib.rules.SLUG]")
    for slug, limits in value.items():
        for name, number in limits.items():
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise UsageError(f"{slug}.{name}: a limit is a number, not {number!r}")
    return {slug: {name: float(n) for name, n in limits.items()} for slug, limits in value.items()}
