"""The gradient that reaches the first layers is a tiny fraction of that at the last.

## What it measures

The size of the gradient on both sides of every activation on the way from the last hidden
activation to the first: how many decades (powers of ten) are lost, and how many of them in the
activations' derivatives and in the weights between them. The two parts add up exactly. Skip
connections need no special treatment, since what is measured is the whole gradient. What of the
weights' part lies across a normalisation or where several ways meet is told apart; where an
attention, a gate, a fused kernel or a compiled region lies between two activations, its part is told
as not attributed. Where no activation was read, the norms of the weights' gradients stand in.

## Why it hurts

A layer's update is proportional to its gradient (or, under Adam, to its gradient's direction, which
noise and rounding take over once it is tiny). The first layers stay as they were drawn, and
everything above them works on random features; in the extreme only the output bias learns.

## Causes

- `activation-derivative`: the derivatives are small; sigmoid's is at most 1/4, so ten of them cost
  at least six decades; saturated units make it worse.
- `weights`: the weights are too small for this activation; PyTorch's default for `nn.Linear` loses
  0.39 decades a ReLU layer.
- `derivative-and-weights`: both in comparable parts, or most of it could not be attributed.

## Prognosis

It does not pass by itself: the layers that would have to change get no signal. Networks a few
layers deep can crawl out of it over many epochs.

## Example

Ten hidden sigmoid layers with default weights: 8.5 decades are lost, 6.1 of them in the
derivatives, and the loss stays at ln 10. The finding names the first hidden layer, both parts, and
the cause.

## False alarms

A gradient that falls with depth while the loss falls well is information only. So is a converged
run: a small gradient everywhere is no loss along the depth. With too few steps to tell whether it
learns, only an extreme loss is a warning.

## References

- Hochreiter: Untersuchungen zu dynamischen neuronalen Netzen (1991).
- Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks (2010).
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import RunView
from defib.diagnosis.cases import Plan, flat_loss, norms_of, run_of
from defib.diagnosis.measures.learning import Learning, Outcome, learning
from defib.diagnosis.measures.ledger import Ledger, backward_ledger, blind_spots, main_path
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.rule import Case, Expected, Limit, Rule, harms


def _chain(loss_of_each: float, weights: float, depth: int = 8) -> tuple[Plan, ...]:
    """A chain of layers, each of which multiplies the gradient by the two factors."""
    plans = []
    for i in range(depth):
        size = (loss_of_each * weights) ** (depth - 1 - i)
        plans.append(Plan(path=f"fc{i}", activation="sigmoid", gradient=(size, size * loss_of_each)))
    return tuple(plans)


class VanishingGradient(Rule):
    """Decades of gradient lost between the last hidden layer and the first."""

    slug = "vanishing-gradient"
    fault = Fault.VANISHING
    title = "the gradient shrinks by orders of magnitude on its way to the first layers"
    rank = 46
    causes = (Cause.ACTIVATION_DERIVATIVE, Cause.WEIGHTS, Cause.DERIVATIVE_AND_WEIGHTS)
    limits = (
        Limit(
            name="decades",
            default=3.0,
            unit="decades",
            meaning="loss between the last hidden activation and the first",
            reason="healthy networks of ten layers lose up to two; with three, the first layers move a "
            "thousand times less than the last",
        ),
        Limit(
            name="decades_unknown",
            default=6.0,
            unit="decades",
            meaning="loss that is a warning even if it cannot be told whether the run learns",
            reason="about the rounding error of float32: the update is lost in the weights",
        ),
    )

    consequences = harms(
        ("constant-predictor", "layers that get no signal do not learn to tell samples apart"),
        ("lr-too-low", "weights that get next to no gradient move next to nowhere"),
        ("update-lost", "gradients this small fall below the optimiser's eps"),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        wires = Wires(run)
        path = main_path(run, wires)
        ledger = backward_ledger(run, path)
        state = learning(run)
        if ledger is not None:
            if ledger.typical[0] <= -self.limit("decades"):
                yield self._measured(ledger, state)
            return
        inferred = _from_norms(run)
        if inferred is not None and inferred[0] <= -self.limit("decades"):
            yield self._inferred(inferred, state, blind_spots(run))

    def _severity(self, total: float, state: Learning) -> Severity:
        """Harm: only where the run does not learn."""
        if state.stuck:
            return Severity.ERROR
        extreme = state.outcome is Outcome.UNKNOWN and total <= -self.limit("decades_unknown")
        return Severity.WARNING if extreme else Severity.INFO

    def _measured(self, ledger: Ledger, state: Learning) -> Finding:
        """The finding from readings on both sides of every activation."""
        total, activations, weights = ledger.typical
        below = np.flatnonzero(ledger.total <= -self.limit("decades"))
        first, last = ledger.path[0], ledger.path[-1]
        amount = f"{-total:.1f} decades of it are lost" if np.isfinite(total) else "it is exactly zero"
        return Finding(
            rule=self.slug,
            fault=self.fault,
            severity=self._severity(total, state),
            confidence=Confidence.MEASURED,
            layer=first.site.path,
            call=first.site.call,
            since_step=int(ledger.steps[below[0]]),
            cause=ledger.blamed(-1),
            message=f"of the gradient at {last.site.path or 'the last activation'}, "
            f"{len(ledger.path)} activations later, {amount} at {first.site.path or 'the first'}",
            evidence=(
                Evidence(
                    name="change of the gradient, last to first hidden activation",
                    value=total,
                    unit="decades",
                ),
                Evidence(name="part of the activations' derivatives", value=activations, unit="decades"),
                Evidence(name="part of the weights", value=weights, unit="decades"),
                *ledger.evidence(),
                Evidence(name="hidden activations on the way", value=len(ledger.path), unit="layers"),
                Evidence(name="readings", value=len(ledger.steps), unit="steps"),
                *state.evidence,
            ),
            modules=first.modules,
        )

    def _inferred(
        self, inferred: tuple[float, str, str], state: Learning, blind: tuple[Evidence, ...]
    ) -> Finding:
        """The finding from the norms of weight gradients alone."""
        total, first, last = inferred
        return Finding(
            rule=self.slug,
            fault=self.fault,
            severity=self._severity(total, state),
            confidence=Confidence.INFERRED,
            layer=first,
            cause=Cause.DERIVATIVE_AND_WEIGHTS,
            message=f"the weights' gradient is {-total:.1f} decades smaller at {first} than at {last}",
            evidence=(
                Evidence(name="change of the weights' gradient norm", value=total, unit="decades"),
                *blind,
                *state.evidence,
            ),
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="sigmoid derivatives eat the gradient",
            build=lambda: run_of(*_chain(0.2, 0.9), loss=flat_loss()),
            expect=(
                Expected(
                    cause=Cause.ACTIVATION_DERIVATIVE, severity=Severity.ERROR, layer="fc0", since_step=0
                ),
            ),
        ),
        Case(
            name="small weights eat it",
            build=lambda: run_of(*_chain(0.95, 0.1), loss=flat_loss()),
            expect=(Expected(cause=Cause.WEIGHTS, severity=Severity.ERROR, layer="fc0"),),
        ),
        Case(
            name="both do",
            build=lambda: run_of(*_chain(0.3, 0.3), loss=flat_loss()),
            expect=(Expected(cause=Cause.DERIVATIVE_AND_WEIGHTS, severity=Severity.ERROR),),
        ),
        Case(
            name="the same in a network that learns is information",
            build=lambda: run_of(*_chain(0.2, 0.9)),
            expect=(Expected(cause=Cause.ACTIVATION_DERIVATIVE, severity=Severity.INFO),),
        ),
        Case(
            name="too few steps to say whether it learns",
            build=lambda: run_of(*_chain(0.1, 0.9), loss=flat_loss(12), every=2),
            expect=(Expected(cause=Cause.ACTIVATION_DERIVATIVE, severity=Severity.WARNING),),
        ),
        Case(
            name="only norms of the weights' gradients are known",
            build=lambda: run_of(
                Plan(path="fc0"),
                Plan(path="fc1"),
                loss=flat_loss(),
                readings=False,
                norms=norms_of(
                    {
                        "fc0.weight": np.full(20, 1e-7),
                        "fc1.weight": np.full(20, 1e-4),
                        "head.weight": np.full(20, 1e-1),
                    }
                ),
            ),
            expect=(Expected(cause=Cause.DERIVATIVE_AND_WEIGHTS, severity=Severity.ERROR, layer="fc0"),),
        ),
        Case(
            name="a level gradient in a network that does not learn",
            build=lambda: run_of(*_chain(0.9, 1.1), loss=flat_loss()),
        ),
        Case(
            name="a saturated output belongs to the loss, not to the depth",
            build=lambda: run_of(
                Plan(path="fc0", activation="tanh"),
                Plan(path="fc1", activation="tanh"),
                output_activation="sigmoid",
                loss=flat_loss(),
                loss_operations=("BinaryCrossEntropyBackward0", "SigmoidBackward0"),
            ),
        ),
    )


def _from_norms(run: RunView) -> tuple[float, str, str] | None:
    """Decades between the weights' gradients of the first and the last layer, and their paths."""
    if run.norms is None:
        return None
    columns = {name: i for i, name in enumerate(run.norms.parameters)}
    weights = [
        (layer.path, columns[name])
        for layer in run.layers
        for name in layer.parameters[:1]
        if name in columns and not layer.frozen and name.endswith("weight")
    ]
    if len(weights) < 3:
        return None
    first, last = run.norms.gradient[:, weights[0][1]], run.norms.gradient[:, weights[-1][1]]
    some = np.isfinite(first) & np.isfinite(last) & (last > 0) & (first > 0)
    if not some.any():
        return None
    return float(np.median(np.log10(first[some] / last[some]))), weights[0][0], weights[-1][0]
