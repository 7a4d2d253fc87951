"""The prognosis of a recorded run's dead units, from what the record kept of them.

Letters: ``U`` units, ``N`` samples.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from defib.core.cause import Fault
from defib.core.finding import Finding
from defib.core.prognosis import Forecast, Mechanism, Outlook, Prognosis
from defib.core.remains import Part, Remains
from defib.core.remains_exhibit import KIND, recover
from defib.core.run import RunView
from defib.core.wiring import Wiring
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.prognosis.foresight import foresee
from defib.diagnosis.prognosis.recovery import recovery_evidence, recovery_of
from defib.diagnosis.prognosis.saturation import saturated_prognoses

GLANCE = 2e7
"""Entries times steps that a look ahead within a diagnosis may take for one layer (well below a second)."""

FEWEST, MOST = 100, 10_000
"""Steps that it takes at least and at most."""

EXACT_STEPS = 500
"""Steps over which a square root that torch rounds otherwise now and then cannot move a return; beyond,
4 of 982 answers were off by a few steps (``bench/prognosis_runs.py``). A live model has no such limit."""


def foretold(run: RunView, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings about dead and saturated units with their prognoses.

    For dead units only where the record kept remains of any.

    Looks ahead as far as takes no time; :func:`forecast` looks further.

    Args:
        run: All that was seen.
        findings: The findings, those that they explain inside.

    Returns:
        The findings in the same order.
    """
    seer = _Seer(run, remains_of(run), None, glance=True)
    return tuple(seer.told(finding) for finding in findings)


def forecast(run: RunView, findings: Sequence[Finding], horizon: int | None = None) -> Forecast:
    """What will become of the dead units of a run.

    Args:
        run: All that was seen.
        findings: Its diagnosis; findings about dead units say which units are meant.
        horizon: Steps to look ahead; None for as far as is worth its time.

    Returns:
        The answers, layer by layer in order of data flow.
    """
    wires = Wires(run)
    seer = _Seer(run, remains_of(run), horizon, glance=False)
    dead = sorted(_dead(findings), key=lambda finding: wires.position(finding.layer))
    answers = tuple(answer for finding in dead for answer in seer.answers(finding))
    layers = dict.fromkeys(finding.layer for finding in dead)
    return Forecast(
        facts={
            "record": run.facts.get("path", ""),
            "status": run.facts.get("status", ""),
            "steps": run.steps,
            "dead_units": sum(len(finding.units) for finding in dead),
        },
        prognoses=answers,
        recoveries=tuple(found for path in layers if (found := recovery_of(run, path)) is not None),
        assumed=tuple(dict.fromkeys(seer.assumed)),
    )


def _dead(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings about dead units, explained ones included."""
    for finding in findings:
        if finding.fault is Fault.DEAD_UNITS and finding.units and finding.rule == "dead-unit":
            yield finding
        yield from _dead(finding.explains)


def remains_of(run: RunView) -> dict[str, Remains]:
    """The newest remains of each layer; those of several ranks with the samples of all.

    Args:
        run: The run.

    Returns:
        By layer path.
    """
    found: dict[str, Remains] = {}
    for exhibit in run.exhibits:
        if exhibit.kind != KIND:
            continue
        try:
            remains = recover(exhibit)
        except ValueError:
            continue  # made by something else; its units are then said to be unknown
        known = found.get(remains.path)
        if known is None or remains.step > known.step:
            found[remains.path] = remains
        elif remains.step == known.step and np.array_equal(remains.units, known.units):
            both = np.concatenate([known.features, remains.features])
            seen = known.samples_seen + remains.samples_seen
            found[remains.path] = replace(known, features=both, samples_seen=seen)
    return found


class _Seer:
    """Answers for one run.

    Args:
        run: The run.
        kept: Remains by layer.
        horizon: Steps to look ahead; None to choose.
        glance: Choose few rather than many.
    """

    def __init__(
        self, run: RunView, kept: Mapping[str, Remains], horizon: int | None, *, glance: bool
    ) -> None:
        self._run = run
        self._kept = kept
        self._horizon = horizon
        self._glance = glance
        self.assumed: list[str] = []

    def told(self, finding: Finding) -> Finding:
        """The finding with its prognosis, and so those that it explains."""
        explains = tuple(self.told(inner) for inner in finding.explains)
        if finding.rule == "saturated-unit" and finding.units:
            return replace(finding, explains=explains, prognosis=saturated_prognoses(self._run, finding))
        if finding.rule == "dead-unit" and finding.units and self._kept:
            return replace(finding, explains=explains, prognosis=tuple(self.answers(finding)))
        return replace(finding, explains=explains) if explains else finding

    def answers(self, finding: Finding) -> Iterator[Prognosis]:
        """The prognoses of a finding's units, every unit in one of them."""
        remains = self._kept.get(finding.layer)
        wanted = np.array(finding.units, dtype=np.int64)
        kept = np.zeros(0, np.int64) if remains is None else np.intersect1d(remains.units, wanted)
        if remains is not None and len(kept):
            chosen = keep(remains, np.isin(remains.units, kept))
            for answer in foresee(chosen, self._steps(chosen)):
                yield from (self._qualified(part, chosen) for part in self._not_refuted(answer))
        missing = np.setdiff1d(wanted, kept)
        if len(missing):
            yield Prognosis(
                path=finding.layer,
                units=tuple(int(u) for u in missing),
                outlook=Outlook.UNKNOWN,
                mechanism=Mechanism.NOTHING,
                reason=self._why_missing(finding, remains),
                as_of=self._run.steps if remains is None else remains.step,
                samples=0,
                exact=False,
            )

    def _steps(self, remains: Remains) -> int | None:
        """How far to look."""
        if self._horizon is not None or not self._glance:
            return self._horizon
        entries = sum(part.values.size for part in remains.parts)
        return int(np.clip(GLANCE / max(1, entries), FEWEST, MOST))

    def _not_refuted(self, answer: Prognosis) -> Iterator[Prognosis]:
        """A return that the run has already passed without it, since the state kept is older than its end."""
        past = tuple(step < self._run.steps for step in answer.steps)
        if answer.outlook is not Outlook.RETURNS or not any(past):
            yield answer
            return
        pairs = tuple(zip(answer.units, answer.steps, past, strict=True))
        yield replace(
            answer,
            units=tuple(unit for unit, _, gone in pairs if gone),
            outlook=Outlook.UNKNOWN,
            mechanism=Mechanism.NOTHING,
            step=None,
            steps=(),
            exact=False,
            reason=f"their state was kept at step {answer.as_of:,}, and what followed changed it again",
        )
        ahead = tuple((unit, step) for unit, step, gone in pairs if not gone)
        if ahead:
            units, steps = zip(*ahead, strict=True)
            yield replace(answer, units=units, steps=steps, step=min(steps))

    def _qualified(self, answer: Prognosis, remains: Remains) -> Prognosis:
        """The answer with what it takes for granted, and with this run's own experience."""
        answer = replace(answer, samples=len(remains.features))
        far = bool(answer.steps) and max(answer.steps) - answer.as_of > EXACT_STEPS
        if far and answer.mechanism is Mechanism.NORMALISED_DECAY:
            answer = replace(answer, exact=False, reason=f"{answer.reason}, give or take some for rounding")
        moves = answer.mechanism not in {Mechanism.NOTHING, Mechanism.UPSTREAM}
        rate = self._changed_rate(remains)
        if moves and rate is not None and answer.outlook is not Outlook.UNKNOWN:
            said = f"the learning rate stays at {rate:g} from step {remains.step:,} on (it changed before)"
            self.assumed.append(f"{remains.path}: {said}")
            answer = replace(answer, exact=False, reason=f"{answer.reason}, if {said}")
        if self._glance and not remains.first_layer:  # a forecast says it apart
            recovery = recovery_of(self._run, remains.path)
            own = () if recovery is None else recovery_evidence(recovery)
            answer = replace(answer, evidence=(*answer.evidence, *own))
        return answer

    def _changed_rate(self, remains: Remains) -> float | None:
        """The learning rate now, if it was another before; None if it never changed."""
        names = {f"{remains.path}.{part.name}".lstrip(".") for part in remains.parts}
        for optimizer in self._run.optimizers:
            if names & set(optimizer.parameters):
                rates = optimizer.lr.values[np.isfinite(optimizer.lr.values)]
                if len(rates) and float(np.ptp(rates)) > 1e-6 * float(np.abs(rates).max()):
                    return float(remains.parts[0].settings.get("lr", rates[-1]))
        return None

    def _why_missing(self, finding: Finding, remains: Remains | None) -> str:
        """Why nothing was kept of some units."""
        if remains is not None:
            return f"the state of {len(remains.units)} of the layer's silent units was kept, not theirs"
        wiring = next((w for w in self._run.wirings if w.site.path == finding.layer), None)
        if self._run.facts.get("keep_inputs") is False:
            return "no samples were kept to tell it by: the setting keep_inputs was off in this run"
        if _is_normalised(wiring):
            return "a normalisation layer makes their pre-activation, whose inputs move with every batch"
        return "their weights and optimiser state were not kept: the run ended within a second or \
was cut short, the record is of an older defib, or the layer is of a kind that is not followed"


def _is_normalised(wiring: Wiring | None) -> bool:
    return wiring is not None and wiring.normalised


def keep(remains: Remains, units: NDArray[np.bool_]) -> Remains:
    """The remains of some of the units.

    Args:
        remains: All.
        units: Which, shape (U,).

    Returns:
        The same data for those.
    """
    return replace(
        remains, units=remains.units[units], parts=tuple(_part(part, units) for part in remains.parts)
    )


def _part(part: Part, units: NDArray[np.bool_]) -> Part:
    state = {name: value[units] if np.ndim(value) == 2 else value for name, value in part.state.items()}
    return replace(part, values=part.values[units], state=state)
