"""What is kept of a run of an experiment, and how it is written and read."""

import contextlib
import dataclasses
import hashlib
import inspect
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defib.lab.dials import Scale
from defib.lab.estimate import Estimate, Region, Verdict, joined
from defib.lab.experiment import Experiment, Measurement, Part, Published
from defib.lab.figure import Figure, Kind, Line
from defib.lab.index import experiments


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be run.

    Attributes:
        slug: The experiment.
        seed: Its seed.
        scale: Its scale.
        overrides: Dials that the user set, as text.
    """

    slug: str
    seed: int
    scale: Scale
    overrides: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One finished run.

    Attributes:
        order: What was asked for.
        dials: Every dial with the value that was in force.
        measurement: What was found.
        seconds: CPU time of the process that ran it.
        torch: Version of torch.
    """

    order: Order
    dials: Mapping[str, Any]
    measurement: Measurement
    seconds: float
    torch: str


def key(order: Order, cls: type[Experiment[Any]]) -> str:
    """A file name that changes with the order and with the experiment's source."""
    source = inspect.getsource(sys.modules[cls.__module__])
    text = json.dumps([dict(order.overrides), source], sort_keys=True)
    mark = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{order.slug}-{order.scale}-{order.seed}-{mark}.json"


def plain(result: Result) -> dict[str, Any]:
    """As JSON-able data: numbers that JSON has no word for become text ("inf", "-inf", "nan").

    The verdicts are written too, for readers; :func:`read` computes them anew.

    Returns:
        A dictionary of the result's fields and ``verdicts``.
    """
    told: dict[str, Any] = _plain(dataclasses.asdict(result))
    told["verdicts"] = {row: str(verdict) for row, verdict in result.measurement.verdicts().items()}
    return told


def written(result: Result) -> str:
    """The text of a result's file."""
    return json.dumps(plain(result), indent=1, allow_nan=False)


def read(path: Path) -> Result:
    """The result that a file holds.

    Args:
        path: The file.

    Returns:
        The result.

    Raises:
        ValueError: If the file is none of ours.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Result(
            order=Order(**{**told["order"], "scale": Scale(told["order"]["scale"])}),
            dials=told["dials"],
            measurement=_measurement(told["measurement"]),
            seconds=told["seconds"],
            torch=told["torch"],
        )
    except (KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} holds no result of the lab") from error


def results(source: Path) -> list[Result]:
    """Every result in a folder; files that hold none are passed over.

    Args:
        source: The folder.

    Returns:
        In order of file name, those of experiments whose source has changed since before the others: of
        two results of one experiment, scale and seed the later one counts.
    """
    found = []
    for path in sorted(source.glob("*.json")) if source.is_dir() else ():
        with contextlib.suppress(OSError, ValueError):
            result = read(path)
            cls = experiments().get(result.order.slug)
            found.append((cls is not None and path.name == key(result.order, cls), path.name, result))
    return [result for _, _, result in sorted(found, key=lambda item: item[:2])]


def across(results: list[Result]) -> dict[str, Verdict]:
    """The verdict on each row over several results: one if all agree, else undecided.

    Results of one experiment differ by seed and must agree; those of different
    experiments are about different parts of a claim and are joined.

    Returns:
        A verdict by row.
    """
    by_row: dict[str, dict[str, set[Verdict]]] = {}
    for result in results:
        for row, verdict in result.measurement.verdicts().items():
            by_row.setdefault(row, {}).setdefault(result.order.slug, set()).add(verdict)
    agreed = {
        row: [next(iter(said)) if len(said) == 1 else Verdict.UNDECIDED for said in of.values()]
        for row, of in by_row.items()
    }
    return {row: joined(verdicts) for row, verdicts in agreed.items()}


def _measurement(told: dict[str, Any]) -> Measurement:
    parts = tuple(
        Part(
            row=part["row"],
            says=part["says"],
            estimate=Estimate(**_numbers(part["estimate"])),
            region=Region(**_numbers(part["region"])),
            published=Published(**part["published"]) if part["published"] else None,
        )
        for part in told["parts"]
    )
    drawn = dict(told["figure"])
    series = ("x", "y", "low", "high")
    drawn["lines"] = tuple(
        Line(**{**line, **{name: tuple(map(float, line[name])) for name in series}})
        for line in drawn["lines"]
    )
    drawn["labels"] = tuple(drawn["labels"])
    drawn["kind"] = Kind(drawn["kind"])
    return Measurement(parts=parts, figure=Figure(**drawn), note=told["note"])


def _numbers(told: dict[str, Any]) -> dict[str, Any]:
    words = {"inf", "-inf", "nan"}
    return {name: float(value) if value in words else value for name, value in told.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
