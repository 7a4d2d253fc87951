"""What defib knows of: rules, treatments, and the page of each."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from defib.diagnosis.rule import Rule
    from defib.therapy.treatment import Treatment


def rules() -> "tuple[type[Rule], ...]":
    """Every rule that a run is judged by, ours and those of other distributions."""
    from defib.core.catalogue import entries
    from defib.diagnosis.engine import GROUP, PACKAGE
    from defib.diagnosis.rule import Rule

    return entries(Rule, PACKAGE, GROUP)  # type: ignore[type-abstract]


def treatments() -> "tuple[type[Treatment], ...]":
    """Every treatment, ours and those of other distributions."""
    from defib.therapy import engine

    return engine.treatments()


def explain(slug: str) -> str:
    """The page of a rule, a cause, a treatment or an error.

    Args:
        slug: "dead-unit", "born-dead", "recycle-dead-units", "record-damaged", ...

    Returns:
        Text of several lines.
    """
    from defib.probe.rules import PAGES
    from defib.report.pages import LimitLine, RulePage, page

    pages = {own: RulePage(text=each.text, causes=each.causes) for own, each in PAGES.items()}
    for rule in rules():
        limits = (
            LimitLine(name=n.name, value=n.default, unit=n.unit, meaning=n.meaning, reason=n.reason)
            for n in rule.limits
        )
        text = sys.modules[rule.__module__].__doc__ or ""
        pages[rule.slug] = RulePage(text=text, causes=rule.causes, limits=tuple(limits))
    return page(slug, pages, treatment_pages(), lab_names)


def treatment_pages() -> dict[str, str]:
    """The page of each of our own treatments, by its slug; torch is not imported for it."""
    from defib.core.catalogue import outlines

    return {each.slug: each.text for each in outlines("defib.therapy.treatments")}


def lab_names() -> list[str]:
    """Every experiment of the lab and every row of its list of claims; torch is not imported for it."""
    import tomllib
    from importlib.resources import files

    from defib.core.catalogue import outlines

    rows = tomllib.loads(files("defib.lab").joinpath("claims.toml").read_text(encoding="utf-8"))
    return [*(each.slug for each in outlines("defib.lab.experiments")), *rows]
