"""Clones are found however few readings there are, and whatever the first of them shows."""

from dataclasses import replace

import numpy as np

from defib.core.reading import Reading
from defib.core.run import RunView
from defib.core.site import Signal
from defib.diagnosis.case_weights import alike_in_one_layer
from defib.diagnosis.cases import falling_loss
from defib.diagnosis.measures.clones import cloned
from defib.diagnosis.measures.wires import Wires


def _clone_layers(run: RunView) -> list[str]:
    wires = Wires(run)
    return [w.site.path for w in run.wirings if cloned(run, w, wires)]


def _shown_by(run: RunView, number: int) -> RunView:
    """The same run, with each signal's readings merged into ``number`` windows."""
    kept: list[Reading] = []
    for site in {r.site for r in run.readings}:
        for signal in Signal:
            readings = run.at(site, signal)
            for part in np.array_split(np.arange(len(readings)), number):
                window = [readings[i] for i in part]
                if window:
                    tally = window[0].tally
                    for other in window[1:]:
                        tally = tally.merge(other.tally)
                    kept.append(replace(window[0], last=window[-1].last, tally=tally))
    return replace(run, readings=tuple(kept))


def test_two_readings_that_were_merged_over_several_steps_are_enough() -> None:
    run = alike_in_one_layer(falling_loss())
    assert _clone_layers(run) == ["fc1"]
    assert _clone_layers(_shown_by(run, 2)) == ["fc1"]


def test_a_single_sampled_step_is_not_enough() -> None:
    run = alike_in_one_layer(falling_loss())
    last = max(r.first for r in run.readings)
    assert _clone_layers(replace(run, readings=tuple(r for r in run.readings if r.first == last))) == []


def test_a_largest_value_of_zero_is_one_number_too() -> None:
    run = alike_in_one_layer(falling_loss())
    flat = tuple(
        replace(r, tally=replace(r.tally, high=np.zeros(r.tally.units), low=-np.ones(r.tally.units)))
        for r in run.readings
    )
    assert "fc1" in _clone_layers(replace(run, readings=flat))
