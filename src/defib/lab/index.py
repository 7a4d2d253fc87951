"""What there is: the experiments in our folder, and the claims of the list."""

import inspect
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from defib.core.catalogue import entries
from defib.core.errors import NotFound
from defib.lab.estimate import Verdict
from defib.lab.experiment import Experiment

PACKAGE = "defib.lab.experiments"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One row of the list.

    Attributes:
        row: Its number: "S0-1".
        says: The claim, in its own words.
        judged: What proof and literature make of it, to compare with what is measured; None for an
            opinion.
        untestable: Why no experiment can settle it; "" if one can.
    """

    row: str
    says: str
    judged: Verdict | None
    untestable: str = ""


@cache
def claims() -> dict[str, Claim]:
    """Every claim by its row, in the order of the list (``lab/claims.toml``)."""
    text = files("defib.lab").joinpath("claims.toml").read_text(encoding="utf-8")
    return {
        row: Claim(
            row=row,
            says=said["says"],
            judged=Verdict(said["judged"]) if "judged" in said else None,
            untestable=said.get("untestable", ""),
        )
        for row, said in tomllib.loads(text).items()
    }


@cache
def experiments() -> dict[str, type[Experiment[Any]]]:
    """Every experiment by slug, in order of topic, then slug."""
    found = entries(Experiment, PACKAGE)  # type: ignore[type-abstract]
    topics = list(dict.fromkeys(type(found[0].topic))) if found else []
    return {cls.slug: cls for cls in sorted(found, key=lambda cls: (topics.index(cls.topic), cls.slug))}


def experiment(slug: str) -> type[Experiment[Any]]:
    """The experiment of that name.

    Args:
        slug: Its name.

    Returns:
        Its class.

    Raises:
        NotFound: If there is none.
    """
    known = experiments()
    if slug not in known:
        import difflib

        near = difflib.get_close_matches(slug, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else "`defib lab` lists them"
        raise NotFound(f"no experiment is called {slug!r}; {hint}")
    return known[slug]


def page(cls: type[Experiment[Any]]) -> str:
    """Its page: the docstring of its file."""
    return inspect.cleandoc(sys.modules[cls.__module__].__doc__ or "")
