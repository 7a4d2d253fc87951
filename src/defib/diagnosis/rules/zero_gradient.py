"""Layers that an optimiser steps and that never get a gradient.

## What it measures

For every layer with parameters that an optimiser owns and that require a gradient: whether any
backward reached it, and whether the norm of its gradient was exactly zero on every late reading. For
those that got none the reason is looked for in the graph of the backward pass, in the other rules'
measures and in the loss.

## Why it hurts

What gets no gradient is not trained. Weight decay may even shrink it. Below a cut nothing learns,
however long the training; the layers above it work on features as they were drawn.

## Causes

- `cut`: an operation whose derivative is zero everywhere (sign, round, floor, ceil, trunc, a random
  draw) stands between the layer and the loss; the evidence names it.
- `unreached`: no backward reached the layer: it is not used in the forward pass, or its output is
  detached, or turned into something without a gradient (argmax, a comparison, a number).
- `not-owned`: the optimiser was made for other parameters than those that the loss is made of (a head
  or a whole model that was replaced after the optimiser was made): none of its own ever has a gradient.
- `gradients-dropped`: backward computes gradients, and they are gone, or exactly zero, when the optimiser
  steps: `zero_grad()` between `backward()` and `step()`.
- `dead-layer`: all units of a layer on the way are dead; the finding that names them explains it.
- `zero-loss`: the loss is exactly zero, as with a margin that all samples keep: nothing is left to do.
- `blocked`: the gradient is exactly zero for none of these reasons: an output that has saturated
  exactly, weights of zero above, rounding.

## Prognosis

A cut and a missing path stay as they are. A loss of zero ends with the next sample that has one.

## Example

`torch.round` on the activations of `fc1`: the norm of its gradient is exactly 0 on every step, while
`fc2` and the output learn.

## False alarms

Parameters that require no gradient are frozen on purpose and not mentioned. Layers without gradient
in a network that learns are information: heads that are not used, experts that were not chosen. Only
where half of the layers or more are on the way and get exactly zero is such a run warned.

## References

- PyTorch documentation, Autograd mechanics: gradients for non-differentiable functions.
"""

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence, Unseen
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import Event, RunView
from defib.core.wiring import Layer
from defib.diagnosis.case_gradients import (
    hardly_read,
    mostly_without_gradient,
    never_reached,
    stepping_copies,
    with_a_detached_layer,
    with_gradient,
    zero_again,
)
from defib.diagnosis.cases import Plan, falling_loss, flat_loss, norms_of, run_of
from defib.diagnosis.measures.deaths import Criterion, deaths
from defib.diagnosis.measures.learning import Learning, learning
from defib.diagnosis.measures.lost_gradients import WORDS, arrives_and_is_zero, why_none
from defib.diagnosis.measures.outputs import never_moves
from defib.diagnosis.measures.standstill import unchanged
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Rule

_NOTHING_ARRIVES = (Cause.CUT, Cause.UNREACHED, Cause.NOT_OWNED, Cause.GRADIENTS_DROPPED)


class ZeroGradient(Rule):
    """No gradient at all."""

    slug = "zero-gradient"
    fault = Fault.VANISHING
    title = "layers that an optimiser steps and that never get a gradient"
    rank = 24
    causes = (*_NOTHING_ARRIVES, Cause.DEAD_LAYER, Cause.ZERO_LOSS, Cause.BLOCKED)
    faults = MappingProxyType({Cause.NOT_OWNED: Fault.LR_TOO_LOW, Cause.GRADIENTS_DROPPED: Fault.LR_TOO_LOW})
    limits = (
        Limit(
            name="readings",
            default=5,
            unit="readings",
            meaning="fewest readings, up to the last, on which the gradient was exactly zero",
            reason="an expert or a head may get no sample on one step, hardly on five; below an operation "
            "whose derivative is zero everywhere no sample can make a difference, and one reading tells",
        ),
        Limit(
            name="share",
            default=0.25,
            unit="1",
            meaning="share of the trained layers that get no gradient, for that to be blamed",
            reason="a network whose other three quarters are trained has what it takes to learn",
        ),
        Limit(
            name="most",
            default=0.5,
            unit="1",
            meaning="share of the trained layers that the loss reaches and whose gradient is exactly zero, "
            "from which a run that learns is warned of it",
            reason="then half of what the optimiser steps stays as it was drawn, and the run learns less "
            "than it could; layers that the loss does not reach may be there for later",
        ),
    )
    consequences = (
        *(
            Consequence(rule=rule, when=_NOTHING_ARRIVES, harmful=True, delay=-1, why=why)
            for rule, why in (
                ("vanishing-gradient", "behind a cut the gradient is exactly zero"),
                ("dead-unit", "units below a cut get no gradient, fire or not"),
                ("constant-predictor", "layers that are not trained tell nothing apart"),
                ("lr-too-low", "what gets no gradient does not move"),
                ("update-lost", "a gradient of zero is below any eps"),
            )
        ),
        Consequence(
            rule="constant-predictor",
            when=(Cause.BLOCKED,),
            harmful=True,
            delay=-1,
            why="layers that are not trained tell nothing apart",
        ),
        Consequence(
            rule="not-observed",
            causes=(Cause.NO_DATA,),
            harmful=True,
            delay=-1,
            why="where no gradient arrives there is nothing to look at",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding for each cause."""
        if run.norms is None or not len(run.norms.steps):
            yield from self._none_at_all(run)
            return
        few = len(run.norms.steps) < self.limit("readings")
        if few and not _stands_still(run) and not run.of_kind("cut"):
            return
        if not any(layer.optimizer >= 0 for layer in run.layers):
            yield from self._all_zero(run)
            return
        trained = [layer for layer in run.layers if layer.optimizer >= 0 and not layer.frozen]
        state = learning(run)
        named = set(run.norms.parameters)
        outside = {unseen.what for unseen in run.unseen}
        unreached = [x for x in trained if x.path in outside and not named & set(x.parameters)]
        share = len(unreached) / max(len(trained), 1)
        if unreached:
            yield self._finding(Cause.UNREACHED, unreached, share, state)
        zero = [layer for layer in trained if self._is_zero(run, layer)]
        if zero:
            yield from self._zero(run, zero, len(zero) / len(trained), state)

    def _none_at_all(self, run: RunView) -> Iterable[Finding]:
        """An optimiser that steps, a loss that is followed backwards, and no gradient for what it owns."""
        state = learning(run)
        owned = sum(len(o.parameters) for o in run.optimizers)
        looked = run.facts.get("overhead")
        readings = looked.get("readings", 0) if isinstance(looked, dict) else 0
        sparse = any(o.kind.startswith("Sparse") for o in run.optimizers)
        if not owned or sparse or readings < self.limit("readings") or not state.stuck:
            return
        cause = why_none(run)
        yield self.found(
            cause,
            Severity.ERROR,
            f"none of the {owned} parameters that the optimiser steps ever had a gradient: {WORDS[cause]}",
            evidence=(
                Evidence(name="parameters that the optimiser owns", value=owned, unit="parameters"),
                Evidence(name="steps on which their gradients were looked for", value=readings, unit="steps"),
                *state.evidence,
            ),
            since_step=0,
        )

    def _all_zero(self, run: RunView) -> Iterable[Finding]:
        """The same of parameters that belong to no layer: copies of weights, bare tensors."""
        state = learning(run)
        if run.norms is None or not never_moves(run) or not state.stuck:
            return
        yield self.found(
            Cause.BLOCKED,
            Severity.ERROR,
            "every gradient that the optimiser got is exactly zero, and its parameters belong to no layer: "
            "copies of weights, whose gradients were lost on their way",
            evidence=(
                Evidence(name="steps read", value=len(run.norms.steps), unit="steps"),
                Evidence(name="parameters", value=len(run.norms.parameters), unit="parameters"),
                *state.evidence,
            ),
            since_step=int(run.norms.steps[0]),
        )

    def _is_zero(self, run: RunView, layer: Layer) -> bool:
        """Whether all late gradients of a layer are there and exactly zero."""
        norms = run.norms
        columns = [i for i, n in enumerate(norms.parameters) if n in layer.parameters] if norms else []
        if norms is None or not columns:
            return False
        sizes = norms.gradient[:, columns]
        there = np.asarray(~np.isnan(sizes).all(axis=1))
        zero = np.asarray((np.nan_to_num(sizes, nan=0.0) == 0).all(axis=1))
        late = there & (np.arange(len(sizes)) >= len(sizes) // 2)
        since = int(np.flatnonzero(there & ~zero).max(initial=-1)) + 1
        sure = _stands_still(run) or _below_a_cut(run, layer)
        enough = there[since:].sum() >= self.limit("readings") or sure
        return enough and bool(late.any() and zero[late].all())

    def _zero(self, run: RunView, zero: list[Layer], share: float, state: Learning) -> Iterable[Finding]:
        """The findings for layers whose gradient is exactly zero."""
        late = run.loss.values[len(run.loss) // 2 :]
        if len(late) and float(np.median(late)) == 0:
            yield self._finding(Cause.ZERO_LOSS, zero, share, state)
            return
        order = {layer.path: i for i, layer in enumerate(run.layers)}
        cuts = [e for e in run.of_kind("cut") if e.data.get("layer") in order]
        for cause, names, limit in (
            (Cause.CUT, [str(e.data.get("operation", "")) for e in cuts], _place(order, cuts)),
            (Cause.DEAD_LAYER, [], _last_dead(run, order)),
            (Cause.BLOCKED, [], len(order)),
        ):
            here = [layer for layer in zero if order[layer.path] <= limit]
            zero = [layer for layer in zero if order[layer.path] > limit]
            again = cause is Cause.BLOCKED and share == 1 and arrives_and_is_zero(run, set(order))
            if here:
                why = Cause.GRADIENTS_DROPPED if again else cause
                yield self._finding(why, here, share, state, tuple(dict.fromkeys(names)))

    def _severity(self, cause: Cause, share: float, state: Learning) -> Severity:
        """Harm: where the run does not learn and enough of it gets no gradient, or most of it does not."""
        if cause in {Cause.ZERO_LOSS, Cause.DEAD_LAYER}:
            return Severity.INFO
        if not state.stuck:
            most = share >= self.limit("most") and cause is not Cause.UNREACHED
            return Severity.WARNING if most else Severity.INFO
        if share < self.limit("share"):
            return Severity.INFO
        return Severity.ERROR if cause in {Cause.CUT, Cause.GRADIENTS_DROPPED} else Severity.WARNING

    def _finding(
        self,
        cause: Cause,
        layers: list[Layer],
        share: float,
        state: Learning,
        operations: tuple[str, ...] = (),
    ) -> Finding:
        """The finding for one cause."""
        who = ", ".join(layer.path or "the model" for layer in layers[:3]) + (" ..." if layers[3:] else "")
        why = {
            Cause.CUT: f"the derivative of {', '.join(map(_word, operations))} is zero everywhere",
            Cause.UNREACHED: "no path leads to it from the loss",
            Cause.DEAD_LAYER: "a layer that is dead as a whole passes nothing on",
            Cause.ZERO_LOSS: "the loss is exactly zero",
            Cause.BLOCKED: "something between it and the loss passes nothing on",
            Cause.GRADIENTS_DROPPED: "what backward computes is zero again before the step",
        }[cause]
        return self.found(
            cause,
            self._severity(cause, share, state),
            f"{who}: no gradient at all, for {why}",
            evidence=(
                Evidence(name="layers without any gradient", value=len(layers), unit="layers"),
                Evidence(name="their share of the trained layers", value=share),
                *(Evidence(name="operation", value=o, unit="node") for o in operations),
                *state.evidence,
            ),
            confidence=Confidence.EXACT if cause is Cause.UNREACHED else Confidence.MEASURED,
            layer=layers[0].path,
            since_step=0 if cause in _NOTHING_ARRIVES else None,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="round() below the last layer, and nothing is learned",
            build=lambda: with_gradient(0.0, flat_loss(), cut="RoundBackward0"),
            expect=(Expected(cause=Cause.CUT, severity=Severity.ERROR, layer="fc1", since_step=0),),
        ),
        Case(
            name="the same, read three times",
            build=lambda: replace(
                with_gradient(0.0, flat_loss(), cut="RoundBackward0"), norms=hardly_read(flat_loss()).norms
            ),
            expect=(Expected(cause=Cause.CUT, severity=Severity.ERROR, layer="fc1"),),
        ),
        Case(
            name="the same in a network that learns",
            build=lambda: with_gradient(0.0, falling_loss(), cut="RoundBackward0"),
            expect=(Expected(cause=Cause.CUT, severity=Severity.INFO, layer="fc1"),),
        ),
        Case(
            name="an operation of that kind beside the way",
            build=lambda: with_gradient(0.1, flat_loss(), cut="SignBackward0"),
        ),
        Case(
            name="a detached layer, and nothing is learned",
            build=lambda: with_a_detached_layer(flat_loss()),
            expect=(Expected(cause=Cause.UNREACHED, severity=Severity.WARNING, layer="fc1"),),
        ),
        Case(
            name="a layer that is not used in a network that learns",
            build=lambda: with_a_detached_layer(falling_loss()),
            expect=(Expected(cause=Cause.UNREACHED, severity=Severity.INFO, layer="fc1"),),
        ),
        Case(
            name="a frozen layer",
            build=lambda: run_of(
                Plan(path="fc1", frozen=True), norms=norms_of({"head.weight": np.full(20, 0.1)})
            ),
        ),
        Case(
            name="every unit of the layer above is dead",
            build=lambda: with_gradient(0.0, flat_loss(), dies=dict.fromkeys(range(8), 0)),
            expect=(Expected(cause=Cause.DEAD_LAYER, severity=Severity.INFO, layer="fc1"),),
        ),
        Case(
            name="a margin that all samples keep",
            build=lambda: with_gradient(0.0, np.maximum(falling_loss(end=-1.0), 0.0)),
            expect=(Expected(cause=Cause.ZERO_LOSS, severity=Severity.INFO),),
        ),
        Case(
            name="zero for another reason",
            build=lambda: with_gradient(0.0, flat_loss()),
            expect=(Expected(cause=Cause.BLOCKED, severity=Severity.WARNING, layer="fc1"),),
        ),
        Case(
            name="three readings, and a loss that is the same to the last bit on 200 steps",
            build=lambda: hardly_read(np.full(200, 27.631)),
            expect=(Expected(cause=Cause.BLOCKED, severity=Severity.WARNING, layer="fc1"),),
        ),
        Case(name="three readings of a loss that varies", build=lambda: hardly_read(flat_loss())),
        Case(
            name="an optimiser whose parameters never had a gradient",
            build=lambda: never_reached(flat_loss()),
            expect=(Expected(cause=Cause.UNREACHED, severity=Severity.ERROR, since_step=0),),
        ),
        Case(
            name="an optimiser that was made for another model",
            build=lambda: never_reached(flat_loss(), owner=-1, output="head"),
            expect=(Expected(cause=Cause.NOT_OWNED, severity=Severity.ERROR, since_step=0),),
        ),
        Case(
            name="gradients are thrown away before the step",
            build=lambda: never_reached(flat_loss(), output="head"),
            expect=(Expected(cause=Cause.GRADIENTS_DROPPED, severity=Severity.ERROR, since_step=0),),
        ),
        Case(
            name="they are set to zero before the step",
            build=lambda: zero_again(flat_loss()),
            expect=(Expected(cause=Cause.GRADIENTS_DROPPED, severity=Severity.ERROR),),
        ),
        Case(name="no gradient was read of a run that learns", build=lambda: never_reached(falling_loss())),
        Case(
            name="copies of weights whose gradients are exactly zero",
            build=lambda: stepping_copies(0.0),
            expect=(Expected(cause=Cause.BLOCKED, severity=Severity.ERROR),),
        ),
        Case(name="copies of weights that get gradients", build=lambda: stepping_copies(0.1)),
        Case(
            name="two of three layers in a network that learns",
            build=lambda: mostly_without_gradient(falling_loss()),
            expect=(Expected(cause=Cause.BLOCKED, severity=Severity.WARNING, layer="fc1"),),
        ),
        Case(name="gradients everywhere", build=lambda: with_gradient(0.1, flat_loss())),
        Case(
            name="a layer whose inside is not visible, and gradients arrive",
            build=lambda: replace(
                with_gradient(0.1, flat_loss()), unseen=(Unseen(what="fc1", why="runs inside torch.compile"),)
            ),
        ),
    )


def _stands_still(run: RunView) -> bool:
    """Whether the loss itself shows on every step that nothing moves: it is the same to the last bit."""
    return unchanged(run.loss)


def _below_a_cut(run: RunView, layer: Layer) -> bool:
    """Whether an operation whose derivative is zero everywhere stands above a layer."""
    order = {layer.path: i for i, layer in enumerate(run.layers)}
    cuts = [e for e in run.of_kind("cut") if e.data.get("layer") in order]
    return order.get(layer.path, len(order)) <= _place(order, cuts)


def _place(order: dict[str, int], cuts: list[Event]) -> int:
    """Place of the last layer below a cut; -1 if there is no cut."""
    return max((order[e.data["layer"]] for e in cuts), default=-1)


def _last_dead(run: RunView, order: dict[str, int]) -> int:
    """Place of the last layer that is dead as a whole; -1 if there is none."""
    found = deaths(run, Wires(run), Criterion(rate=0.002, chance=1e-6, steps=20))
    return max((order.get(path, -1) for path, layer in found.items() if layer.complete), default=-1)


def _word(operation: str) -> str:
    """The function's name: "RoundBackward0" is round()."""
    return operation.rstrip("0123456789").removesuffix("Backward").lower() + "()"
