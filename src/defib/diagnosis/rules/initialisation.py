"""The weights that training began with make learning impossible, or all units alike.

## What it measures

The norm of every layer's weights before the first step, per unit, against the norm that keeps a
signal level under the layer's activation; the product of these along the depth, each use of a
recurrent layer counted, beside the growth of signal and gradient that was read there; and whether all
units of a hidden layer give the same numbers on every sample read.

## Why it hurts

Weights a hundred times too small shrink signal and gradient by that factor in every layer; weights
as much too large saturate the units or multiply the signal until it overflows. Units that begin
alike get the same gradient and stay alike for ever: the layer is one unit wide. A hidden layer of
zeros in front of another one of zeros gets no gradient at all.

## Causes

- `zero-weights`: a hidden layer began with all weights zero.
- `cloned-units`: all units of a hidden layer compute the same: every weight began with the same
  value, so that nothing tells the units apart.
- `weights-too-small`: the first weights are several times too small in the layers' median, so that
  the signal is lost along the depth.
- `weights-too-large`: the first weights of a layer are many times too large, so that the signal
  overflows or saturates the units; or those of several layers (of several uses of one) are each a few
  times too large, and together they multiply the signal a hundredfold, which the readings confirm; or
  the first answers of a classifier cost several times what the best constant does, on inputs of ordinary
  size, and a good part of the run went into taking them back, while a bounded layer is saturated from the
  start or a layer's first weights are unusually large.

## Prognosis

Symmetry is never broken by a deterministic gradient: 1 distinct unit of 16 is left after 500 steps
of Adam. Noise (dropout) may break it slowly. Weights that are too small grow, if at all, over many
epochs.

## Example

A network with one hidden layer of 100 sigmoid units begins with all weights zero. After 280 steps all
100 units still give the same number for every sample, and the accuracy stays at a quarter. The
finding says that they are clones of one unit.

## False alarms

An output layer that begins with zeros is healthy; so is the last layer of a residual branch. A run
that learns is not blamed for the size of its first weights, unless its loss is still twice what a
constant answer costs, or a hundredfold growth was read and after a hundred steps it has hardly beaten
that constant. Published initialisations lie within a
factor of 3 of the level one, PyTorch's default for linear layers (0.41 for a ReLU) included.

## References

- Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks (2010).
- He, Zhang, Ren, Sun: Delving Deep into Rectifiers (2015).
- Goodfellow, Bengio, Courville: Deep Learning (2016), section 8.4: the initial parameters must break
  symmetry.
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from defib.core.cause import Cause, Fault
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import RunView
from defib.diagnosis.case_weights import alike_in_one_layer, begun, multiplying
from defib.diagnosis.cases import falling_loss, flat_loss
from defib.diagnosis.measures.answer import Answer, answer
from defib.diagnosis.measures.clones import cloned
from defib.diagnosis.measures.first_answers import MOSTLY, first_answers, flattest, large_inputs
from defib.diagnosis.measures.gains import Gain, first_gains, first_growth, growth
from defib.diagnosis.measures.ledger import is_recurrence, main_path
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Rule, harms

_FEWEST_SPENT = 100
"""Steps; fewer than that are a warm-up."""


class Initialisation(Rule):
    """First weights that make learning impossible."""

    slug = "initialisation"
    fault = Fault.BAD_INIT
    title = "the first weights are zero, all alike, or of the wrong size"
    rank = 20
    causes = (
        Cause.ZERO_WEIGHTS,
        Cause.CLONED_UNITS,
        Cause.WEIGHTS_TOO_SMALL,
        Cause.WEIGHTS_TOO_LARGE,
    )
    limits = (
        Limit(
            name="too_small",
            default=0.25,
            unit="1",
            meaning="first norm over the level one, in the median of the hidden layers",
            reason="published initialisations lie within a factor of 3; PyTorch's own default for a linear "
            "layer in front of a ReLU is 0.41",
        ),
        Limit(
            name="too_large",
            default=10.0,
            unit="1",
            meaning="first norm over the level one, in any layer",
            reason="three times as far off as any published initialisation: pre-activations of ten "
            "standard deviations saturate nearly every bounded unit",
        ),
        Limit(
            name="decades",
            default=2.0,
            unit="decades",
            meaning="loss of signal over all hidden layers at which small weights are blamed, and its "
            "growth at which large ones are",
            reason="a hundredth of the signal and a hundredth of the gradient make the update of the first "
            "layers a ten-thousandth of the last one's; a hundredfold signal makes answers of a hundred "
            "where the loss asks for one",
        ),
        Limit(
            name="first_loss",
            default=3.0,
            unit="1",
            meaning="first loss of a classifier over that of the best constant",
            reason="published initialisations begin within a tenth of it; three times as much is what an "
            "answer costs that gives the right class the cube of the share it has in the data",
        ),
        Limit(
            name="unusual",
            default=3.0,
            unit="1",
            meaning="first norm over the level one of a hidden layer, to go with first answers that cost so "
            "much",
            reason="published initialisations lie within a factor of 3; a bounded layer that is saturated "
            "from the start will do as well",
        ),
        Limit(
            name="spent",
            default=0.1,
            unit="1",
            meaning="share of the run, and a hundred steps, until the loss was below the best constant's",
            reason="a tenth of the run spent on unlearning what was drawn is learning later than it could",
        ),
        Limit(
            name="exploding",
            default=3.0,
            unit="decades",
            meaning="growth from which on it is not told here",
            reason="from there on `exploding-gradient` tells it, whether weights or activations do it",
        ),
    )
    consequences = (
        Consequence(
            rule="zero-gradient",
            causes=(Cause.BLOCKED, Cause.DEAD_LAYER),
            harmful=True,
            delay=-1,
            why="weights of zero or dead units pass nothing back",
        ),
        *harms(
            ("vanishing-gradient", "small first weights shrink the gradient in every layer"),
            ("exploding-gradient", "large first weights multiply signal and gradient"),
            ("saturated-unit", "large first weights make large pre-activations"),
            ("dead-unit", "units that hardly get a signal, or all the same, are off together"),
            ("constant-predictor", "a signal that is lost or the same in all units tells nothing apart"),
            ("lr-too-high", "against weights this small any step is large; large ones need small steps"),
            ("lr-too-low", "hardly any gradient reaches the weights"),
            ("update-lost", "gradients this small are below the optimiser's eps"),
        ),
        Consequence(
            rule="non-finite",
            when=(Cause.WEIGHTS_TOO_LARGE,),
            causes=(
                Cause.NON_FINITE_FORWARD,
                Cause.NON_FINITE_LOSS,
                Cause.NON_FINITE_BACKWARD,
                Cause.NON_FINITE_UPDATE,
            ),
            harmful=True,
            delay=-1,
            why="a signal that is multiplied in every layer overflows",
        ),
    )

    def check(self, run: RunView) -> Iterable[Finding]:
        """At most one finding: clones before zeros before sizes."""
        wires = Wires(run)
        state = answer(run)
        gains = first_gains(run, wires)
        for found in (
            self._clones(run, wires, gains, state),
            self._zeros(gains, state),
            self._small(run, gains, state),
            self._large(gains, state),
            self._grown(run, wires, gains, state),
            self._confident(run, gains, state),
        ):
            if found is not None:
                yield found
                return

    def _clones(self, run: RunView, wires: Wires, gains: tuple[Gain, ...], state: Answer) -> Finding | None:
        """The first hidden layer all units of which give the same numbers."""
        wiring = next((w for w in run.wirings if cloned(run, w, wires)), None)
        if wiring is None:
            return None
        gain = next((g for g in gains if g.path in (wiring.site.path, *wiring.modules)), None)
        evidence = [Evidence(name="different units of the layer", value=1, unit="units")]
        if gain is not None:
            evidence.append(Evidence(name="norm of a unit's first weights", value=gain.norm, unit="norm"))
        return self.found(
            Cause.CLONED_UNITS,
            Severity.ERROR if state.failing else Severity.WARNING,
            f"all {wiring.units} units of {wiring.site} give the same numbers: the layer is one unit wide",
            evidence=(*evidence, *state.evidence),
            layer=wiring.site.path,
            since_step=0,
        )

    def _zeros(self, gains: tuple[Gain, ...], state: Answer) -> Finding | None:
        """A hidden layer of zeros in a run that fails."""
        zero = [g for g in gains if g.hidden and g.norm == 0]
        if not zero or not state.failing:
            return None
        return self.found(
            Cause.ZERO_WEIGHTS,
            Severity.ERROR,
            f"all weights of {zero[0].path or 'the first layer'} were zero before the first step",
            evidence=(
                Evidence(name="hidden layers that began with zeros", value=len(zero), unit="layers"),
                *state.evidence,
            ),
            confidence=Confidence.EXACT,
            layer=zero[0].path,
            since_step=0,
        )

    def _small(self, run: RunView, gains: tuple[Gain, ...], state: Answer) -> Finding | None:
        """Small weights in a chain of plain layers that does not learn."""
        chain = [g for g in gains if g.hidden and g.norm > 0]
        around = any(w.skips or w.normalised for w in run.wirings)
        around |= any("Norm" in layer.kind for layer in run.layers)
        if not chain or around or not state.failing:
            return None
        typical = float(np.median([g.factor for g in chain]))
        lost = -float(np.sum(np.log10([g.factor for g in chain])))
        if typical > self.limit("too_small") or lost < self.limit("decades"):
            return None
        return self.found(
            Cause.WEIGHTS_TOO_SMALL,
            Severity.ERROR,
            f"the first weights are {1 / typical:.3g} times too small in the median of {len(chain)} hidden "
            f"layers: {lost:.1f} decades of the signal are lost",
            evidence=(
                Evidence(name="first norm over the level one, median", value=typical),
                Evidence(name="signal lost along the depth", value=lost, unit="decades"),
                *state.evidence,
            ),
            layer=chain[0].path,
            since_step=0,
        )

    def _large(self, gains: tuple[Gain, ...], state: Answer) -> Finding | None:
        """Weights many times too large in a run that fails."""
        large = [g for g in gains if g.factor >= self.limit("too_large") and not g.normalised]
        if not large or not (state.failing or state.far_off):
            return None
        worst = max(large, key=lambda g: g.factor)
        return self.found(
            Cause.WEIGHTS_TOO_LARGE,
            Severity.ERROR if state.failing else Severity.WARNING,
            f"the first weights of {worst.path or 'the model'} are {worst.factor:.3g} times as large as "
            "keeps a signal level",
            evidence=(
                Evidence(name="first norm over the level one", value=worst.factor),
                Evidence(name="norm of a unit's first weights", value=worst.norm, unit="norm"),
                *state.evidence,
            ),
            layer=worst.path,
            since_step=0,
        )

    def _grown(self, run: RunView, wires: Wires, gains: tuple[Gain, ...], state: Answer) -> Finding | None:
        """Weights that together multiply the signal along the depth, in a run that gets nowhere."""
        path = main_path(run, wires)
        if is_recurrence(path):
            return None  # the same weights again and again: exploding-gradient says it
        expected, read = growth(gains, path), first_growth(run, path)
        least = self.limit("decades")
        if not (state.failing or state.late) or not (expected >= least and read >= least):
            return None
        if read >= self.limit("exploding"):
            return None  # exploding-gradient says it, with what the activations add
        links = len(path) - 1
        return self.found(
            Cause.WEIGHTS_TOO_LARGE,
            Severity.ERROR if state.failing else Severity.WARNING,
            f"the first weights are {10 ** (expected / links):.3g} times as large as keeps a signal level, "
            f"{links} times over: it grows by {read:.1f} decades from {path[0].site} to {path[-1].site}",
            evidence=(
                Evidence(name="growth that follows from the first weights", value=expected, unit="decades"),
                Evidence(name="growth of signal or gradient, first reading", value=read, unit="decades"),
                Evidence(name="hidden activations on the way", value=len(path), unit="uses"),
                *state.evidence,
            ),
            layer=path[1].site.path,
            since_step=0,
        )

    def _confident(self, run: RunView, gains: tuple[Gain, ...], state: Answer) -> Finding | None:
        """First answers that are wrong with confidence, and that it took long to take back."""
        began = first_answers(run, state)
        if began is None or began.ratio < self.limit("first_loss") or large_inputs(run):
            return None
        if began.spent < max(_FEWEST_SPENT, self.limit("spent") * began.steps):
            return None
        flat = flattest(run)
        flat = flat if flat is not None and flat[1] >= MOSTLY else None
        large = [g for g in gains if g.hidden and not g.normalised and g.factor >= self.limit("unusual")]
        if flat is None and not large:
            return None  # first answers alone may be meant so: embeddings that are the output's weights
        saturated = (Evidence(name="first activations that are saturated", value=flat[1]),) if flat else ()
        where = flat[0].site.path if flat else large[0].path
        return self.found(
            Cause.WEIGHTS_TOO_LARGE,
            Severity.ERROR if state.failing else Severity.WARNING,
            f"the first answers cost {began.ratio:.3g} times what the best constant does, and {began.spent} "
            f"of {began.steps} steps went into taking them back: the first weights are too large"
            + (f"; {flat[1]:.0%} of what {where} gives was saturated from the start" if flat else ""),
            evidence=(
                *began.evidence,
                *saturated,
                *(Evidence(name="first norm over the level one", value=g.factor) for g in large[:1]),
                *state.evidence,
            ),
            confidence=Confidence.INFERRED,
            layer=where,
            since_step=0,
        )

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a hidden layer of zeros",
            build=lambda: begun(flat_loss(), fc1=0.0),
            expect=(Expected(cause=Cause.ZERO_WEIGHTS, severity=Severity.ERROR, layer="fc1", since_step=0),),
        ),
        Case(
            name="all units alike",
            build=lambda: alike_in_one_layer(flat_loss()),
            expect=(Expected(cause=Cause.CLONED_UNITS, severity=Severity.ERROR, layer="fc1"),),
        ),
        Case(
            name="all units alike in a network that learns what one unit can",
            build=lambda: alike_in_one_layer(falling_loss()),
            expect=(Expected(cause=Cause.CLONED_UNITS, severity=Severity.WARNING),),
        ),
        Case(
            name="three layers of weights thirty times too small",
            build=lambda: begun(flat_loss(), fc1=0.05, fc2=0.05, fc3=0.05),
            expect=(Expected(cause=Cause.WEIGHTS_TOO_SMALL, severity=Severity.ERROR, layer="fc1"),),
        ),
        Case(
            name="weights thirty times too large",
            build=lambda: begun(flat_loss(), fc2=42.0),
            expect=(Expected(cause=Cause.WEIGHTS_TOO_LARGE, severity=Severity.ERROR, layer="fc2"),),
        ),
        Case(name="the same in a network that learns", build=lambda: begun(falling_loss(), fc2=42.0)),
        Case(
            name="weights five times too large in each of four layers",
            build=lambda: multiplying(flat_loss(), 5.0),
            expect=(Expected(cause=Cause.WEIGHTS_TOO_LARGE, severity=Severity.ERROR, layer="fc1"),),
        ),
        Case(name="the same in a run that learns", build=lambda: multiplying(falling_loss(), 5.0)),
        Case(
            name="first answers that are wrong with confidence",
            build=lambda: begun(falling_loss(400, start=20.0), fc1=6.0),
            expect=(Expected(cause=Cause.WEIGHTS_TOO_LARGE, severity=Severity.WARNING, since_step=0),),
        ),
        Case(
            name="first answers that cost as much and are taken back at once",
            build=lambda: begun(np.concatenate([[20.0, 12.0, 6.0], falling_loss(400)]), fc1=6.0),
        ),
        Case(
            name="large first answers of weights of the usual size",
            build=lambda: begun(falling_loss(400, start=20.0)),
        ),
        Case(name="zeros in the output layer", build=lambda: begun(falling_loss(), head=0.0)),
        Case(name="weights as PyTorch draws them", build=lambda: begun(falling_loss(), fc1=0.577)),
    )
