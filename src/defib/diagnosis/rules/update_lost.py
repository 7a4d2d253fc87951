"""Gradients arrive, and the weights do not move: rounding takes the update.

## What it measures

On sampled steps, the share of entries with a gradient that the step left bit-identical; gradient
norms against the optimiser's eps; steps that the gradient scaler skipped; and non-finite weights
made by an optimiser whose steps are bounded.

## Why it hurts

A weight w in a format with p bits of mantissa cannot change by less than about |w| 2^-p: in bfloat16
an update below 0.4 % of the weight is no update. The optimiser's own numbers round, too: Adam's
default eps of 1e-8 is 0 in float16.

## Causes

- `rounded-away`: next to all updates are smaller than the spacing of the weights' numbers.
- `epsilon-lost`: finite gradients, non-finite weights, under an optimiser whose step is bounded by
  the learning rate: its eps and the root of its second moment both rounded to 0. The optimiser
  counts in the format of the parameters, so that these must be in float16; of a record of before,
  which does not tell it, the activations' format is taken and the finding is inferred.
- `epsilon-throttle`: the norm of whole tensors' gradients is below eps, so that dividing by the root
  of the second moment no longer makes up for it.
- `steps-skipped`: the scaler skips most steps because of infinite gradients.

## Prognosis

It does not pass: the smaller the gradients get, the more is lost.

## Example

A network in pure float16 under Adam with its default eps: after the first step a bias is infinite
although all gradients are finite. The finding names step 0 and explains the NaN that follow.

## False alarms

A scaler that skips a few steps looks for its scale. A run that learns is not reported. Under
autocast the parameters stay in float32, whatever format the activations are in: neither their updates
nor the eps are rounded to 16 bits.

## References

- Micikevicius et al.: Mixed Precision Training (2018).
- Zamirai et al.: Revisiting BFloat16 Training (2021): nearest rounding cancels updates.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.optimizer import Norms
from defib.core.run import Event, RunView
from defib.core.series import Series
from defib.diagnosis.case_parts import sizes_of, stepped
from defib.diagnosis.cases import Plan, broken_loss, falling_loss, flat_loss, run_of
from defib.diagnosis.measures.answer import Answer, answer
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Rule

_ADAPTIVE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta")
_HALF = {"float16", "bfloat16"}
_HALF_EPS = 2.0**-25
"""The largest number that float16 rounds to 0."""


class UpdateLost(Rule):
    """Updates that rounding takes."""

    slug = "update-lost"
    fault = Fault.UNDERFLOW
    title = "gradients arrive, and rounding takes the update"
    rank = 28
    causes = (Cause.ROUNDED_AWAY, Cause.EPSILON_LOST, Cause.EPSILON_THROTTLE, Cause.STEPS_SKIPPED)
    limits = (
        Limit(
            name="swallowed",
            default=0.9,
            unit="1",
            meaning="share of entries that the step left as they were, in the median of steps and tensors",
            reason="stochastic gradients lose a part of their entries at a low rate in any format; with nine "
            "tenths gone the direction of the update is no longer that of the gradient",
        ),
        Limit(
            name="swallowed_half",
            default=0.5,
            unit="1",
            meaning="the same, where parameters are kept in 16 bits",
            reason="the spacing of its numbers (0.4 % of a weight in bfloat16) is of the size of usual "
            "steps, so it is rounding that takes them; which entries lose theirs depends on the size of "
            "weight and step, so that they are the same ones step after step",
        ),
        Limit(
            name="throttled",
            default=0.5,
            unit="1",
            meaning="share of tensors whose whole gradient is below eps, in the median of the steps",
            reason="then most of the network moves slower than the learning rate says",
        ),
        Limit(
            name="skipped",
            default=0.5,
            unit="1",
            meaning="share of the steps that the scaler skips",
            reason="a search for the scale takes tens of steps, not half of a run",
        ),
    )
    consequences = (
        Consequence(
            rule="non-finite",
            when=(Cause.EPSILON_LOST,),
            causes=(Cause.NON_FINITE_UPDATE, Cause.NON_FINITE_LOSS, Cause.NON_FINITE_FORWARD),
            why="0 / 0 in the optimiser makes the weights NaN",
        ),
        Consequence(
            rule="non-finite",
            when=(Cause.STEPS_SKIPPED,),
            delay=-1,
            causes=(Cause.NON_FINITE_BACKWARD,),
            why="the infinite gradients for which the scaler skips",
        ),
        Consequence(
            rule="lr-too-high",
            when=(Cause.EPSILON_LOST,),
            delay=-1,
            why="divided by next to nothing, an update has any size",
        ),
        Consequence(rule="constant-predictor", delay=-1, why="weights that do not move learn nothing"),
        Consequence(rule="lr-too-low", delay=-1, why="what is rounded away does not add up"),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding."""
        state = answer(run)
        if not state.failing:
            return
        for found in (
            self._epsilon_lost(run, state),
            self._skipped(run, state),
            self._rounded(run, state),
            self._throttled(run, state),
        ):
            if found is not None:
                yield found
                return

    def _epsilon_lost(self, run: RunView, state: Answer) -> Finding | None:
        """Non-finite weights out of finite gradients, under bounded steps."""
        event = next(
            (e for e in run.of_kind("non-finite") if e.data.get("stage") == "update"),
            None,
        )
        optimizer = next((o for o in run.optimizers if o.kind in _ADAPTIVE), None)
        earlier = [e for e in run.of_kind("non-finite") if event is not None and e.step < event.step]
        if event is None or earlier or optimizer is None or not optimizer.groups or run.norms is None:
            return None
        eps = _number(optimizer.groups[0].get("eps"))
        size = _largest_gradient(run.norms, event.step)
        # in float32 such a step is bounded by about ten learning rates unless g^2 overflows
        if not eps < _HALF_EPS or not size < 1e18 or not _all_finite(run.norms, event.step):
            return None
        formats, known = _formats(run)
        if formats and "float16" not in formats:
            return None
        return self.found(
            Cause.EPSILON_LOST,
            Severity.ERROR,
            f"{optimizer.kind} makes non-finite weights of finite gradients at step {max(event.step, 0)}: "
            f"its eps of {eps:.3g} is 0 in half precision, and it divides 0 by 0",
            evidence=(
                Evidence(name="eps", value=eps),
                Evidence(name="largest number that float16 rounds to 0", value=_HALF_EPS),
                Evidence(name="largest gradient norm up to then", value=size, unit="norm"),
                *state.evidence,
            ),
            confidence=Confidence.MEASURED if known else Confidence.INFERRED,
            layer=str(event.data.get("where") or ""),
            since_step=max(event.step, 0),
        )

    def _skipped(self, run: RunView, state: Answer) -> Finding | None:
        """A scaler that skips most steps."""
        skipped = run.of_kind("skipped-step")
        scaled = any(len(o.scale) for o in run.optimizers)
        share = len(skipped) / max(run.steps, 1)
        if not scaled or share < self.limit("skipped"):
            return None
        return self.found(
            Cause.STEPS_SKIPPED,
            Severity.ERROR,
            f"the gradient scaler skipped {len(skipped)} of {run.steps} steps",
            evidence=(Evidence(name="share of the steps skipped", value=share), *state.evidence),
            confidence=Confidence.EXACT,
            since_step=max(skipped[0].step, 0),
        )

    def _rounded(self, run: RunView, state: Answer) -> Finding | None:
        """Updates below the spacing of the weights' numbers."""
        if run.norms is None or not len(run.norms.steps):
            return None
        moving = (run.norms.gradient > 0) & (run.norms.weight > 0) & _at_work(run)[:, None]
        shares = np.where(moving, run.norms.swallowed, np.nan)
        shares = shares[np.isfinite(shares)]
        limit = self.limit("swallowed_half" if _formats(run)[0] & _HALF else "swallowed")
        if not len(shares) or float(np.median(shares)) < limit:
            return None
        return self.found(
            Cause.ROUNDED_AWAY,
            Severity.ERROR,
            f"{float(np.median(shares)):.0%} of the weights that have a gradient stay bit for bit the same "
            "in a step",
            evidence=(
                Evidence(name="share of entries left as they were", value=float(np.median(shares))),
                *state.evidence,
            ),
            since_step=int(run.norms.steps[0]),
        )

    def _throttled(self, run: RunView, state: Answer) -> Finding | None:
        """Gradients of whole tensors below the optimiser's eps."""
        optimizer = next((o for o in run.optimizers if o.kind in _ADAPTIVE), None)
        if optimizer is None or not optimizer.groups or run.norms is None or not len(run.norms.steps):
            return None
        eps = _number(optimizer.groups[0].get("eps"))
        gradient = run.norms.gradient
        some = np.isfinite(gradient) & (gradient > 0)
        rows = some.any(axis=1)
        if not rows.any():
            return None
        below = (some & (gradient < eps)).sum(axis=1)[rows] / some.sum(axis=1)[rows]
        share = float(np.median(below))
        if share < self.limit("throttled"):
            return None
        return self.found(
            Cause.EPSILON_THROTTLE,
            Severity.ERROR,
            f"in {share:.0%} of the tensors the whole gradient is below {optimizer.kind}'s eps of {eps:.3g}",
            evidence=(
                Evidence(name="share of tensors with a gradient below eps", value=share),
                Evidence(name="eps", value=eps),
                *state.evidence,
            ),
            since_step=int(run.norms.steps[rows][0]),
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="Adam's eps is 0 in float16",
            build=lambda: _lost(1e-8),
            expect=(Expected(cause=Cause.EPSILON_LOST, severity=Severity.ERROR, layer="fc1", since_step=0),),
        ),
        Case(
            name="bfloat16 weights and tiny steps",
            build=lambda: _sized(flat_loss(), swallowed=0.99),
            expect=(Expected(cause=Cause.ROUNDED_AWAY, severity=Severity.ERROR),),
        ),
        Case(
            name="bfloat16 weights of which two thirds stay where they are",
            build=lambda: _formatted(_sized(flat_loss(), swallowed=0.66), "bfloat16"),
            expect=(Expected(cause=Cause.ROUNDED_AWAY, severity=Severity.ERROR),),
        ),
        Case(
            name="the same share in float32, where rounding is not what takes them",
            build=lambda: _formatted(_sized(flat_loss(), swallowed=0.66), "float32"),
        ),
        Case(
            name="the same share under autocast: the activations are in bfloat16, the weights are not",
            build=lambda: _formatted(_sized(flat_loss(), swallowed=0.66), "bfloat16", weights="float32"),
        ),
        Case(
            name="Adam's eps in float16 weights",
            build=lambda: _formatted(_lost(1e-8), "float16", weights="float16"),
            expect=(Expected(cause=Cause.EPSILON_LOST, severity=Severity.ERROR, layer="fc1", since_step=0),),
        ),
        Case(name="the same while it learns", build=lambda: _sized(falling_loss(), swallowed=0.99)),
        Case(
            name="gradients below eps",
            build=lambda: stepped(_sized(flat_loss(), gradient=1e-11), "Adam", eps=1e-8),
            expect=(Expected(cause=Cause.EPSILON_THROTTLE, severity=Severity.ERROR),),
        ),
        Case(
            name="the scaler skips every step",
            build=lambda: run_of(
                Plan(path="fc1"),
                loss=flat_loss(),
                scale=np.full(200, 1.0),
                events=tuple(Event(step=i, kind="skipped-step", data={}) for i in range(200)),
            ),
            expect=(Expected(cause=Cause.STEPS_SKIPPED, severity=Severity.ERROR, since_step=0),),
        ),
        Case(
            name="nothing is lost where a schedule has brought the learning rate to zero",
            build=lambda: _ended(_sized(falling_loss(end=1.5), swallowed=1.0), after=80),
        ),
        Case(name="updates arrive", build=lambda: _sized(falling_loss(), swallowed=0.05)),
    )


def _sized(
    loss: np.ndarray[tuple[int], np.dtype[np.float64]], gradient: float = 1.0, swallowed: float = 0.0
) -> RunView:
    """A run with such gradients and such a share of swallowed entries."""
    sizes = {"fc1.weight": (1.0, 1e-3), "head.weight": (1.0, 1e-3)}
    norms = sizes_of(sizes, gradient=gradient, swallowed=swallowed)
    return replace(run_of(Plan(path="fc1"), loss=loss), norms=norms)


def _formatted(run: RunView, dtype: str, weights: str = "") -> RunView:
    """The same run with activations in that format; that of the weights is not known unless given."""
    dtypes = (weights,) * 2 if weights else ()
    return replace(
        run,
        wirings=tuple(replace(w, dtype=dtype) for w in run.wirings),
        layers=tuple(replace(layer, dtypes=dtypes) for layer in run.layers),
    )


def _lost(eps: float) -> RunView:
    """Finite gradients and a non-finite weight after the first step of Adam."""
    data = {"stage": "update", "where": "fc1", "operation": "", "step": 0}
    run = _sized(broken_loss(at=1))
    return stepped(replace(run, events=(Event(step=0, kind="non-finite", data=data),)), "Adam", eps=eps)


def _all_finite(norms: Norms, step: int) -> bool:
    """Whether the gradient of every tensor was finite up to that step; one whose size is known has one."""
    rows = norms.steps <= max(step, 0)
    read = np.isfinite(norms.weight[rows])
    return not bool((read & ~np.isfinite(norms.gradient[rows])).any())


def _formats(run: RunView) -> tuple[set[str], bool]:
    """Formats of the parameters, and True; of the activations, and False, where those are not known."""
    known = {dtype for layer in run.layers for dtype in layer.dtypes}
    return (known, True) if known else ({w.dtype for w in run.wirings} - {""}, False)


def _number(value: object) -> float:
    """A setting as a number; NaN if it is none."""
    return float(value) if isinstance(value, int | float) else float("nan")


def _largest_gradient(norms: Norms, step: int) -> float:
    """Largest gradient norm read up to that step; infinite if it was not finite, NaN if none was read."""
    rows = norms.steps <= max(step, 0)
    values = norms.gradient[rows]
    values = values[~np.isnan(values)]
    return float(values.max()) if len(values) else float("nan")


def _at_work(run: RunView) -> NDArray[np.bool_]:
    """Sampled steps, shape (R,), on which some optimiser had a learning rate: with none nothing is lost."""
    assert run.norms is not None
    working = np.zeros(len(run.norms.steps), bool)
    for optimizer in run.optimizers:
        place = np.searchsorted(optimizer.lr.steps, run.norms.steps, side="right") - 1
        known = place >= 0
        rate = optimizer.lr.values[np.maximum(place, 0)] if len(optimizer.lr) else np.ones(len(place))
        working |= ~known | (rate > 0)
    return working


def _ended(run: RunView, after: int) -> RunView:
    """The same run, its learning rate zero after so many steps, and updates arriving before."""
    assert run.norms is not None
    early = (run.norms.steps < after)[:, None]
    norms = replace(run.norms, swallowed=np.where(early, 0.05, run.norms.swallowed))
    still = tuple(
        replace(o, lr=Series(steps=o.loss.steps, values=np.where(o.loss.steps < after, 0.1, 0.0)))
        for o in run.optimizers
    )
    return replace(run, optimizers=still, norms=norms)
