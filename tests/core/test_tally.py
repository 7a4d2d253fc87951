"""Tallies are a commutative monoid: how the samples are split and ordered does not matter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from defib.core.tally import Tally

U = 3
entries = st.one_of(st.integers(-50, 50).map(float), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0]))
batches = st.lists(st.lists(entries, min_size=U, max_size=U), max_size=6).map(
    lambda b: np.array(b).reshape(-1, U)
)


def tally(values: NDArray[np.float64]) -> Tally:
    """By the definition; integers, so that sums are exact in any order."""
    good = np.isfinite(values)
    clean = np.where(good, values, 0.0)
    return Tally(
        samples=len(values),
        count=np.full(U, float(len(values))),
        positive=((values > 0) & good).sum(0).astype(float),
        zero=(values == 0).sum(0).astype(float),
        saturated=((values < -1) & good).sum(0).astype(float),
        flat=((values <= 0) & good).sum(0).astype(float),
        nonfinite=(~good).sum(0).astype(float),
        total=clean.sum(0),
        squares=(clean**2).sum(0),
        low=np.where(good, values, np.inf).min(0, initial=np.inf),
        high=np.where(good, values, -np.inf).max(0, initial=-np.inf),
    )


def assert_equal(one: Tally, other: Tally) -> None:
    assert one.samples == other.samples
    np.testing.assert_array_equal(one.to_array(), other.to_array())


@given(batches, batches)
def test_a_tally_of_both_is_the_merge_of_the_two(a, b):
    assert_equal(tally(np.concatenate([a, b])), tally(a).merge(tally(b)))


@given(batches, batches, batches)
def test_merging_is_associative_and_commutative_with_a_neutral_element(a, b, c):
    x, y, z = tally(a), tally(b), tally(c)
    assert_equal(x.merge(y).merge(z), x.merge(y.merge(z)))
    assert_equal(x.merge(y), y.merge(x))
    assert_equal(x.merge(Tally.empty(U)), x)


@given(batches)
def test_a_tally_survives_its_array_form(a):
    assert_equal(Tally.from_array(len(a), tally(a).to_array()), tally(a))


def test_tallies_of_different_widths_do_not_merge():
    with pytest.raises(ValueError, match="3 units with one of 4"):
        Tally.empty(3).merge(Tally.empty(4))


def test_mean_spread_norm_and_rms_are_those_of_the_finite_entries():
    found = tally(np.array([[1.0, np.nan, np.inf], [3.0, np.nan, 2.0]]))
    np.testing.assert_array_equal(found.mean, [2.0, np.nan, 2.0])
    np.testing.assert_array_equal(found.std, [1.0, np.nan, 0.0])
    assert found.norm == pytest.approx(np.sqrt(1 + 9 + 4))
    assert found.rms == pytest.approx(np.sqrt(14 / 3))
    assert np.isnan(Tally.empty(2).rms)
