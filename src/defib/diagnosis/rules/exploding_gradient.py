"""Signal or gradient grows by orders of magnitude along the depth, or from step to step.

## What it measures

Three things: the growth of the gradient from the last hidden activation to the first, the growth of
the signal from the first pre-activation to the last activation (both in decades, parted into what
activations and weights do), and the growth of the whole gradient's norm over the steps of the run.

## Why it hurts

The update overshoots: weights jump to where the loss is higher, the next gradient is larger still,
and soon numbers leave the range of the data type. Long before that the loss is rough and rises.

## Causes

- `weights`: the weights multiply the signal layer by layer, because they were drawn too large or
  have grown. Through a recurrence, where the same weights multiply on every step of time, two decades
  count in a run that gets nowhere; first weights that gain two to three decades over layers of their
  own are told by `initialisation`.
- `activation-derivative`: the activation itself amplifies, as an exponential does.
- `derivative-and-weights`: both in comparable parts, or the split could not be measured.

## Prognosis

It does not pass by itself. A single spike may, if the optimiser's memory is short and the loss
comes back.

## Example

A six-layer ReLU network with weights drawn from N(0, 1): each layer of 128 units multiplies signal
and gradient by 8, so 4.5 decades are gained in five layers, and the loss is NaN after a few steps.
The finding names the weights and explains the NaN.

## False alarms

Growth along the depth in a network that learns is information; one whose loss after a hundred steps has
hardly beaten the best constant's is warned. A noisy gradient norm, a warm-up
spike or a normal rise by a factor of ten stays below the limit of three decades.

## References

- Pascanu, Mikolov, Bengio: On the difficulty of training recurrent neural networks (2013).
- He, Zhang, Ren, Sun: Delving Deep into Rectifiers (2015).
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import RunView
from defib.diagnosis.cases import Plan, broken_loss, flat_loss, norms_of, run_of
from defib.diagnosis.measures.answer import Answer, answer
from defib.diagnosis.measures.learning import Learning, Outcome
from defib.diagnosis.measures.ledger import (
    Ledger,
    backward_ledger,
    forward_ledger,
    is_recurrence,
    main_path,
)
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Rule


def _growing(backward: float, forward: float, depth: int = 6) -> tuple[Plan, ...]:
    """A chain whose gradient and signal grow by these factors a layer."""
    return tuple(
        Plan(
            path=f"fc{i}",
            gradient=(backward ** (depth - 1 - i), backward ** (depth - 1 - i)),
            forward=(forward**i, forward**i),
        )
        for i in range(depth)
    )


class ExplodingGradient(Rule):
    """Decades gained along the depth or over the steps."""

    slug = "exploding-gradient"
    fault = Fault.EXPLODING
    title = "signal or gradient grows by orders of magnitude, along the depth or over the steps"
    rank = 36
    causes = (Cause.WEIGHTS, Cause.ACTIVATION_DERIVATIVE, Cause.DERIVATIVE_AND_WEIGHTS)
    limits = (
        Limit(
            name="decades",
            default=3.0,
            unit="decades",
            meaning="growth along the depth, of gradient or signal",
            reason="trained networks of ten layers gain about one",
        ),
        Limit(
            name="decades_again",
            default=2.0,
            unit="decades",
            meaning="the same through a recurrence, in a run that gets nowhere",
            reason="the same weights multiply again on every step of time, so that a hundredfold is no "
            "accident of single layers; what a longer sequence would make of it has no bound",
        ),
        Limit(
            name="decades_in_time",
            default=3.0,
            unit="decades",
            meaning="growth of the whole gradient's norm over the run",
            reason="healthy norms vary by a factor of ten or so, mostly downwards",
        ),
    )
    consequences = (
        Consequence(
            rule="non-finite",
            causes=(
                Cause.NON_FINITE_FORWARD,
                Cause.NON_FINITE_LOSS,
                Cause.NON_FINITE_BACKWARD,
                Cause.NON_FINITE_UPDATE,
            ),
            why="what grows without bound leaves the range of the data type",
        ),
        Consequence(
            rule="lr-too-high",
            harmful=True,
            why="against gradients multiplied by every layer no step is small",
        ),
        Consequence(
            rule="constant-predictor", harmful=True, delay=-1, why="updates of any size leave nothing learned"
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding: along the depth if it shows there, else over the steps."""
        told = answer(run)
        state = told.state
        path = main_path(run, Wires(run))
        again = is_recurrence(path) and (told.failing or told.late)
        least = self.limit("decades_again" if again else "decades")
        ledgers = [("gradient", backward_ledger(run, path)), ("signal", forward_ledger(run, path))]
        grown = [
            (name, ledger) for name, ledger in ledgers if ledger is not None and np.max(ledger.total) >= least
        ]
        if grown:
            name, ledger = max(grown, key=lambda found: float(np.max(found[1].total)))
            yield self._along_depth(name, ledger, told, least)
            return
        yield from self._in_time(run, state)

    def _along_depth(self, name: str, ledger: Ledger, told: Answer, least: float) -> Finding:
        """The finding from the account along the depth; its harm is that the run gets nowhere, or hardly."""
        state, worst = told.state, ledger.worst(+1)
        above = np.flatnonzero(ledger.total >= least)
        severity = Severity.ERROR if told.failing else Severity.WARNING if told.late else Severity.INFO
        start, end = ledger.path[-1].site.path, ledger.path[0].site.path
        layer = ledger.path[0] if name == "gradient" else ledger.path[-1]
        if name == "signal":
            start, end = end, start
        total = float(ledger.total[worst])
        parts = float(ledger.activations[worst]), float(ledger.weights[worst])
        return Finding(
            rule=self.slug,
            fault=self.fault,
            severity=severity,
            confidence=Confidence.MEASURED,
            layer=layer.site.path,
            call=layer.site.call,
            since_step=int(ledger.steps[above[0]]),
            cause=ledger.blamed(+1, worst),
            message=f"the {name} grows by {total:.1f} decades from {start} to {end}",
            evidence=(
                Evidence(name=f"largest growth of the {name} along the depth", value=total, unit="decades"),
                Evidence(name="part of the activations", value=parts[0], unit="decades"),
                Evidence(name="part of the weights", value=parts[1], unit="decades"),
                *ledger.evidence(worst),
                Evidence(name="hidden activations on the way", value=len(ledger.path), unit="layers"),
                Evidence(name="at step", value=int(ledger.steps[worst]), unit="step"),
                *state.evidence,
            ),
            modules=layer.modules,
        )

    def _in_time(self, run: RunView, state: Learning) -> Iterable[Finding]:
        """The finding from the norm of the whole gradient, step by step."""
        if run.norms is None or state.outcome is not Outcome.DIVERGING:
            return
        squares = np.where(np.isfinite(run.norms.gradient), run.norms.gradient, 0.0) ** 2
        sizes = np.sqrt(squares.sum(axis=1))
        usable = sizes > 0
        if usable.sum() < 2:
            return
        steps, sizes = run.norms.steps[usable], sizes[usable]
        level = float(np.median(sizes[: max(1, len(sizes) // 4)]))
        growth = np.log10(sizes / level)
        above = np.flatnonzero(growth >= self.limit("decades_in_time"))
        if not len(above):
            return
        largest = int(np.argmax(squares[usable][int(np.argmax(growth))]))
        name = run.norms.parameters[largest]
        owner = next((layer.path for layer in run.layers if name in layer.parameters), "")
        yield Finding(
            rule=self.slug,
            fault=self.fault,
            severity=Severity.ERROR,
            confidence=Confidence.MEASURED,
            layer=owner,
            since_step=int(steps[above[0]]),
            cause=Cause.DERIVATIVE_AND_WEIGHTS,
            message=f"the gradient's norm grows by {float(growth.max()):.1f} decades, most of it in {name}",
            evidence=(
                Evidence(name="growth of the gradient's norm", value=float(growth.max()), unit="decades"),
                Evidence(name="norm in the first quarter of the run", value=level, unit="norm"),
                Evidence(name="largest norm", value=float(sizes.max()), unit="norm"),
                *state.evidence,
            ),
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="weights multiply the gradient layer by layer",
            build=lambda: run_of(*_growing(8.0, 1.0), loss=broken_loss()),
            expect=(Expected(cause=Cause.WEIGHTS, severity=Severity.ERROR, layer="fc0", since_step=0),),
        ),
        Case(
            name="weights multiply the signal layer by layer",
            build=lambda: run_of(*_growing(1.0, 8.0), loss=flat_loss()),
            expect=(Expected(cause=Cause.WEIGHTS, severity=Severity.ERROR, layer="fc5"),),
        ),
        Case(
            name="an exponential activation amplifies",
            build=lambda: run_of(
                Plan(path="fc0", activation="exp", forward=(1.0, 3.0)),
                Plan(path="fc1", activation="exp", forward=(5.0, 1e6)),
                loss=broken_loss(at=1),
            ),
            expect=(Expected(cause=Cause.ACTIVATION_DERIVATIVE, severity=Severity.ERROR, layer="fc1"),),
        ),
        Case(
            name="the norm grows from step to step until the loss is NaN",
            build=lambda: run_of(
                Plan(path="fc0"),
                loss=broken_loss(100, at=80),
                norms=norms_of({"fc0.weight": 10.0 ** np.linspace(0, 6, 10)}),
            ),
            expect=(
                Expected(
                    cause=Cause.DERIVATIVE_AND_WEIGHTS, severity=Severity.ERROR, layer="fc0", since_step=60
                ),
            ),
        ),
        Case(
            name="growth in a network that learns is information",
            build=lambda: run_of(*_growing(8.0, 1.0)),
            expect=(Expected(cause=Cause.WEIGHTS, severity=Severity.INFO),),
        ),
        Case(
            name="a level network that does not learn",
            build=lambda: run_of(*_growing(1.3, 1.1), loss=flat_loss()),
        ),
        Case(
            name="a norm that grows tenfold while it learns",
            build=lambda: run_of(
                Plan(path="fc0"), norms=norms_of({"fc0.weight": 10.0 ** np.linspace(0, 1, 20)})
            ),
        ),
    )
