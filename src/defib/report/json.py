"""An answer as one JSON object: the field names of its dataclass in ``core`` and nothing else.

JSON has no NaN and no infinity, so those become the strings "nan", "inf" and
"-inf". Names are kept exactly, however hostile, because the text is pure ASCII
with escapes.
"""

import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Protocol


class Answer(Protocol):
    """A dataclass that says which structure it has."""

    @property
    def schema(self) -> str:
        """Name and version of the structure."""


def to_json(answer: Answer, indent: int | None = 2) -> str:
    """One JSON object; ``schema`` first, then the fields in their documented order.

    Args:
        answer: What is to be written: a diagnosis, a checkup, a verdict.
        indent: Spaces per level; None for a single line.

    Returns:
        ASCII text without a newline at its end.
    """
    plain = to_plain(answer)
    return json.dumps({"schema": plain.pop("schema"), **plain}, indent=indent, allow_nan=False)


def to_plain(value: Any) -> Any:
    """Dictionaries, lists, strings, numbers, booleans and None, whatever was given.

    Args:
        value: Dataclasses, enums, numpy scalars and arrays, paths, and containers of them.

    Returns:
        What ``json.dumps`` takes with ``allow_nan=False``.
    """
    if value is None or isinstance(value, (bool, str)):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return _number(float(value))
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(to_plain(key)): to_plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((to_plain(item) for item in value), key=str)
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy arrays, and numpy's own booleans
        return to_plain(value.tolist())
    return str(value)


def _number(value: float) -> float | str:
    """A float that JSON can hold."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value
