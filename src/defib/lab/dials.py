"""The numbers of an experiment that a user may change: each declared, none hidden."""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from defib.core.errors import UsageError

D = TypeVar("D")


class Scale(StrEnum):
    """How much is spent on one experiment."""

    QUICK = "quick"
    """A few seconds: what the tests run."""
    SMALL = "small"
    """Under a minute on one core: what is published."""
    PAPER = "paper"
    """As large as the source's own, where that is bearable."""


@dataclass(frozen=True, kw_only=True)
class Dial:
    """One of them, as it is shown.

    Attributes:
        name: What ``--set`` calls it.
        value: The value in force.
        meaning: What it is, with its unit.
    """

    name: str
    value: Any
    meaning: str


def dial(
    small: Any, meaning: str, *, quick: Any = None, paper: Any = None, choices: Iterable[str] = ()
) -> Any:
    """Declares a dial: a field of an experiment's frozen dataclass ``Dials``.

    Args:
        small: The usual value: int, float, bool, str, or a tuple of one of them.
        meaning: What it is, with its unit.
        quick: The value at ``--scale quick``; None for the usual one.
        paper: The value at ``--scale paper``; None for the usual one.
        choices: The texts that it may be; none for any value of its type.

    Returns:
        A dataclass field.
    """
    by_scale = {Scale.QUICK: quick, Scale.SMALL: small, Scale.PAPER: paper}
    told = {"meaning": meaning, "scales": by_scale, "choices": tuple(choices)}
    return dataclasses.field(default=small, metadata=told)


def choose(kind: type[D], scale: Scale, overrides: Mapping[str, str | Any]) -> D:
    """The dials of one run.

    Args:
        kind: The experiment's dataclass of dials.
        scale: Whose values to begin with.
        overrides: What the user sets, as values or as text.

    Returns:
        An instance of ``kind``.

    Raises:
        UsageError: If there is no such dial, the text is no value of its type, or none of its choices.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = [name for name in overrides if name not in fields]
    if unknown:
        raise UsageError(f"no dial {unknown[0]!r}; there are: {', '.join(fields) or 'none'}")
    types = typing.get_type_hints(kind)
    values = {
        name: given
        for name, field in fields.items()
        if (given := field.metadata["scales"][scale]) is not None
    }
    for name, given in overrides.items():
        values[name] = _parsed(name, given, types[name]) if isinstance(given, str) else given
        choices = fields[name].metadata["choices"]
        if choices and values[name] not in choices:
            raise UsageError(f"{name}={values[name]}: one of {', '.join(choices)}")
    return kind(**values)


def shown(dials: Any) -> tuple[Dial, ...]:
    """The dials of a run, to print."""
    return tuple(
        Dial(name=field.name, value=getattr(dials, field.name), meaning=field.metadata["meaning"])
        for field in dataclasses.fields(dials)
    )


def _parsed(name: str, text: str, kind: Any) -> Any:
    """A value from the command line."""
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return tuple(_parsed(name, part.strip(), inner) for part in text.split(",") if part.strip())
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() in words:
            return words[text.lower()]
    elif kind is str:
        return text
    else:
        try:
            return kind(text)
        except ValueError:
            pass
    raise UsageError(f"{name}={text}: not {_article(kind)}")


def _article(kind: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, str(kind))
