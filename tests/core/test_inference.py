"""Intervals and trends against references that were computed another way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from defib.core.inference import (
    block_medians,
    chance_of_silence,
    change_point,
    clopper_pearson,
    falling,
    noise,
    rate_bound,
)


@given(st.integers(1, 10**7))
def test_the_bound_of_a_rate_never_seen_is_the_exact_rule_of_three(trials: int) -> None:
    assert rate_bound(trials) == pytest.approx(1 - 0.05 ** (1 / trials), rel=1e-6)
    assert rate_bound(trials) <= 3 / trials


def test_no_trials_bound_nothing() -> None:
    assert rate_bound(0) == 1.0
    assert clopper_pearson(0, 0).high == 1.0


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (1, 10), (5, 10), (10, 10), (3, 1000)])
def test_clopper_pearson_equals_scipy(hits: int, trials: int) -> None:
    truth = stats.binomtest(hits, trials).proportion_ci(method="exact")
    ours = clopper_pearson(hits, trials)
    assert (ours.low, ours.high) == pytest.approx((truth.low, truth.high), abs=1e-12)


def test_silence_is_likely_for_rare_units_and_impossible_for_busy_ones() -> None:
    active, seen, silent = np.array([100.0, 1.0, 0.0]), np.array([100.0, 100.0, 0.0]), np.full(3, 50.0)
    busy, rare, unknown = chance_of_silence(active, seen, silent)
    assert busy < 1e-50
    assert rare == pytest.approx((1 - 1 / 101) ** 50)
    assert unknown == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_mann_kendall_equals_kendalls_tau_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 12, 30) - 0.2 * np.arange(30)
    truth = stats.kendalltau(np.arange(30), values, alternative="less", method="asymptotic").pvalue
    assert falling(values) == pytest.approx(truth, rel=0.3, abs=2e-3)


def test_a_constant_and_a_rise_do_not_fall() -> None:
    assert falling(np.ones(30)) == 1.0
    assert falling(np.arange(30.0)) == 1.0
    assert falling(-np.arange(30.0)) < 1e-9


def test_a_jump_is_found_where_it_is() -> None:
    rng = np.random.default_rng(0)
    place, chance = change_point(np.r_[rng.normal(0, 1, 60), rng.normal(4, 1, 40)])
    assert abs(place - 60) <= 2
    assert chance < 1e-6
    assert change_point(rng.normal(0, 1, 100))[1] > 0.05


def test_noise_is_blind_to_a_trend() -> None:
    rng = np.random.default_rng(1)
    values = 0.01 * np.arange(2000) + rng.normal(0, 0.5, 2000)
    assert noise(values) == pytest.approx(0.5, rel=0.1)


def test_block_medians_leave_out_what_is_not_finite() -> None:
    assert block_medians(np.array([1.0, np.nan, 3.0, 3.0, np.nan, np.nan]), 3).tolist() == [1.0, 3.0]
