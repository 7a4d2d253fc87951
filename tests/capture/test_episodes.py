"""Silences that units come back from are counted exactly, however the steps are cut into stretches."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from defib.capture.liveness import UnitState
from defib.core.reading import EPISODE_STEPS, LENGTHS


def slowly(alive):
    """The same counts from one unit's steps, the obvious way."""
    returns, silent, lengths, quiet = 0, 0, np.zeros(LENGTHS, int), 0
    for one in alive:
        if one and quiet >= EPISODE_STEPS:
            returns += 1
            silent += quiet
            lengths[quiet.bit_length() - 1] += 1
        quiet = 0 if one else quiet + 1
    return returns, silent, lengths


@st.composite
def histories(draw):
    """Steps by units, made of long runs, and where to cut them."""
    units = []
    for _ in range(draw(st.integers(1, 4))):
        runs = draw(st.lists(st.integers(1, 25), min_size=1, max_size=8))
        units.append(np.repeat(np.arange(len(runs)) % 2 == draw(st.integers(0, 1)), runs))
    steps = min(map(len, units))
    cuts = draw(st.lists(st.integers(1, 30), min_size=1, max_size=10))
    return np.stack([unit[:steps] for unit in units], axis=1), cuts


@given(history=histories())
@settings(max_examples=300, deadline=None)
def test_returns_are_counted_however_the_steps_are_cut(history):
    alive, cuts = history
    state, at = UnitState.unborn(alive.shape[1]), 0
    while at < len(alive):
        rows = alive[at : at + cuts[at % len(cuts)]]
        state.see(rows, at, np.ones(len(rows), bool))
        at += len(rows)
    expected = [slowly(unit) for unit in alive.T]
    assert state.episodes.returns.tolist() == [returns for returns, _, _ in expected]
    assert state.episodes.silent.tolist() == [silent for _, silent, _ in expected]
    assert state.episodes.lengths.tolist() == sum(lengths for _, _, lengths in expected).tolist()


def test_steps_without_a_gradient_are_unknown_and_no_silence():
    state = UnitState.unborn(1)
    known = np.arange(40) % 4 == 0
    alive = np.zeros((40, 1), bool)
    alive[[0, 36]] = True
    for start in range(0, 40, 10):
        state.see(alive[start : start + 10], start, known[start : start + 10])
    assert state.episodes.returns.tolist() == [1]
    assert state.episodes.silent.tolist() == [8], "of 35 steps in between, 8 had a gradient"
