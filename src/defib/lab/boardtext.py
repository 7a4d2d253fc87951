"""The scoreboard as a Markdown page."""

from collections.abc import Mapping
from typing import Any

from defib.core.scoring import Rate
from defib.lab.board import Board, PathologyScore
from defib.lab.pairs import HEALTHY
from defib.lab.pathology import HARM, LONG


def markdown(found: Board) -> str:
    """The whole page: totals, every rule, every pathology, every false alarm."""
    lines = [
        *_head(found),
        "",
        "## Rules",
        "",
        "Sensitivity: of the sick runs planted for it, those in which it is the first finding and a warning "
        "or worse (harmful plants), or in which it has a finding at all (harmless ones). Specificity: "
        "healthy runs without a warning or worse of it. Quiet: twins of its own harmless plants without a "
        "word of it. Misnamed: sick runs of another cause in which it is the first finding.",
        "",
        "| rule | sick runs | sensitivity | specificity | quiet | misnamed |",
        "|---|---|---|---|---|---|",
        *(
            f"| {s.rule} | {s.planted} | {s.sensitivity if s.planted else 'not planted'} | {s.specificity} | "
            f"{s.quiet if s.quiet.trials else '-'} | {s.misnamed} |"
            for s in found.rules
        ),
        "",
        "## Pathologies",
        "",
        "| pathology | planted | rule | pairs | took | count | named | with its cause | read first instead |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(_row, found.pathologies),
        "",
        "## Healthy runs with a warning or worse",
        "",
        *([f"- {line}" for line in found.alarmed] or ["None."]),
    ]
    return "\n".join(lines) + "\n"


def beside(found: Board, first: Mapping[str, Any]) -> str:
    """A scoreboard beside an earlier one, of other draws and of the rules as they were then.

    Args:
        found: The newer one.
        first: The earlier one, as JSON.

    Returns:
        A section for the page: totals, then every pathology whose figures differ in their share.
    """
    totals = {
        "harmful, and detected": "detected",
        "the first finding is of the planted rule": "right_rule",
        "or of one that names the same thing": "accepted",
        "its word of the vocabulary is right": "right_fault",
        "false alarms on healthy runs": "false_alarms",
    }
    before = {own["pathology"]: Rate(**own["named"]) for own in first["pathologies"]}
    changed = [
        (own.pathology, before[own.pathology], own.named)
        for own in found.pathologies
        if own.pathology in before and not _same_share(before[own.pathology], own.named)
    ]
    return (
        "\n".join(
            [
                "## Beside the first look",
                "",
                f"The first look (`{first['made']['command']}`, {first['made']['date']}) was taken before "
                "any rule had seen the proving ground. Rules that were wrong or blind were changed after it, "
                "so that its draws are no test of them any more. The figures above are of other draws "
                f"(`{found.made['command']}`), which no rule had seen when they were made: new trainings, of "
                "pathologies that had been seen. The rules are not the only difference: how many readings "
                "the eyes' budget buys depends on how busy the machine is, and that was not the same both "
                "times. A pathology whose rule was not changed shows by how much that alone moves a figure.",
                "",
                "| | first look | after the changes, other draws |",
                "|---|---|---|",
                *(
                    f"| {words} | {Rate(**first[name])} | {getattr(found, name)} |"
                    for words, name in totals.items()
                ),
                "",
                "| named | first look | after the changes, other draws |",
                "|---|---|---|",
                *(f"| {name} | {then} | {now} |" for name, then, now in changed),
            ]
        )
        + "\n"
    )


def _same_share(then: Rate, now: Rate) -> bool:
    return then.hits * max(now.trials, 1) == now.hits * max(then.trials, 1)


def _head(found: Board) -> list[str]:
    out = "; ".join(f"{reason}: {count}" for reason, count in found.left_out.items() if count) or "none"
    return [
        "# The proving ground",
        "",
        f"Made by `{found.made['command']}`, {found.made['date']}, torch {found.made['torch']}; "
        "95 % Clopper-Pearson intervals.",
        "",
        "Each pathology is planted in trainings drawn at random (depth, width, activation, normalisation, "
        "initialisation, optimiser, rate, batch, data); its healthy twin is the same draw without the plant. "
        "All run under `defib.watch` with default settings, and no limit of a rule was set by these figures. "
        "Runs take 200 to 350 steps of about a millisecond, so that the eyes' budget of 1 % gives few "
        f"readings; {LONG} steps where a rule only speaks after some thousand samples.",
        "",
        "A sick run counts if the plant took, measured on the training without defib's rules, and, where it "
        f"is one that does harm, if its skill is at most {HARM:g} of its twin's. A twin counts if its skill "
        f"(0: the best constant, 1: perfect) is {HEALTHY:g} or more and it is free of the condition.",
        "",
        f"- sick runs that count: {found.sick}; healthy runs: {found.healthy}",
        f"- left out: {out}",
        f"- harmful, and detected (a warning or worse): {found.detected}",
        f"- harmful, and the first finding is of the planted rule: {found.right_rule}",
        f"- or of a rule that names the same thing from another side: {found.accepted}",
        f"- harmful, and the first finding's word of the vocabulary is right: {found.right_fault}",
        f"- false alarms (a warning or worse) on healthy runs: {found.false_alarms}",
        f"- faults of the watcher's own: {found.faults}",
    ]


def _row(score: PathologyScore) -> str:
    instead = ", ".join(f"{count} x {what}" for what, count in score.others.items()) or "-"
    kind = "" if score.harmful else " (harmless)"
    return (
        f"| {score.pathology} | {score.title}{kind} | {score.rule} | {score.pairs} | {score.took} | "
        f"{score.counted} | {score.named} | {score.cause} | {instead} |"
    )
