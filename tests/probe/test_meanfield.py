"""The mean-field table of the literature, and the depths of PyTorch's default weights."""

import math

import pytest

from defib.core.activation_index import activation_named
from defib.probe.checkup import dead_probability
from defib.probe.meanfield import MeanField, mean_field

# Weights' variance, q*, chi_1, c*, 6 xi_c: tanh with biases of variance 0.05 (Schoenholz et al. 2017).
TANH = [
    (1.0, 0.1936, 0.7590, 1.0, 22),
    (1.3, 0.3153, 0.8802, 1.0, 47),
    (1.5, 0.4180, 0.9386, 1.0, 95),
    (1.7, 0.5331, 0.9867, 1.0, 450),
    (1.8, 0.5941, 1.0082, 0.9504, 755),
    (2.0, 0.7218, 1.0477, 0.7441, 151),
    (2.5, 1.0640, 1.1335, 0.4468, 71),
    (3.0, 1.4280, 1.2089, 0.2993, 54),
    (4.0, 2.1955, 1.3424, 0.1651, 42),
]
DEFAULT = {"tanh": 5.4, "sigmoid": 1.5, "relu": 3.3, "gelu": 2.4, "silu": 2.4, "elu": 5.3, "selu": 14.0}


def theory(name: str, weights: float, biases: float) -> MeanField:
    activation = activation_named(name)
    assert activation is not None
    return mean_field(activation, weights, biases, {})


@pytest.mark.parametrize(("weights", "variance", "chi", "correlation", "depth"), TANH)
def test_the_table_for_tanh_is_reproduced(
    weights: float, variance: float, chi: float, correlation: float, depth: float
) -> None:
    found = theory("tanh", weights, 0.05)
    assert found.variance == pytest.approx(variance, abs=1e-4)
    assert found.chi == pytest.approx(chi, abs=1e-4)
    assert found.correlation == pytest.approx(correlation, abs=1e-3)
    assert found.depth == pytest.approx(depth, abs=0.6)


def test_the_edge_of_chaos_of_tanh_lies_where_it_is_known_to_lie() -> None:
    assert theory("tanh", 1.7605, 0.05).chi < 1 < theory("tanh", 1.7615, 0.05).chi


@pytest.mark.parametrize(("name", "depth"), DEFAULT.items())
def test_the_default_weights_of_a_linear_layer_reach_only_so_deep(name: str, depth: float) -> None:
    assert theory(name, 1 / 3, 1 / (3 * 256)).depth == pytest.approx(depth, abs=0.06)


def test_relu_with_he_weights_stands_at_the_edge_of_chaos() -> None:
    assert math.isinf(theory("relu", 2.0, 0.0).depth)


def test_relu_with_large_weights_has_no_fixed_point() -> None:
    assert math.isinf(theory("relu", 3.0, 0.1).variance)


# Widths N, hidden layers, probability that a single point is lost (Lu et al. 2020).
@pytest.mark.parametrize(
    ("width", "layers", "share"),
    [(2, 2, 0.438), (2, 10, 0.944), (3, 10, 0.737), (5, 20, 0.470), (8, 50, 0.178)],
)
def test_the_chance_that_a_layer_is_born_dead_is_that_of_lu_et_al(
    width: int, layers: int, share: float
) -> None:
    assert dead_probability([width] * layers) == pytest.approx(share, abs=1e-3)
