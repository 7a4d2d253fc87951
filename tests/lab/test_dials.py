"""The dials of an experiment: bad values are one clear line."""

from dataclasses import dataclass

import pytest

from defib.core.errors import UsageError
from defib.lab.dials import Scale, choose, dial


@dataclass(frozen=True, kw_only=True)
class Dials:
    nets: int = dial(10, "networks", quick=2)
    dtype: str = dial("float16", "format", choices={"float16": 1, "float32": 2})
    name: str = dial("any", "a text")


def test_a_dial_with_choices_takes_each_of_them():
    assert choose(Dials, Scale.SMALL, {"dtype": "float32"}).dtype == "float32"
    assert choose(Dials, Scale.QUICK, {}) == Dials(nets=2, dtype="float16", name="any")


def test_another_value_names_the_dial_and_its_choices():
    with pytest.raises(UsageError, match="dtype=float8: one of float16, float32"):
        choose(Dials, Scale.SMALL, {"dtype": "float8"})


def test_a_dial_without_choices_takes_any_text():
    assert choose(Dials, Scale.SMALL, {"name": "anything"}).name == "anything"
