"""Numbers that leave float64 for a record of float32."""

import warnings

import numpy as np

from defib.core.precision import single


def test_what_is_too_large_for_float32_stays_a_number_and_warns_nobody():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = single([1e40, -1e300, 2.5])
    assert kept.dtype == np.float32
    np.testing.assert_array_equal(kept, [np.finfo(np.float32).max, -np.finfo(np.float32).max, 2.5])


def test_infinity_and_nan_stay_what_they_are():
    np.testing.assert_array_equal(single([[np.inf, -np.inf, np.nan]]), [[np.inf, -np.inf, np.nan]])


def test_the_result_is_a_copy():
    given = np.ones(3, np.float32)
    single(given)[0] = 5
    assert given[0] == 1
