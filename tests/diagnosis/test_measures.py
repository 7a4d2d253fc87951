"""Answer, pace, gains and outputs: against numbers that are known beforehand."""

from dataclasses import replace

import numpy as np
import pytest

from defib.core.run import RunView
from defib.diagnosis.case_parts import CLASSES, REGRESSION, objective_of, sizes_of
from defib.diagnosis.cases import Plan, flat_loss, run_of
from defib.diagnosis.measures.answer import answer
from defib.diagnosis.measures.constant import constant_loss
from defib.diagnosis.measures.gains import first_gains, small_signal_gain
from defib.diagnosis.measures.learning import Outcome, learning, standstill
from defib.diagnosis.measures.outputs import functions_of, power_of, range_of
from defib.diagnosis.measures.pace import pace
from defib.diagnosis.measures.wires import Wires


def classifier(loss: np.ndarray, **columns: float) -> RunView:
    return replace(run_of(Plan(path="fc1"), loss=loss), objective=objective_of({**CLASSES, **columns}))


def test_the_constants_loss_is_corrected_for_the_smallness_of_the_batch() -> None:
    generator = np.random.default_rng(0)
    classes, batch = 10, 64
    entropies = []
    for _ in range(2000):
        share = np.bincount(generator.integers(0, classes, batch), minlength=classes) / batch
        entropies.append(-(share[share > 0] * np.log(share[share > 0])).sum())
    run = classifier(flat_loss(), constant_loss=float(np.mean(entropies)), samples=batch)
    assert constant_loss(run) == pytest.approx(np.log(classes), abs=5e-3)


def test_a_summed_loss_is_not_compared_with_the_constants_mean() -> None:
    mean = objective_of({**REGRESSION, "loss": 1.5}, "MseLossBackward0")
    run = replace(run_of(Plan(path="fc1"), loss_operations=("MseLossBackward0",)), objective=mean)
    assert constant_loss(run) == 1.0
    summed = objective_of({**REGRESSION, "loss": 64 * 1.5}, "MseLossBackward0")
    assert np.isnan(constant_loss(replace(run, objective=summed)))


def test_a_loss_with_other_terms_is_not_compared_with_the_constants() -> None:
    run = classifier(flat_loss())
    assert np.isfinite(constant_loss(run))
    assert np.isnan(constant_loss(replace(run, loss_operations=("AddBackward0", "NllLossBackward0"))))


def test_a_loss_that_falls_from_large_outputs_to_the_constants_level_and_rests_there_has_not_learned() -> (
    None
):
    loss = 2.30 + 5 * np.exp(-np.arange(200) / 10)
    assert learning(run_of(Plan(path="fc1"), loss=loss)).outcome is Outcome.LEARNING
    assert learning(classifier(loss)).outcome is Outcome.NOT_LEARNING


def test_a_loss_that_passes_the_constants_level_on_its_way_learns() -> None:
    assert learning(classifier(np.linspace(5.0, 2.4, 200))).outcome is Outcome.LEARNING


def test_a_run_that_goes_on_from_a_trained_network_is_not_said_to_fail() -> None:
    loss = flat_loss(level=0.05)
    assert learning(run_of(Plan(path="fc1"), loss=loss)).outcome is Outcome.NOT_LEARNING
    assert learning(classifier(loss)).outcome is Outcome.LEARNING


def test_answers_are_the_same_if_their_spread_is_a_hundredth_of_what_tells_them_apart() -> None:
    assert answer(classifier(flat_loss(), output_spread=1e-3)).same
    assert not answer(classifier(flat_loss(), output_spread=0.1)).same


def test_a_standstill_is_flat_without_noise_and_far_above_zero() -> None:
    still = np.concatenate([np.linspace(0.7, 0.5, 100), np.full(100, 0.5)])
    for loss, expected in ((still, True), (flat_loss(), False), (still - 0.4, False)):
        run = run_of(Plan(path="fc1"), loss=loss)
        assert standstill(learning(run), run.loss) is expected


def walk(path: np.ndarray) -> RunView:
    """A bias that follows ``path``, read on every step, beside a weight of norm 1 that rests."""
    steps = np.diff(path, axis=0)
    count = len(steps)
    norms = sizes_of({"w": (1.0, 0.0), "b": (0.0, 0.0)}, every=1, readings=count)
    norms.weight[:, 1] = np.linalg.norm(path[:-1], axis=1)
    norms.update[:, 1] = np.linalg.norm(steps, axis=1)
    return replace(run_of(Plan(path="fc1"), loss=flat_loss(count)), norms=norms)


def test_a_straight_way_is_covered_whole_and_a_random_one_hardly() -> None:
    generator = np.random.default_rng(0)
    straight = pace(walk(np.outer(np.arange(401), np.full(16, 1e-4))))
    random = pace(
        walk(1e-4 * np.concatenate([np.zeros((1, 16)), generator.normal(size=(400, 16))]).cumsum(0))
    )
    assert straight is not None
    assert random is not None
    assert straight.straight == pytest.approx(1.0)
    assert random.straight == pytest.approx(1 / 20, rel=0.5)


def test_the_way_walked_is_the_sum_of_all_steps_also_of_those_not_read() -> None:
    sizes = sizes_of({"w": (2.0, 0.01)}, every=10, readings=20)
    found = pace(replace(run_of(Plan(path="fc1"), loss=flat_loss(200)), norms=sizes))
    assert found is not None
    assert found.moved == pytest.approx(200 * 0.005)


def test_weights_as_he_et_al_draw_them_have_a_factor_of_one() -> None:
    generator = np.random.default_rng(0)
    weight = generator.normal(0, (2 / 256) ** 0.5, (128, 256))
    norms = sizes_of({"fc1.weight": (float(np.linalg.norm(weight)), 1e-3)})
    run = run_of(Plan(path="fc1", units=128), norms=norms)
    (gain,) = first_gains(run, Wires(run))
    assert gain.hidden
    assert gain.factor == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize(
    ("name", "gain"), [("relu", 2**0.5), ("tanh", 1.0), ("sigmoid", 1.0), ("no such", 1.0)]
)
def test_small_signal_gains(name: str, gain: float) -> None:
    assert small_signal_gain(name) == pytest.approx(gain, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("sigmoid", 0, 1),
        ("tanh", -1, 1),
        ("relu", 0, np.inf),
        ("softmax", 0, 1),
        ("leaky_relu", -np.inf, np.inf),
    ],
)
def test_the_range_of_an_output_activation(name: str, low: float, high: float) -> None:
    wiring = replace(run_of(Plan(path="fc1", activation=name)).wirings[0])
    assert range_of(wiring) == pytest.approx((low, high))


def test_operations_that_only_change_the_shape_are_passed_over() -> None:
    operations = ("MseLossBackward0", "SqueezeBackward1", "ViewBackward0", "TanhBackward0")
    assert functions_of(operations) == ("MseLossBackward0", "TanhBackward0")
    assert power_of(("MeanBackward0", "PowBackward0", "SqueezeBackward1", "SubBackward0")) == 2
