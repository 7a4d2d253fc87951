"""What ``defib run --treat`` asks for, understood: words and files become prescriptions."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defib.core.cause import Cause
from defib.core.errors import UsageError
from defib.core.prescription import PLAN, Dose, Prescription, Safety, Value

if TYPE_CHECKING:
    from defib.core.catalogue import Outline


@dataclass(frozen=True, kw_only=True)
class Order:
    """What ``defib run --treat`` asks for.

    Attributes:
        auto: Diagnose now and then, and treat what is found.
        given: These, whatever is found, in this order, each at its own step (``Prescription.at``; 0 for
            right before the first).
    """

    auto: bool = False
    given: tuple[Prescription, ...] = ()


def parse_order(words: Iterable[str], at: int = 0) -> Order | None:
    """Understands ``--treat``.

    Args:
        words: Each "auto", "SLUG", "SLUG:key=value,key=value" or "@file.json": a list of objects
            with "treatment" and "dose", all of which are given; or what ``defib prescribe --json``
            prints, of which the first that can be given is, for each finding.
        at: Optimiser step for those that do not bring one of their own (``"at"`` in a file).

    Returns:
        The order; None if there are no words.

    Raises:
        UsageError: If a word cannot be understood.
        NotFound: If there is no treatment of that name.
    """  # noqa: DOC502 - the engine raises it
    from defib.therapy.engine import treatment

    auto, wanted = _understood(words)
    given = tuple(
        replace(named(w.slug, w.dose), rule=w.rule, layer=w.layer, cause=w.cause, at=w.at or at)
        for w in wanted
    )
    for each in given:
        if treatment(each.treatment).safety is Safety.SOURCE:
            raise UsageError(_ONLY_SOURCE.format(each.treatment))
    return Order(auto=auto, given=given) if auto or given else None


def check_order(words: Iterable[str]) -> None:
    """Refuses what :func:`parse_order` would refuse, before torch has been imported.

    Args:
        words: As there.

    Raises:
        UsageError: If a word cannot be understood, or a dose has a name that the treatment does not take.
        NotFound: If there is no treatment of that name.
    """  # noqa: DOC502 - what is called raises it
    from defib.core.catalogue import outlines

    _, wanted = _understood(words)
    ours = {each.slug: each for each in outlines("defib.therapy.treatments")}
    for each in wanted:
        if each.slug not in ours:
            from defib.therapy.engine import treatment  # another distribution's, or nobody's

            treatment(each.slug)
        elif "Advice" in ours[each.slug].bases:
            raise UsageError(_ONLY_SOURCE.format(each.slug))
        else:
            _check_dose(each, ours[each.slug])


def _check_dose(wanted: "_Wanted", page: "Outline") -> None:
    """Refuses a name that the treatment's page does not have under its heading Dose.

    Raises:
        UsageError: With the nearest name, if there is one.
    """
    section = page.text.partition("\nDose:\n")[2].partition("\nSafety:\n")[0]
    known = re.findall(r"``(\w+)``", section)
    for name in wanted.dose:
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        takes = f"it takes {', '.join(known)}" if known else "it takes no dose"
        hint = f"did you mean {near[0]}?" if near else f"{takes} (defib explain {page.slug})"
        raise UsageError(f"--treat {wanted.slug}: there is no {name!r} in its dose; {hint}")


_ONLY_SOURCE = "--treat {}: only the source can be changed; see defib prescribe"


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """A treatment as it was asked for, before anybody has looked whether there is one of that name."""

    slug: str
    dose: Dose
    layer: str
    rule: str = ""
    cause: Cause | None = None
    at: int = 0


def _understood(words: Iterable[str]) -> tuple[bool, list[_Wanted]]:
    """Whether "auto" was asked for, and what else."""
    auto, wanted = False, list[_Wanted]()
    for word in words:
        if word == "auto":
            auto = True
        elif word.startswith("@"):
            wanted += _from_file(Path(word[1:]))
        else:
            slug, _, text = word.partition(":")
            dose = _parse_dose(word, text)
            wanted.append(_Wanted(slug=slug, dose=dose, layer=_layer_of(dose)))
    return auto, wanted


def _layer_of(dose: Dose) -> str:
    """The layer that a dose names; a name that looks like a number is one all the same."""
    layer = dose.get("layer", "")
    return str(layer) if isinstance(layer, (str, int)) else ""


def named(slug: str, dose: Dose) -> Prescription:
    """A treatment that a person asked for, without a finding."""
    from defib.therapy.engine import treatment

    found = treatment(slug)
    return Prescription(
        treatment=slug,
        rule="",
        cause=None,
        layer=_layer_of(dose),
        safety=found.safety,
        reason="asked for",
        strength=1.0,
        dose=dose,
    )


def _parse_dose(word: str, text: str) -> dict[str, Value]:
    """``factor=0.1,layer=fc1,units=[1,2]``; values are JSON, and words where they are not."""
    dose: dict[str, Value] = {}
    rest = text
    while rest:
        name, equals, rest = rest.partition("=")
        if not equals or not name:
            raise UsageError(f"--treat {word}: expected key=value after the colon")
        if rest.startswith("["):
            value, _, rest = rest.partition("]")
            dose[name] = tuple(json.loads(f"{value}]"))
            rest = rest.removeprefix(",")
            continue
        value, _, rest = rest.partition(",")
        try:
            dose[name] = json.loads(value)
        except ValueError:
            dose[name] = value
    return dose


def _from_file(path: Path) -> list[_Wanted]:
    """Treatments from a file; of a plan the first for each finding that can be given live."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        is_plan = isinstance(entries, dict) and entries.get("schema") == PLAN
        if isinstance(entries, dict):
            entries = entries["prescriptions"]
        if is_plan:
            live = [e for e in entries if e["safety"] != Safety.SOURCE]
            entries = list({(e["rule"], e["layer"], e["cause"]): e for e in reversed(live)}.values())[::-1]
        return [_read(entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--treat @{path}: not a list of treatments ({error})") from None


def _read(entry: Mapping[str, Any]) -> _Wanted:
    """One treatment as it was written down, with the finding that it is for, if it says so."""
    dose = {name: tuple(v) if isinstance(v, list) else v for name, v in entry["dose"].items()}
    cause = entry.get("cause")
    return _Wanted(
        slug=str(entry["treatment"]),
        dose=dose,
        rule=str(entry.get("rule", "")),
        layer=str(entry.get("layer", _layer_of(dose))),
        cause=Cause(cause) if cause else None,
        at=_step(entry.get("at", 0)),
    )


def _step(value: object) -> int:
    """An optimiser step in a file."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"at takes a whole number from 0, not {value!r}")
    return value


def as_data(prescription: Prescription) -> dict[str, Any]:
    """A prescription as JSON-able data."""
    return {**asdict(prescription), "dose": plain(prescription.dose)}


def plain(dose: Mapping[str, Value]) -> dict[str, Any]:
    """A dose as JSON-able data."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in dose.items()}
