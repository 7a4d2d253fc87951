"""All that a page shows of one run, as plain data: what the report and the live page draw.

Reads a record and judges it; torch is not imported.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defib import api, catalogues
from defib.diagnosis.measures.ledger import Ledger, backward_ledger, forward_ledger, main_path
from defib.diagnosis.measures.wires import Wires
from defib.report.json import to_plain
from defib.report.portrait import findings as judged
from defib.report.portrait import layers as depth
from defib.report.portrait import over_time
from defib.report.thinning import rounded

if TYPE_CHECKING:
    from defib.api import AnyRun
    from defib.core.diagnosis import Diagnosis
    from defib.core.prescription import Prescription
    from defib.core.run import RunView
    from defib.core.site import Site

SCHEMA = "defib.portrait/1"
TRIAL = "defib.trial/1"
_MOST_PAGES = 24
_MOST_UNSEEN = 200


def portrait_of(run: "AnyRun | RunView") -> "RunView":
    """The data of a run, whatever it was given as."""
    from defib.core.run import RunView

    return run if isinstance(run, RunView) else run.view


def portray(
    run: "str | os.PathLike[str] | AnyRun | RunView",
    *,
    prescriptions: "Sequence[Prescription] | None" = None,
    diagnosis: "Diagnosis | None" = None,
    command: str = "",
) -> dict[str, Any]:
    """All that a page shows of a run, thinned to what a screen can show.

    Args:
        run: A record's path, an open run, a live run, or the data itself.
        prescriptions: What could help, worked out by who has torch; None where nobody did, and the
            page then names the command that does.
        diagnosis: The judgement, if it is there already; None to make it.
        command: What was typed to make the page.

    Returns:
        JSON-able data of the structure ``defib.portrait/1``; see docs/report.md.
    """
    if isinstance(run, (str, os.PathLike)):
        run = api.open_run(run)
    view = portrait_of(run)
    found = diagnosis or api.diagnose(view)
    rows = depth.places(view)
    looks = {i: seen for i, place in enumerate(rows) if (seen := depth.look(view, place.site)) is not None}
    grids = over_time.sizes(view, rows)
    alive = over_time.liveness(view, rows, looks)
    by_place = {(p.site.path, p.site.call): i for i, p in enumerate(rows)}
    titles = {rule.slug: rule.title for rule in catalogues.rules()}
    script = judged.script_of(found.run)
    cards = judged.cards(found, by_place, titles, prescriptions or (), script)
    path = str(found.run.get("path", ""))
    made = {"by": f"defib {version('defib')}", "at": time.strftime("%Y-%m-%d %H:%M"), "command": command}
    return {
        "schema": SCHEMA,
        "title": Path(path).name or "run",
        "made": made,
        "run": to_plain(found.run),
        "script": script,
        "steps": view.steps,
        "verdict": _verdict(found),
        "findings": cards,
        "prescribed": prescriptions is not None,
        "treated": judged.treated(found.treated),
        "trials": trial_of(Path(path)),
        "not_run": to_plain(found.not_run),
        "coverage": _coverage(found),
        "overhead": to_plain(found.overhead),
        "optimizers": [
            {"kind": o.kind, "steps": o.steps, "groups": to_plain(o.groups[:4])} for o in view.optimizers
        ],
        "layers": _layers(view, rows, looks),
        "ledger": _ledgers(view, rows),
        "loss": over_time.losses(view),
        "lr": over_time.rates(view),
        "curvature": over_time.curvatures(view),
        "logged": over_time.logged(view),
        "events": over_time.events(view),
        "deaths": over_time.deaths(view, rows),
        "grids": grids | ({"liveness": alive} if alive else {}),
        "units": _units(view, rows, looks),
        "pages": _pages(found),
    }


def trial_of(record: Path) -> dict[str, Any] | None:
    """The verdict of the trial that a record was made for; None if it was made for none."""
    for folder in (record.parent, record.parent.parent):
        try:
            found = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if (
            isinstance(found, dict)
            and found.get("schema") == TRIAL
            and isinstance(found.get("comparisons"), list)
        ):
            plain: dict[str, Any] = to_plain(found)
            return plain
    return None


def write_report(
    run: "str | os.PathLike[str] | AnyRun",
    output: str | os.PathLike[str] = "report.html",
    *,
    force: bool = False,
    treatments: bool = True,
    command: str = "",
) -> Path:
    """Writes the report of a run: one self-contained HTML file.

    Args:
        run: A record's path, or an open run.
        output: The file. One that is there is replaced only if it is a report of defib's own.
        force: Replace whatever is there.
        treatments: Work out what could help where something is wrong; that imports torch, and is
            left out where torch is not installed.
        command: What was typed to make it; shown in the report.

    Returns:
        The file's path.

    Raises:
        OutputError: If something else is there, or the file cannot be written.
    """  # noqa: DOC502 - the writing raises it
    from defib.report.html import page
    from defib.report.output import refuse_unless_free
    from defib.report.whole import write_text

    path = Path(output)
    refuse_unless_free(path, force=force)
    opened = run if isinstance(run, api.AnyRun) else api.open_run(run)
    diagnosis = opened.diagnose()
    prescriptions: Sequence[Prescription] | None = None
    if treatments and any(f.severity.value != "info" for f in diagnosis.findings) and find_spec("torch"):
        from defib.therapy import engine

        prescriptions = engine.prescribe(diagnosis, opened.view)
    found = portray(opened, prescriptions=prescriptions, diagnosis=diagnosis, command=command)
    write_text(path, page(found), force=True)
    return path


def _verdict(diagnosis: "Diagnosis") -> dict[str, Any]:
    notes = sum(1 for f in diagnosis.findings if f.severity.value == "info")
    return {
        "word": diagnosis.verdict.value,
        "sentence": judged.sentence(diagnosis),
        "causes": len(diagnosis.findings) - notes,
        "notes": notes,
    }


def _coverage(diagnosis: "Diagnosis") -> dict[str, Any]:
    """How much was seen; of very many unseen places the first."""
    plain: dict[str, Any] = to_plain(diagnosis.coverage)
    return plain | {
        "not_observed": plain["not_observed"][:_MOST_UNSEEN],
        "not_observed_count": len(plain["not_observed"]),
    }


def _layers(
    view: "RunView", rows: "Sequence[depth.Place]", looks: "dict[int, depth.Look]"
) -> list[dict[str, Any]]:
    """Each row with what was seen of it."""
    index = {place.site: i for i, place in enumerate(rows) if place.wiring is not None}
    unseen = {u.what: u.why for u in view.unseen}
    found = []
    for i, place in enumerate(rows):
        entry = depth.entry(place, index)
        live, seen = view.liveness.get(place.site.path), looks.get(i)
        silent = None if live is None or not live.steps else int(depth.is_silent(live).sum())
        entry |= {
            "silent": silent,
            "liveness_source": "" if live is None else live.source,
            "unseen": unseen.get(place.site.path, ""),
            "spread": None,
        }
        if seen is not None:
            first, last = depth.spread(seen.first), depth.spread(seen.last)
            entry["spread"] = {
                "first": first,
                "last": last,
                "first_step": int(seen.starts[0]),
                "last_step": int(seen.starts[-1]),
            }
        found.append(entry)
    return found


def _units(view: "RunView", rows: "Sequence[depth.Place]", looks: "dict[int, depth.Look]") -> dict[str, Any]:
    """The unit x step map of each layer that was read."""
    most = depth.rows_allowed(looks)
    return {
        str(i): depth.unit_map(seen, view.liveness.get(rows[i].site.path), most) for i, seen in looks.items()
    }


def _ledgers(view: "RunView", rows: "Sequence[depth.Place]") -> dict[str, Any]:
    """The account of the gradient, and of the signal, link by link; empty where neither was read."""
    path = main_path(view, Wires(view))
    index: dict[Site, int] = {place.site: i for i, place in enumerate(rows) if place.wiring is not None}
    made = {"backward": backward_ledger(view, path), "forward": forward_ledger(view, path)}
    return {name: _ledger(ledger, index) for name, ledger in made.items() if ledger is not None}


def _ledger(ledger: Ledger, index: "dict[Site, int]") -> dict[str, Any]:
    """One account: the first window, the worst and the last."""
    windows = {"first": 0, "worst": ledger.worst(-1), "last": len(ledger.steps) - 1}
    return {
        "rows": [index[w.site] for w in ledger.path],
        "links": [
            {"below": index[x.below.site], "above": index[x.above.site], "column": x.column, "why": x.why}
            for x in ledger.links
        ],
        "windows": [
            {
                "name": name,
                "step": int(ledger.steps[w]),
                "total": rounded(float(ledger.total[w])),
                "derivative": [rounded(float(d[w])) for d in ledger.derivatives],
                "between": [rounded(float(x.decades[w])) for x in ledger.links],
            }
            for name, w in windows.items()
        ],
    }


def _pages(diagnosis: "Diagnosis") -> dict[str, str]:
    """The page of each rule that found something."""
    slugs: dict[str, None] = {}
    waiting = list(diagnosis.findings)
    while waiting:
        finding = waiting.pop(0)
        slugs.setdefault(finding.rule)
        waiting += finding.explains
    homes = {rule.slug: sys.modules[rule.__module__].__doc__ or "" for rule in catalogues.rules()}
    return {slug: cleandoc(homes[slug]) for slug in list(slugs)[:_MOST_PAGES] if slug in homes}
