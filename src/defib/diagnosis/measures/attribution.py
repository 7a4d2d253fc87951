"""What a unit died of, where an autopsy was made while the run was under way (``defib run --autopsy``).

An exhibit of kind "autopsy" holds one killing step of one layer: see ``core.kill``. A unit counts as
attributed if there is one for the very step after which it got no gradient any more.

Letters: ``U`` units of the layer, ``K`` units with an autopsy.
"""

import numpy as np
from numpy.typing import NDArray

from defib.core.evidence import Evidence
from defib.core.kill import EXHIBIT, Culprit, LayerKill
from defib.core.run import RunView

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def attribution(run: RunView, path: str, units: Mask, died: NDArray[np.int64]) -> LayerKill | None:
    """All that autopsies found out about some dead units of a layer.

    Args:
        run: The run.
        path: The layer.
        units: Which of its units, shape (U,).
        died: First step without gradient, shape (U,).

    Returns:
        Their kills as one, ``crossing`` telling the steps apart; None if there is no autopsy of them.
    """
    found: LayerKill | None = None
    for exhibit in run.exhibits:
        if exhibit.kind != EXHIBIT or exhibit.path != path:
            continue
        kill = LayerKill.from_exhibit(exhibit.facts, exhibit.arrays)
        wanted = units & (died - 1 == exhibit.step)
        known = kill.units < len(wanted)
        part = kill.only(known & wanted[np.where(known, kill.units, 0)])
        if len(part.units):
            found = part if found is None else found.joined(part)
    return found


def attribution_evidence(kill: LayerKill) -> tuple[Evidence, ...]:
    """The numbers."""
    culprits = list(kill.culprits)
    fall = kill.after - kill.before
    numbers = [Evidence(name="units with an autopsy", value=len(culprits), unit="units")]
    numbers += [
        Evidence(name=f"killed by {culprit}", value=culprits.count(culprit), unit="units")
        for culprit in Culprit
        if culprit in culprits
    ]
    numbers += [
        Evidence(name="death-free factor of the killing step", value=_round(kill.factor)),
        Evidence(name="death-free factor: median of the units", value=_round(_median(kill.alpha))),
    ]
    for name, part, whole in (
        ("own update: share of the fall", kill.own, fall),
        ("upstream drift: share of the fall", kill.upstream, fall),
        ("cross term: share of the fall", kill.cross, fall),
        ("momentum: share of the own update", kill.momentum, kill.own),
        ("weight decay: share of the own update", kill.decay, kill.own),
    ):
        share = _median(np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole != 0))
        if np.isfinite(share):
            numbers.append(Evidence(name=name, value=_round(share)))
    numbers += [
        Evidence(name="would fire with the bias at 0", value=int(kill.bias_zero.sum()), unit="units"),
        Evidence(name="would fire with centred inputs", value=_counted(kill.centring), unit="units"),
        Evidence(name="would fire without negative weights", value=_counted(kill.negative), unit="units"),
        Evidence(name="rise of the bias that would do", value=_round(_median(kill.bias_raise)), unit="z"),
    ]
    return tuple(numbers)


def attribution_words(kill: LayerKill) -> str:
    """The end of a sentence: what most of them died of, and how small the worst step would have had to be."""
    culprits = list(kill.culprits)
    most = max(dict.fromkeys(culprits), key=culprits.count)
    count = "" if culprits.count(most) == len(culprits) else f" ({culprits.count(most)} of {len(culprits)})"
    steps, numbers = np.unique(kill.crossing, return_counts=True)
    worst = int(steps[np.argmax(numbers)])
    factor = kill.only(kill.crossing == worst).factor
    words = f"; cause of death: {most}{count}"
    if not np.isfinite(factor):
        return words
    return f"{words}; to kill none, the step of {worst} would have had to be below {factor:.2g} of its size"


def how_to_ask(run: RunView) -> str:
    """What to do where there is no autopsy: the command, or why there could be none."""
    facts = run.facts.get("autopsy")
    why = facts.get("why_off", "") if isinstance(facts, dict) else ""
    if why:
        return f"no autopsy could be made: {why}"
    target = str(run.facts.get("target") or "train.py")
    return f"defib run --autopsy {target}   (what the units died of)"


def _median(values: Array) -> float:
    """Median of the known ones; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _counted(shares: Array) -> int:
    """How many have a share that is enough."""
    return int(np.isfinite(shares).sum())


def _round(value: float) -> float:
    """Four significant digits: more is noise, and a record's numbers stay short."""
    return float(f"{value:.4g}")
