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
  times too large, and together they multiply the signal a hundredfold, which the readings confirm.

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
from dataclasses import replace
from typing import ClassVar

import numpy as np

from defib.core.finding import Cause, Confidence, Evidence, Fault, Finding, Severity
from defib.core.run import Reading, RunView, Wiring
from defib.core.site import Signal
from defib.core.tally import Tally
from defib.diagnosis.case_parts import CLASSES, objective_of, sizes_of
from defib.diagnosis.cases import Plan, falling_loss, flat_loss, run_of
from defib.diagnosis.measures.answer import Answer, answer
from defib.diagnosis.measures.gains import Gain, first_gains, first_growth, growth
from defib.diagnosis.measures.ledger import main_path
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.rule import Case, Consequence, Expected, Limit, Rule, harms

_FEWEST_SAMPLES = 16
"""Two different units agree on a sample's sign by chance; on a mean to a thousandth they do not."""


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
        ):
            if found is not None:
                yield found
                return

    def _clones(self, run: RunView, wires: Wires, gains: tuple[Gain, ...], state: Answer) -> Finding | None:
        """The first hidden layer all units of which give the same numbers."""
        wiring = next((w for w in run.wirings if _cloned(run, w, wires)), None)
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

    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a hidden layer of zeros",
            build=lambda: _begun(flat_loss(), fc1=0.0),
            expect=(Expected(cause=Cause.ZERO_WEIGHTS, severity=Severity.ERROR, layer="fc1", since_step=0),),
        ),
        Case(
            name="all units alike",
            build=lambda: _alike(flat_loss()),
            expect=(Expected(cause=Cause.CLONED_UNITS, severity=Severity.ERROR, layer="fc1"),),
        ),
        Case(
            name="all units alike in a network that learns what one unit can",
            build=lambda: _alike(falling_loss()),
            expect=(Expected(cause=Cause.CLONED_UNITS, severity=Severity.WARNING),),
        ),
        Case(
            name="three layers of weights thirty times too small",
            build=lambda: _begun(flat_loss(), fc1=0.05, fc2=0.05, fc3=0.05),
            expect=(Expected(cause=Cause.WEIGHTS_TOO_SMALL, severity=Severity.ERROR, layer="fc1"),),
        ),
        Case(
            name="weights thirty times too large",
            build=lambda: _begun(flat_loss(), fc2=42.0),
            expect=(Expected(cause=Cause.WEIGHTS_TOO_LARGE, severity=Severity.ERROR, layer="fc2"),),
        ),
        Case(name="the same in a network that learns", build=lambda: _begun(falling_loss(), fc2=42.0)),
        Case(
            name="weights five times too large in each of four layers",
            build=lambda: multiplying(flat_loss(), 5.0),
            expect=(Expected(cause=Cause.WEIGHTS_TOO_LARGE, severity=Severity.ERROR, layer="fc1"),),
        ),
        Case(name="the same in a run that learns", build=lambda: multiplying(falling_loss(), 5.0)),
        Case(name="zeros in the output layer", build=lambda: _begun(falling_loss(), head=0.0)),
        Case(name="weights as PyTorch draws them", build=lambda: _begun(falling_loss(), fc1=0.577)),
    )


def _begun(loss: np.ndarray[tuple[int], np.dtype[np.float64]], **norms: float) -> RunView:
    """Three hidden layers and a head whose units' first weights have those norms; level ones unless said."""
    plans = [Plan(path=f"fc{i}") for i in (1, 2, 3)]
    units = {"fc1": 8, "fc2": 8, "fc3": 8, "head": 10}
    sizes = {f"{path}.weight": (norms.get(path, 1.414) * width**0.5, 0.001) for path, width in units.items()}
    run = run_of(*plans, loss=loss, norms=sizes_of(sizes))
    return replace(run, objective=objective_of(CLASSES))


def multiplying(
    loss: np.ndarray[tuple[int], np.dtype[np.float64]], factor: float, growth: float = 5.0
) -> RunView:
    """Four hidden layers whose first weights are that many times level ones, and what their signal does."""
    plans = [Plan(path=f"fc{i}", forward=(growth**i, growth**i)) for i in range(4)]
    sizes = {f"fc{i}.weight": (factor * 4.0, 0.2) for i in range(4)}  # 4: level for 8 units behind ReLUs
    run = run_of(*plans, loss=loss, norms=sizes_of({**sizes, "head.weight": (1.0, 0.01)}))
    return replace(run, objective=objective_of(CLASSES))


def _alike(loss: np.ndarray[tuple[int], np.dtype[np.float64]]) -> RunView:
    """Two layers; in the first, all units give the same numbers."""
    run = _begun(loss)
    return replace(run, readings=tuple(_alike_in(r, "fc1") for r in run.readings))


def _alike_in(reading: Reading, path: str) -> Reading:
    """The same reading, with one sum for all units if it is of that layer."""
    if reading.site.path != path:
        return reading
    return replace(reading, tally=replace(reading.tally, total=np.ones(reading.tally.units)))


def _cloned(run: RunView, wiring: Wiring, wires: Wires) -> bool:
    """Whether all units of a hidden layer gave the same numbers on every late reading."""
    if wiring.units < 2 or wiring.output or wires.is_output(wiring):
        return False
    readings = [r.tally for r in run.at(wiring.site, Signal.PREACTIVATION)]
    late = [t for t in readings[len(readings) // 2 :] if t.units == wiring.units and t.finite.all()]
    if len(late) < 2 or sum(t.samples for t in late) < _FEWEST_SAMPLES:
        return False
    return all(_all_alike(t) for t in late) and any(bool((t.high > t.low).any()) for t in late)


def _all_alike(tally: Tally) -> bool:
    """Whether all units have the same numbers, give or take the float32 rounding of their sums."""
    size = float(np.sqrt(np.max(tally.squares * tally.finite)))
    return (
        _same(tally.total, size)
        and _same(tally.squares, float(np.max(tally.squares)))
        and _same(tally.low, float(np.max(np.abs(tally.low))))
        and _same(tally.high, float(np.max(np.abs(tally.high))))
    )


def _same(values: np.ndarray[tuple[int], np.dtype[np.float64]], size: float) -> bool:
    """Whether all units have that number, measured against ``size``."""
    return size > 0 and float(np.ptp(values)) <= 1e-3 * size
