"""Makes one :class:`defib.core.run.RunView` of what the ranks recorded.

Ranks of a data-parallel job see different samples of one network, so tallies
add up, losses average, and a unit is alive if it is alive anywhere. Gradients
are already reduced over the ranks when they are read, hence the same on each:
what is a matter of parameters (norms, learning rates) is taken from the lowest
rank that has it.

Letters: ``R`` sampled steps, ``P`` parameters, ``U`` units.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from defib.core.coverage import Overhead
from defib.core.evidence import Unseen
from defib.core.optimizer import Optimizer
from defib.core.reading import Liveness
from defib.core.run import Event, Exhibit, RunView
from defib.core.series import Series
from defib.core.site import Site
from defib.core.wiring import Wiring
from defib.record import grid, readings, streams
from defib.record.part import Part

T = TypeVar("T")

_WORST_FIRST = ("running", "interrupted")


def merged(path: Path, parts: Sequence[Part]) -> RunView:
    """The run as rules see it.

    Args:
        path: Where the record was opened.
        parts: What each rank recorded, in order of rank; at least one could be read.

    Returns:
        The run.
    """
    unseen = [Unseen(what="run", why=f"rank {part.rank}: {part.error}") for part in parts if part.error]
    parts = [part for part in parts if not part.error]
    unseen += [entry for part in parts for entry in part.unseen]
    events = _events(parts)
    flow_steps, flow = grid.flow(parts, unseen)
    facts = _facts(path, parts)
    unseen += _told(facts.pop("unseen", None), events)
    refused = sum(part.facts.get("record_refused") or 0 for part in parts)
    if refused:
        unseen.append(Unseen(what="run", why=f"{refused} entries could not be encoded"))
    unseen += _dropped_exhibits(parts)
    return RunView(
        facts=facts,
        layers=_first_of_each((part.layers for part in parts), lambda layer: layer.path),
        wirings=_wirings(parts),
        readings=readings.merged([part.readings for part in parts], unseen),
        liveness=_liveness(parts),
        optimizers=_optimizers(parts),
        norms=grid.norms(parts, unseen),
        pairs=streams.pairs(parts),
        sharpness=streams.sharpness(parts),
        logged=streams.logged(parts),
        flow_steps=flow_steps,
        flow=flow,
        events=events,
        exhibits=_exhibits(parts),
        objective=next((part.objective for part in parts if part.objective is not None), None),
        loss_operations=next((part.loss_operations for part in parts if part.loss_operations), ()),
        unseen=tuple(dict.fromkeys(unseen)),
        overhead=_overhead(parts),
    )


def _facts(path: Path, parts: Sequence[Part]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for part in reversed(parts):
        facts |= part.facts
    statuses = [part.status for part in parts]
    odd = [status for status in statuses if status != "finished"]
    status = next((worst for worst in _WORST_FIRST if worst in statuses), odd[0] if odd else "finished")
    told = [part.facts["unseen"] for part in parts if isinstance(part.facts.get("unseen"), list)]
    facts["unseen"] = [entry for entries in told for entry in entries]
    return facts | {"path": str(path), "status": status, "ranks": len(parts)}


def _told(plain: object, events: Iterable[Event]) -> list[Unseen]:
    """What capture said it did not see (fact "unseen"), and what the writer could not keep."""
    unseen = [
        Unseen(what=entry["what"], why=entry["why"])
        for entry in (plain if isinstance(plain, list) else [])
        if isinstance(entry, dict)
        and isinstance(entry.get("what"), str)
        and isinstance(entry.get("why"), str)
    ]
    for event in events:
        if event.kind == "gap":
            dropped = event.data.get("dropped")
            count = (
                sum(n for n in dropped.values() if isinstance(n, int))
                if isinstance(dropped, dict)
                else "some"
            )
            first, last = event.data.get("first_step"), event.data.get("last_step")
            why = f"{count} entries of steps {first} to {last} not recorded: {event.data.get('why')}"
            unseen.append(Unseen(what="run", why=why))
        elif event.kind == "capped":
            stopped = "everything" if event.data.get("stopped") == "all" else "per-unit readings"
            why = f"{stopped} stopped at the record's size limit of {event.data.get('cap_bytes')} bytes"
            unseen.append(Unseen(what="run", why=why))
    return unseen


def _overhead(parts: Sequence[Part]) -> Overhead:
    """Of the rank that paid most (fact "overhead")."""
    best = Overhead(ratio=None, seconds=0.0, budget=0.0, period=0.0)
    for part in parts:
        plain = part.facts.get("overhead")
        if not isinstance(plain, dict):
            continue
        numbers = {name: plain.get(name) for name in ("ratio", "seconds", "budget", "period")}
        known = {k: float(v) for k, v in numbers.items() if isinstance(v, (int, float))}
        told = Overhead(
            ratio=known.get("ratio"),
            seconds=known.get("seconds", 0.0),
            budget=known.get("budget", 0.0),
            period=known.get("period", 0.0),
        )
        if (told.ratio or 0.0, told.seconds) >= (best.ratio or 0.0, best.seconds):
            best = told
    return best


def _first_of_each(lists: Iterable[Iterable[T]], key: Callable[[T], object]) -> tuple[T, ...]:
    """Entries of all lists, one for each key, in order of appearance."""
    found: dict[object, T] = {}
    for entries in lists:
        for entry in entries:
            found.setdefault(key(entry), entry)
    return tuple(found.values())


def _wirings(parts: Sequence[Part]) -> tuple[Wiring, ...]:
    """The lowest rank's; of others only sites that it does not have (pipeline stages)."""
    known: set[Site] = set()
    wirings: list[Wiring] = []
    for part in parts:
        wirings += [wiring for wiring in part.wirings if wiring.site not in known]
        known |= {wiring.site for wiring in part.wirings}
    return tuple(wirings)


def _liveness(parts: Sequence[Part]) -> dict[str, Liveness]:
    """By layer; of several optimisers the one that read it most, of several ranks all."""
    keys = {key for part in parts for key in part.liveness}
    found: dict[str, Liveness] = {}
    for key in sorted(keys):
        of_ranks = [part.liveness[key] for part in parts if key in part.liveness]
        same = [one for one in of_ranks if len(one.first_alive) == len(of_ranks[0].first_alive)]
        whole = _over_ranks(same) if len(same) > 1 else same[0]
        if whole.path not in found or whole.steps > found[whole.path].steps:
            found[whole.path] = whole
    return found


def _over_ranks(ranks: Sequence[Liveness]) -> Liveness:
    """Alive anywhere is alive.

    ``alive_steps`` is exact where the ranks saw the same gradients, as in
    DistributedDataParallel, and a lower bound elsewhere.

    Returns:
        One liveness for all.
    """
    first = np.stack([one.first_alive for one in ranks])
    earliest = np.where(first < 0, np.iinfo(np.int64).max, first).min(axis=0)
    return Liveness(
        path=ranks[0].path,
        source=ranks[0].source,
        steps=max(one.steps for one in ranks),
        last_step=max(one.last_step for one in ranks),
        period=max(one.period for one in ranks),
        first_alive=np.where((first < 0).all(axis=0), -1, earliest),
        last_alive=np.max([one.last_alive for one in ranks], axis=0),
        alive_steps=np.max([one.alive_steps for one in ranks], axis=0),
        batch=sum(one.batch for one in ranks),
        # All ranks have the same gradients, and so the same episodes: one of them tells.
        returns=ranks[0].returns,
        silent_before=ranks[0].silent_before,
        lengths=ranks[0].lengths,
    )


def _optimizers(parts: Sequence[Part]) -> tuple[Optimizer, ...]:
    indices = sorted(
        {index for part in parts for index in part.optimizers}
        | {index for part in parts for index, _ in _streams(part) if index >= 0}
    )
    found = []
    for index in indices:
        facts: dict[str, Any] = {}
        for part in reversed(parts):
            facts |= part.optimizers.get(index, {})
        series = {
            name: [part.streams[index, name] for part in parts if (index, name) in part.streams]
            for name in ("loss", "lr", "scale", "displacement")
        }
        steps = [part.optimizers.get(index, {}).get("steps") for part in parts]
        known = [s for s in steps if isinstance(s, int)]
        counted = [int(one.steps[-1]) + 1 for each in series.values() for one in each if len(one)]
        groups = facts.get("groups")
        names = [n for part in parts for n in part.optimizers.get(index, {}).get("parameters") or []]
        found.append(
            Optimizer(
                index=index,
                kind=str(facts.get("kind", "")),
                # A killed run may have written newer losses than its count of steps.
                steps=max(known + counted, default=0),
                groups=tuple(g for g in groups if isinstance(g, dict)) if isinstance(groups, list) else (),
                parameters=tuple(dict.fromkeys(n for n in names if isinstance(n, str))),
                loss=_mean(series["loss"]),
                lr=_lowest(series["lr"]),
                scale=_lowest(series["scale"]),
                displacement=_lowest(series["displacement"]),
            )
        )
    return tuple(found)


def _streams(part: Part) -> Iterable[tuple[int, str]]:
    return part.streams


def _mean(ranks: Sequence[Series]) -> Series:
    """Mean over the ranks that have a value at that step; NaN on any of them is NaN."""
    if len(ranks) <= 1:
        return ranks[0] if ranks else Series.empty()
    steps = np.unique(np.concatenate([one.steps for one in ranks]))
    total, count = np.zeros(len(steps)), np.zeros(len(steps))
    with np.errstate(invalid="ignore", over="ignore"):
        for one in ranks:
            at = np.searchsorted(steps, one.steps)
            total[at] += one.values
            count[at] += 1
    return Series(steps=steps, values=total / count)


def _lowest(ranks: Sequence[Series]) -> Series:
    """The values of the lowest rank, steps that it lacks from the next one."""
    if len(ranks) <= 1:
        return ranks[0] if ranks else Series.empty()
    steps, index = np.unique(np.concatenate([one.steps for one in ranks]), return_index=True)
    return Series(steps=steps, values=np.concatenate([one.values for one in ranks])[index])


def _events(parts: Sequence[Part]) -> tuple[Event, ...]:
    """In order of time; of several ranks the same event is one, which says which ranks saw it."""
    if len(parts) == 1:
        return tuple(event for _, event in sorted(parts[0].events, key=lambda timed: timed[0]))
    found: dict[tuple[int, str, str], tuple[float, Event, list[int]]] = {}
    for part in parts:
        for number, (when, event) in enumerate(part.events):
            key = (event.step, event.kind, repr(sorted(event.data.items(), key=str)))
            if key not in found:
                found[key] = (when, event, [])
            elif part.rank in found[key][2]:
                key = (event.step, event.kind, f"{part.rank} {number}")
                found[key] = (when, event, [])
            found[key][2].append(part.rank)
    ordered = sorted(found.values(), key=lambda entry: entry[0])
    return tuple(
        Event(step=event.step, kind=event.kind, data=event.data | {"ranks": ranks})
        for _, event, ranks in ordered
    )


def _exhibits(parts: Sequence[Part]) -> tuple[Exhibit, ...]:
    """Those of all ranks in order of step, each with its rank among its facts."""
    found = [replace(one, facts=one.facts | {"rank": part.rank}) for part in parts for one in part.exhibits]
    return tuple(sorted(found, key=lambda one: one.step))


def _dropped_exhibits(parts: Sequence[Part]) -> list[Unseen]:
    """What the record's size limit cost (fact "exhibits_dropped"), kind by kind."""
    total: Counter[str] = Counter()
    for part in parts:
        plain = part.facts.get("exhibits_dropped")
        if isinstance(plain, dict):
            total.update({k: n for k, n in plain.items() if isinstance(k, str) and isinstance(n, int)})
    why = "arrays kept as evidence gave way at the record's size limit"
    return [Unseen(what="run", why=f"{count} {why} ({kind})") for kind, count in sorted(total.items())]
