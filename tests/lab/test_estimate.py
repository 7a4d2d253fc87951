"""Estimates and regions: what numbers may say about a claim."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defib.lab.estimate import (
    CONFIDENCE,
    Region,
    Verdict,
    at_least,
    at_most,
    between,
    exact,
    grouped_share,
    joined,
    mean,
    median,
    near,
    paired_difference,
    share,
)


def test_an_interval_inside_confirms_one_outside_refutes_one_across_leaves_open():
    estimate = mean([1.0, 1.1, 0.9, 1.0, 1.05, 0.95])
    assert at_least(0.5).judge(estimate) == Verdict.TRUE
    assert at_most(0.5).judge(estimate) == Verdict.FALSE
    assert at_least(1.0).judge(estimate) == Verdict.UNDECIDED
    assert near(1.0, 0.5).judge(estimate) == Verdict.TRUE


def test_not_a_number_decides_nothing():
    assert at_least(0.0).judge(exact(math.nan)) == Verdict.UNDECIDED
    assert at_least(0.0).judge(mean([1.0, math.nan])) == Verdict.UNDECIDED
    assert at_least(0.0).judge(mean([1.0])) == Verdict.UNDECIDED


def test_the_ends_of_a_region_belong_to_it():
    assert at_most(0.0).judge(exact(0.0)) == Verdict.TRUE
    assert between(1.0, 2.0).judge(exact(2.0)) == Verdict.TRUE


@pytest.mark.parametrize(
    ("make", "truth"),
    [
        (lambda rng: mean(rng.normal(3.0, 2.0, 25)), 3.0),
        (lambda rng: median(rng.exponential(1.0, 41)), math.log(2)),
        (lambda rng: share(rng.binomial(60, 0.3), 60), 0.3),
        (lambda rng: paired_difference(rng.normal(1, 1, 30), rng.normal(0, 1, 30)), 1.0),
    ],
    ids=["mean", "median", "share", "paired"],
)
def test_an_interval_covers_the_truth_as_often_as_it_says(make, truth):
    rng = np.random.default_rng(0)
    estimates = [make(rng) for _ in range(2000)]
    covered = sum(e.low <= truth <= e.high for e in estimates)
    assert covered >= 2000 * CONFIDENCE - 4 * math.sqrt(2000 * CONFIDENCE * (1 - CONFIDENCE))
    assert all(e.low <= e.value <= e.high for e in estimates)


def test_a_median_of_too_few_numbers_has_no_bounds():
    estimate = median([1.0, 2.0, 3.0])
    assert (estimate.low, estimate.high) == (-math.inf, math.inf)


def test_a_median_of_runs_that_never_ended_is_infinite():
    assert median([math.inf] * 20).value == math.inf


def test_parts_join_to_a_verdict():
    yes, no, open_ = Verdict.TRUE, Verdict.FALSE, Verdict.UNDECIDED
    assert joined([yes, yes]) == yes
    assert joined([no, no]) == no
    assert joined([yes, no]) == Verdict.PARTLY
    assert joined([yes, open_]) == open_
    assert joined([no, open_]) == open_
    assert joined([yes, no, open_]) == Verdict.PARTLY, "what is open cannot make it true or false"
    assert joined([Verdict.PARTLY, open_]) == Verdict.PARTLY
    assert joined([]) == open_


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0.001, 1e6))
def test_a_region_and_its_complement_never_both_hold(border, value, half):
    from dataclasses import replace

    estimate = replace(exact(value), low=value - half, high=value + half)
    below, above = Region(high=border).judge(estimate), Region(low=border).judge(estimate)
    assert not (below == above == Verdict.FALSE)
    assert not (below == above == Verdict.TRUE)


def grouped(rng, groups: int) -> list[np.ndarray]:
    """Hits among ten things of each group; groups differ in their rate, which is 0.4 on average."""
    return [rng.binomial(10, rng.beta(2, 3, groups)), np.full(groups, 10)]


def test_things_of_one_group_are_not_repetitions():
    rng = np.random.default_rng(0)
    draws = [grouped(rng, 40) for _ in range(1000)]

    def covered(estimates):
        return sum(e.low <= 0.4 <= e.high for e in estimates)

    least = 1000 * CONFIDENCE - 4 * math.sqrt(1000 * CONFIDENCE * (1 - CONFIDENCE))
    assert covered(grouped_share(*draw) for draw in draws) >= least
    assert covered(share(int(h.sum()), int(n.sum())) for h, n in draws) < least


def test_groups_that_agree_leave_room_for_chance_and_a_single_one_decides_nothing():
    agreed = grouped_share([0, 0, 0], [10, 10, 10])
    assert (agreed.value, agreed.low, agreed.high, agreed.n) == (0.0, 0.0, share(0, 30).high, 3)
    assert at_most(0.9).judge(grouped_share([0], [1000])) == Verdict.UNDECIDED
    assert at_most(0.9).judge(grouped_share([0, 0], [0, 0])) == Verdict.UNDECIDED
