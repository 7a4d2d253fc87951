"""Formulas of wide random nets, against closed forms and published numbers."""

import math

import pytest
import torch

from defib.lab.gauss import expect, expect_pair, fixed_correlation, fixed_variance, slope_of


def test_a_relu_passes_half_of_a_squared_signal_both_ways():
    assert expect(lambda s: torch.relu(s).square(), 1.0) == pytest.approx(0.5, abs=1e-6)
    assert expect(lambda s: slope_of(torch.relu)(s).square(), 3.0) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("c", [0.0, 0.3, 0.9])
def test_a_pair_through_a_relu_has_the_correlation_of_the_arc_cosine_kernel(c):
    kernel = (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / (2 * math.pi)
    assert expect_pair(torch.relu, 1.0, c) == pytest.approx(kernel, abs=2e-3)


def test_a_pair_of_equal_numbers_is_one_number():
    assert expect_pair(torch.tanh, 0.7, 1.0) == pytest.approx(
        expect(lambda s: torch.tanh(s).square(), 0.7), abs=1e-9
    )


@pytest.mark.parametrize(
    ("spread", "variance", "correlation"), [(1.0, 0.1936, 1.0), (2.0, 0.7218, 0.7441), (4.0, 2.1955, 0.1651)]
)
def test_tanh_nets_settle_at_the_fixed_points_of_the_theory(spread, variance, correlation):
    q = fixed_variance(torch.tanh, spread, 0.05)
    assert q == pytest.approx(variance, abs=1e-4)
    assert fixed_correlation(torch.tanh, spread, 0.05, q) == pytest.approx(correlation, abs=2e-4)


def test_a_derivative_is_taken_under_no_grad_too():
    with torch.no_grad():
        assert slope_of(torch.square)(torch.tensor([3.0])).item() == 6.0
