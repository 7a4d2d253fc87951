"""The lab as pages of the documentation: a list of claims, and a page for each experiment."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from defib.lab import prose
from defib.lab.dials import shown as dials_shown
from defib.lab.experiment import Experiment, Part
from defib.lab.html_parts import figure
from defib.lab.index import Claim
from defib.lab.index import page as docstring
from defib.lab.overview import Overview, Shown, Told, command, figures, overview, printed
from defib.lab.result import Result


def pages(
    found: Sequence[Result],
    rows: Mapping[str, Claim],
    known: Mapping[str, type[Experiment[Any]]],
    *,
    plots: bool = True,
) -> dict[str, str]:
    """Every page by its path below the folder of the lab: ``index.md``, and one an experiment.

    Args:
        found: What was run.
        rows: Every claim.
        known: Every experiment; one without a result has its page, which says so.
        plots: Whether to draw; without matplotlib nothing is drawn.

    Returns:
        Markdown by path.
    """
    seen = overview(found, rows, known)
    draw = plots and importlib.util.find_spec("matplotlib") is not None
    told = {"index.md": _index(seen)}
    return told | {f"{one.cls.slug}.md": _experiment(one, draw) for one in seen.experiments}


def _index(seen: Overview) -> str:
    counts = ", ".join(f"{count} {word}" for word, count in seen.counts().items() if count)
    run = [one for one in seen.experiments if one.results]
    lines = [
        "# The lab",
        "",
        f"{len(seen.claims)} claims about zero derivatives, each put so that a number can contradict it: "
        f"{counts}. {len(run)} of {len(seen.experiments)} experiments are measured here; each takes under a "
        "minute, and you can change its dials: `defib lab run NAME --set KEY=VALUE`. Every verdict is "
        "computed from numbers with 99 % intervals: inside the claimed region confirms, outside refutes, "
        "across its border is undecided, and so is what changes with the seed.",
        "",
        *(["All of it as [one page](report.html) that needs no network.", ""] if run else []),
        "## Experiments",
        "",
        "| topic | experiment | question | claims |",
        "|---|---|---|---|",
        *(
            f"| {one.cls.topic} | [{one.cls.slug}]({one.cls.slug}.md) | {_cell(one.cls.title)} | "
            f"{', '.join(one.cls.rows)} |"
            for one in seen.experiments
        ),
        "",
        "## Claims",
        "",
        "| row | claim | literature | measured | experiment |",
        "|---|---|---|---|---|",
        *(_claim(told, seen) for told in seen.claims),
    ]
    return "\n".join(lines) + "\n"


def _claim(told: Told, seen: Overview) -> str:
    row = told.claim.row
    slugs = [one.cls.slug for one in seen.experiments if row in one.cls.rows]
    links = ", ".join(f"[{slug}]({slug}.md)" for slug in slugs)
    why = _cell(told.claim.untestable)
    word = f"**{told.word}**" if told.verdict is not None else told.word
    return f"| {row} | {_cell(told.claim.says)} | {told.claim.judged or '-'} | {word} | {links or why} |"


def _experiment(one: Shown, draw: bool) -> str:
    cls = one.cls
    lines = [f"# {cls.title}", "", f"`{cls.slug}`, {cls.topic}; {', '.join(cls.rows)}", ""]
    if draw and one.results:
        plot = figure(one.results[0].measurement.figure, cls.slug)
        # two blocks of HTML without an empty line inside, which would end them for Markdown
        lines += [f"<style>{_STYLE}</style>", "", f'<div class="lab">{plot}</div>'.replace("\n", " "), ""]
    for name, text in prose.sections(docstring(cls)).items():
        lines += [f"## {name}" if name else "", "", prose.as_markdown(text), ""]
    lines += ["## Measured", ""]
    if one.results:
        first = one.results[0]
        lines += [
            "| row | statement | measured | claimed | holds | published |",
            "|---|---|---|---|---|---|",
            *map(_part, first.measurement.parts),
            "",
            "Verdicts: " + ", ".join(f"{row} {verdict}" for row, verdict in one.verdicts.items()) + ".",
            "",
            f"Scale {first.order.scale}, seeds {', '.join(str(r.order.seed) for r in one.results)}; "
            f"torch {first.torch}; {sum(r.seconds for r in one.results):.1f} s of CPU time.",
            "",
        ]
        lines += [_cell(first.measurement.note), ""] if first.measurement.note else []
    else:
        lines += ["Not measured in this version.", ""]
    lines += ["## Run it again", "", "```text", command(one), "```", ""]
    dials = dials_shown(cls.dials())
    if dials:
        lines += ["| dial | default | meaning |", "|---|---|---|"]
        lines += [f"| `{dial.name}` | {_cell(dial.value)} | {_cell(dial.meaning)} |" for dial in dials]
    return "\n".join(lines) + "\n"


def _part(part: Part) -> str:
    holds = {"true": "yes", "false": "no"}.get(str(part.verdict), "undecided")
    cells = (part.row, part.says, figures(part.estimate), part.region, holds, printed(part) or "-")
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(value: object) -> str:
    """Text that neither ends its cell nor becomes markup."""
    text = str(value)
    for sign in ("\\", "|", "<", "*", "_", "["):
        text = text.replace(sign, f"\\{sign}" if sign != "<" else "&lt;")
    return text


_LIGHT = ("#0b66b2", "#c8500a", "#0a8a62", "#a8388c", "#846600", "#5546b8", "#a03030", "#2f7580")
_DARK = ("#58aef5", "#ff944d", "#3ecb9c", "#e685cc", "#d8b840", "#a99bff", "#ef8080", "#6cc3d0")


def _style() -> str:
    """Colours of plots in both themes of the documentation."""
    rules = [
        ".lab{max-width:36rem}.lab .plot{width:100%;height:auto}.lab figure{margin:0;width:auto}",
        ".md-typeset .lab .legend{display:flex;flex-wrap:wrap;gap:0 1rem;list-style:none;margin:0}",
        ".md-typeset .lab .legend li{margin:0;font-size:.65rem}",
        ".lab .key{width:22px;height:8px;margin-right:.3rem}.lab figcaption{max-width:none;text-align:left}",
        ".lab .s-grid{stroke:#8884}.lab .f-grid{fill:#8884}",
    ]
    for theme, colours in (("", _LIGHT), ("[data-md-color-scheme=slate] ", _DARK)):
        for number, paint in enumerate(colours):
            rules.append(f"{theme}.lab .s-{number}{{stroke:{paint}}}{theme}.lab .f-{number}{{fill:{paint}}}")
    return "".join(rules)


_STYLE = _style()
