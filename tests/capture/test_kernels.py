"""Two kernels, one answer: the fast per-unit kernel equals a plain numpy reference in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from defib.capture.kernels import STATISTICS, row_liveness, tally
from defib.core.activation import Limits
from defib.core.tally import Tally

DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
EDGES = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    float("nan"),
    float("inf"),
    float("-inf"),
    1e-40,
    -1e-45,
    6e-8,
    60000.0,
    3e38,
    1e200,
]


def reference(
    values: NDArray[np.float64], axis: int | None, flat: Limits | None, saturated: Limits | None
) -> Tally:
    """The same statistics by the definition, unit by unit."""
    units = (
        values.reshape(1, -1)
        if axis is None
        else np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    )
    rows = []
    for entries in units:
        good = entries[np.isfinite(entries)]
        rows.append(
            {
                "count": entries.size,
                "positive": int((good > 0).sum()),
                "zero": int((good == 0).sum()),
                "saturated": _outside(good, saturated),
                "flat": _outside(good, flat),
                "nonfinite": entries.size - good.size,
                "total": good.sum(),
                "squares": (good * good).sum(),
                "low": good.min(initial=np.inf),
                "high": good.max(initial=-np.inf),
            }
        )
    return Tally(samples=0, **{k: np.array([r[k] for r in rows], float) for k in rows[0]})


def _outside(good: NDArray[np.float64], limits: Limits | None) -> int:
    return 0 if limits is None else int(((good <= limits.low) | (good >= limits.high)).sum())


def assert_equal(
    tensor: torch.Tensor, axis: int | None, flat: Limits | None, saturated: Limits | None
) -> None:
    before, version = tensor.clone(), tensor._version
    with np.errstate(over="ignore"):
        wanted = reference(tensor.double().numpy(), axis, flat, saturated)
    found = Tally.from_array(0, tally(tensor, axis, flat, saturated).numpy())
    for name in ("count", "positive", "zero", "saturated", "flat", "nonfinite", "low", "high"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)
    scale = np.sqrt(wanted.squares * np.maximum(wanted.count, 1))
    tolerance = 1e-12 if tensor.dtype is torch.float64 else 3e-6
    known = np.isfinite(scale)  # squares of 1e200 have no number even in float64
    error = np.abs(found.total - wanted.total)
    assert (error[known] <= tolerance * scale[known] + 1e-43).all()
    np.testing.assert_allclose(found.squares, wanted.squares, rtol=tolerance, atol=1e-37)
    assert torch.equal(tensor.nan_to_num(7.0), before.nan_to_num(7.0)), "the tensor was changed"
    assert tensor._version == version


limits = st.one_of(
    st.none(),
    st.builds(Limits, low=st.sampled_from([-np.inf, -1.0, 0.0]), high=st.sampled_from([0.5, 1.0, np.inf])),
)


@st.composite
def cases(draw):
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    axis = draw(st.one_of(st.none(), st.integers(0, len(shape) - 1)))
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    seed = draw(st.integers(0, 2**31))
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for edge in draw(st.lists(st.sampled_from(EDGES), max_size=4)):
        values.view(-1)[draw(st.integers(0, values.numel() - 1))] = edge
    if draw(st.booleans()):
        values = values.clamp(min=0)
    tensor = values.to(DTYPES[dtype])
    if draw(st.booleans()) and tensor.ndim > 1:
        tensor = tensor.transpose(0, -1)
        axis = None if axis is None else {0: tensor.ndim - 1, tensor.ndim - 1: 0}.get(axis, axis)
    return tensor, axis, draw(limits), draw(limits)


@given(cases())
@settings(max_examples=300, deadline=None)
def test_the_kernel_equals_the_numpy_reference(case):
    tensor, axis, flat, saturated = case
    assert_equal(tensor, axis, flat, saturated)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "axis"), [((512, 64), 1), ((4, 16, 12, 12), 1), ((3, 50, 32), 2), ((7,), None)]
)
def test_larger_tensors_in_every_dtype(dtype, shape, axis):
    generator = torch.Generator().manual_seed(0)
    tensor = torch.randn(shape, generator=generator).relu().to(DTYPES[dtype])
    assert_equal(tensor, axis, Limits(low=0.0), Limits(low=0.0, high=2.0))


def test_channels_last_is_read_as_what_it_is():
    tensor = torch.randn(4, 6, 5, 5).to(memory_format=torch.channels_last)
    assert_equal(tensor, 1, None, Limits(high=0.5))


def test_half_precision_does_not_overflow_or_stop_counting():
    ones = torch.full((70_000, 1), 300.0, dtype=torch.float16)
    found = Tally.from_array(0, tally(ones, 1).numpy())
    assert found.positive == 70_000
    assert found.total == 70_000 * 300.0
    np.testing.assert_allclose(found.squares, 70_000 * 9e4, rtol=1e-6)


def test_counts_stay_exact_beyond_the_integers_of_float32():
    many = torch.ones((1 << 24) + 5, dtype=torch.float16)
    many[3] = 0
    found = Tally.from_array(0, tally(many, None).numpy())
    assert found.positive == (1 << 24) + 4
    assert found.zero == 1
    assert found.count == (1 << 24) + 5


def test_squares_that_overflow_float32_are_still_finite():
    found = Tally.from_array(0, tally(torch.full((4, 2), 1e30), 1).numpy())
    np.testing.assert_allclose(found.squares, 4e60, rtol=1e-6)
    assert (found.nonfinite == 0).all()


def test_the_order_of_statistics_is_the_records():
    assert STATISTICS == Tally.rows()


@pytest.mark.parametrize("name", DTYPES)
def test_a_part_of_the_batch_at_a_time_merges_to_the_whole(name):
    """tally(a + b) == tally(a).merge(tally(b)), NaN and infinity included."""
    tensor = torch.randn(64, 5).to(DTYPES[name])
    tensor[3, 1], tensor[40, 2], tensor[9, 4] = float("nan"), float("inf"), 0.0
    low = Limits(low=0.0)
    whole, a, b = (
        Tally.from_array(0, tally(t, 1, low, low).numpy()) for t in (tensor, tensor[:20], tensor[20:])
    )
    both = a.merge(b)
    for row in Tally.rows():
        np.testing.assert_allclose(getattr(both, row), getattr(whole, row), rtol=1e-5, atol=1e-5, err_msg=row)
    for row in ("count", "positive", "zero", "flat", "nonfinite", "low", "high"):
        np.testing.assert_array_equal(getattr(both, row), getattr(whole, row))


@given(
    st.lists(st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1.0, -3e38, float("nan")]), min_size=12, max_size=12)
)
def test_row_liveness_is_zero_only_where_a_whole_row_is(values):
    gradient = torch.tensor(values).view(4, 3)
    alive = (row_liveness(gradient) != 0).tolist()
    assert alive == [bool((row != 0).any()) for row in gradient]
    columns = (row_liveness(gradient, 3) != 0).tolist()
    assert columns == [bool((column != 0).any()) for column in gradient.T]
