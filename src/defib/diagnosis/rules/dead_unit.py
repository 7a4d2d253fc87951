"""Units that are off for every input and get no gradient.

## What it measures

For every unit of a layer behind an activation with an off side (ReLU, ReLU6, hard swish, ...): the
last step on which its bias (or its row of weights) received a gradient that is not exactly zero.
That is read on every step, so the step of death is exact. A unit counts as dead if it has been
silent since then on so many samples that its firing rate is bounded (0 of n fired: below 3/n at 95
%), if that silence is next to impossible given how often it fired before, and if the activations
read since then show it off. A unit that fires and gets no gradient is blocked by what stands above
it, and is not called dead.

## Why it hurts

The gradient of a dead unit is exactly zero, so no gradient step brings it back, and its output is a
constant. A few dead units are unused capacity. A whole layer of them, with no way around it, makes
the model's output independent of its input: only the output bias still learns.

## Causes

- `born-dead`: it never received a gradient, from the first step on: the initial weights and the
  data's offset put it on the off side for every sample.
- `died-at-step`: it was alive until one update silenced it; the evidence gives that step exactly,
  with the learning rate and the loss there, and the size of the update and of the gradient
  against their usual ones where that step was sampled. Under `defib run --autopsy` it says, too, what
  the unit died of (its own update, momentum, weight decay, or the layers below that moved), how small
  the step would have had to be, and whether a bias of 0 or centred inputs would make it fire.
- `dead-input`: everything that feeds it is dead, so it sees a constant; the finding that names its
  inputs explains it.

## Prognosis

In the first layer a dead unit comes back only by momentum or weight decay, which is rare. In deeper
layers most deaths are over within a few steps, because what feeds them moves; that is why a long
silence is required here. A unit under a wholly dead layer does not come back.

## Example

An MLP on digits is trained with SGD and a learning rate of 0.05; at step 40 the rate is raised to
5. One update moves the biases of `fc2` so far that 60 of its 64 units are off for all samples from
step 41 on, and the loss stays at ln 10. The finding names `fc2`, the 60 units, step 41 and the
learning rate of that step.

## False alarms

Sparse units that fire rarely are not dead: their own past rate is taken into account. Units that
fire on none of the samples in too short a run are not reported. Frozen layers, layers without
gradient and layers below a dead one are not reported. A network that learns well with many dead
units gets information, never a warning: its loss falls still, or rests below a tenth of what a constant
answer costs, or a quarter of each layer's units and more were born alive. A layer that was
not born dead as a whole, in a network whose answers never differed from sample to sample, is a consequence of
that, and information.

## References

- Lu, Shin, Su, Karniadakis: Dying ReLU and Initialization (2020).
- Hanley, Lippman-Hand: If Nothing Goes Wrong, Is Everything All Right? (1983), the rule of three.
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from defib.core.cause import Cause, Fault
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import RunView
from defib.diagnosis.cases import Plan, flat_loss, relapsing_loss, run_of
from defib.diagnosis.measures.answer import Answer, answer
from defib.diagnosis.measures.attribution import (
    attribution,
    attribution_evidence,
    attribution_words,
    how_to_ask,
)
from defib.diagnosis.measures.autopsy import autopsy, census, sentence, worst
from defib.diagnosis.measures.deaths import Criterion, Deaths, by_cause, deaths
from defib.diagnosis.measures.learning import Learning, Outcome, at_rest, change_at, standstill
from defib.diagnosis.measures.surroundings import flows_around
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Place, Rule, harms

Mask = NDArray[np.bool_]


def _expected(cause: Cause, severity: Severity, layer: str, units: Iterable[int], since: int) -> Expected:
    """A finding that a case must bring, said in full."""
    return Expected(cause=cause, severity=severity, layer=layer, units=tuple(units), since_step=since)


class DeadUnit(Rule):
    """Off on every input, with a gradient of exactly zero."""

    slug = "dead-unit"
    fault = Fault.DEAD_UNITS
    title = "units that are off for every input and get no gradient"
    rank = 40
    causes = (Cause.BORN_DEAD, Cause.DIED_AT_STEP, Cause.DEAD_INPUT)
    limits = (
        Limit(
            name="firing_rate",
            default=0.002,
            unit="1",
            meaning="upper bound (95 %) of the firing rate of a unit that is called dead",
            reason="about 1,500 samples in silence; codes that fire on 1 % of the samples stay far away",
        ),
        Limit(
            name="chance",
            default=1e-6,
            unit="1",
            meaning="how likely the silence may be, given how often the unit got gradient before",
            reason="with a million units one false alarm is expected",
        ),
        Limit(
            name="silent_steps",
            default=20,
            unit="steps",
            meaning="fewest steps of silence up to the end of the run",
            reason="deaths in deep layers that return do so after 2 to 7 steps in the median",
        ),
        Limit(
            name="share",
            default=0.5,
            unit="1",
            meaning="share of a layer that must be dead before it is blamed for bad learning",
            reason="a ReLU layer keeps learning with the units it has left",
        ),
        Limit(
            name="born",
            default=0.75,
            unit="1",
            meaning="share of a layer that is born dead, for a run that learns to be warned if everything "
            "goes through that layer and the loss came to rest high",
            reason="then the network is a quarter as wide as was asked for, or narrower; published "
            "initialisations leave a few percent of the units dead on centred data, half at the worst",
        ),
        Limit(
            name="left",
            default=0.1,
            unit="1",
            meaning="loss at rest over that of the best constant, from which on it is high",
            reason="below a tenth the network learns well with the units it has",
        ),
    )
    consequences = (
        Consequence(
            rule="dead-unit",
            causes=(Cause.DEAD_INPUT,),
            place=Place.DOWNSTREAM,
            share=0.5,
            delay=-1,
            why="a layer whose inputs are all dead sees a constant",
        ),
        Consequence(
            rule="dead-unit",
            harmful=True,
            delay=-1,
            why="what silences most of one layer (an initialisation, an update) silences others too, "
            "and starves those above it: one cause, one finding",
        ),
        Consequence(
            rule="vanishing-gradient",
            place=Place.UPSTREAM,
            harmful=True,
            delay=-1,
            why="dead units pass a gradient of exactly zero to the layers that feed them",
        ),
        *harms(
            ("constant-predictor", "what does not get through the layers cannot tell samples apart"),
            ("zero-gradient", "a layer that is dead as a whole passes nothing to those below it"),
            ("lr-too-low", "weights that get next to no gradient move next to nowhere"),
            ("update-lost", "gradients this small fall below the optimiser's eps"),
        ),
        *(
            Consequence(rule=rule, place=Place.DOWNSTREAM, share=0.5, harmful=True, delay=-1, why=why)
            for rule, why in (
                ("linear-unit", "a unit that sees a constant is on for all samples, or off for all"),
                ("dormant-unit", "a unit that sees a constant may say next to nothing"),
                ("cloned-unit", "units that see a constant differ in nothing that counts"),
            )
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """One finding for each layer and cause."""
        wires = Wires(run)
        criterion = Criterion(
            rate=self.limit("firing_rate"), chance=self.limit("chance"), steps=self.limit("silent_steps")
        )
        found = deaths(run, wires, criterion)
        complete = {path for path, layer in found.items() if layer.complete}
        told = answer(run)
        state = told.state
        for layer in found.values():
            for cause, units in by_cause(layer, complete):
                if units.any():
                    severity = self._severity(run, wires, layer, told)
                    minor = 2 * units.sum() < layer.dead.sum()
                    if cause is Cause.DEAD_INPUT or minor:
                        severity = Severity.INFO  # the harm is that of the other cause
                    yield _finding(self, run, layer, cause, units, severity, state)

    def _severity(self, run: RunView, wires: Wires, layer: Deaths, told: Answer) -> Severity:
        """Harm, not form: what the deaths do to learning."""
        state = told.state
        if told.never_apart and not (layer.born & layer.dead).all():
            return Severity.INFO  # what made the answers all the same was there before the whole layer died
        if (
            layer.complete
            and wires.is_cut(layer.path)
            and not flows_around(run, wires, layer.path, int(layer.died.max()))
        ):
            return Severity.ERROR
        if layer.dead.mean() < self.limit("share"):
            return Severity.INFO
        if state.stuck:
            return Severity.ERROR
        change = change_at(run.loss, worst(layer.died[layer.dead])[0])
        harmed = change is not None and (change.worse or change.stalled)
        if state.outcome is Outcome.LEARNING and (harmed or standstill(state, run.loss)):
            return Severity.WARNING
        if self._throttled(run, wires, layer, told):
            return Severity.WARNING
        return Severity.INFO

    def _throttled(self, run: RunView, wires: Wires, layer: Deaths, told: Answer) -> bool:
        """Whether all goes through the few units that were not born dead, and the loss rests well above 0."""
        few = (layer.dead & layer.born).mean() >= self.limit("born") and wires.is_cut(layer.path)
        high = told.state.end >= self.limit("left") * told.constant_loss
        return bool(few and high and at_rest(run.loss))

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="one update kills a whole layer",
            build=lambda: run_of(
                Plan(path="fc1"), Plan(path="fc2", dies=dict.fromkeys(range(8), 100)), loss=relapsing_loss()
            ),
            expect=(_expected(Cause.DIED_AT_STEP, Severity.ERROR, "fc2", range(8), 100),),
        ),
        Case(
            name="born dead, and the loss is flat",
            build=lambda: run_of(
                Plan(path="fc1", dies=dict.fromkeys(range(6), 0)), Plan(path="fc2"), loss=flat_loss()
            ),
            expect=(_expected(Cause.BORN_DEAD, Severity.ERROR, "fc1", range(6), 0),),
        ),
        Case(
            name="a layer behind a dead one is dead because of its input",
            build=lambda: run_of(
                Plan(path="fc1", dies=dict.fromkeys(range(8), 0)),
                Plan(path="fc2", dies=dict.fromkeys(range(3), 0)),
                loss=flat_loss(),
            ),
            expect=(
                Expected(cause=Cause.BORN_DEAD, severity=Severity.ERROR, layer="fc1"),
                Expected(cause=Cause.DEAD_INPUT, severity=Severity.INFO, layer="fc2", units=(0, 1, 2)),
            ),
        ),
        Case(
            name="half of the units die at different steps and the loss stays higher",
            build=lambda: run_of(
                Plan(path="fc1", dies={0: 60, 1: 100, 2: 100, 3: 100}),
                loss=relapsing_loss(level=0.9),
            ),
            expect=(_expected(Cause.DIED_AT_STEP, Severity.WARNING, "fc1", range(4), 60),),
        ),
        Case(
            name="three quarters are dead and the network learns: information",
            build=lambda: run_of(Plan(path="fc1", dies=dict.fromkeys(range(6), 0))),
            expect=(Expected(cause=Cause.BORN_DEAD, severity=Severity.INFO),),
        ),
        Case(
            name="no readings: the death is inferred",
            build=lambda: run_of(Plan(path="fc1", dies={0: 100}), readings=False),
            expect=(Expected(cause=Cause.DIED_AT_STEP, severity=Severity.INFO, units=(0,), since_step=100),),
        ),
        Case(
            name="a whole residual branch is dead and the skip carries on: information",
            build=lambda: run_of(
                Plan(path="stem"),
                Plan(path="branch", dies=dict.fromkeys(range(8), 0)),
                Plan(path="join", inputs=("branch",), skips=("stem",)),
            ),
            expect=(Expected(cause=Cause.BORN_DEAD, severity=Severity.INFO, layer="branch"),),
        ),
        Case(name="every unit fires", build=lambda: run_of(Plan(path="fc1"), Plan(path="fc2"))),
        Case(
            name="rare units are not dead",
            build=lambda: run_of(Plan(path="fc1", rates={0: 0.02, 1: 0.001, 2: 0.0003}), loss=flat_loss(400)),
        ),
        Case(
            name="blocked units fire and only get no gradient",
            build=lambda: run_of(
                Plan(path="fc1", blocked=dict.fromkeys(range(8), 100)), Plan(path="fc2"), loss=flat_loss()
            ),
        ),
        Case(
            name="a frozen layer is not dead",
            build=lambda: run_of(Plan(path="fc1", frozen=True, dies={0: 0}), loss=flat_loss()),
        ),
        Case(
            name="a leaky activation cannot die",
            build=lambda: run_of(Plan(path="fc1", activation="leaky_relu", dies={0: 0})),
        ),
        Case(
            name="too short a silence",
            build=lambda: run_of(Plan(path="fc1", dies={0: 190}), loss=flat_loss()),
        ),
    )


def _finding(
    rule: Rule, run: RunView, layer: Deaths, cause: Cause, units: Mask, severity: Severity, state: Learning
) -> Finding:
    """The finding for one cause in one layer."""
    died = layer.died[units]
    confirmed = bool(layer.confirmed[units].all())
    exact = Confidence.EXACT if layer.liveness.period <= 1 else Confidence.MEASURED
    total = len(layer.dead)
    killing = autopsy(run, (layer.path, *layer.wiring.modules), int(worst(died)[0]))
    attributed = attribution(run, layer.path, units, layer.died)
    return Finding(
        rule=rule.slug,
        fault=rule.fault,
        severity=severity,
        confidence=exact if confirmed else Confidence.INFERRED,
        layer=layer.path,
        call=layer.wiring.site.call,
        units=tuple(int(u) for u in np.flatnonzero(units)),
        units_total=total,
        since_step=int(died.min()),
        cause=cause,
        message=sentence(cause, int(units.sum()), total, layer.path, died)
        + (attribution_words(attributed) if attributed is not None else ""),
        evidence=(
            *census(layer, units),
            *(attribution_evidence(attributed) if attributed is not None else ()),
            *(killing.evidence if killing is not None else ()),
            *state.evidence,
        ),
        modules=layer.wiring.modules,
        try_next=() if attributed is not None or cause is not Cause.DIED_AT_STEP else (how_to_ask(run),),
    )
