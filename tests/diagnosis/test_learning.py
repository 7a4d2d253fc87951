"""Does it learn: the measure on losses whose answer is known."""

import numpy as np
import pytest

from defib.core.series import Series
from defib.diagnosis.cases import Plan, broken_loss, falling_loss, flat_loss, relapsing_loss, run_of
from defib.diagnosis.measures.learning import Outcome, change_at, judge, learning


def series(values: np.ndarray) -> Series:
    return Series(steps=np.arange(len(values)), values=np.asarray(values, dtype=np.float64))


def outcome(values: np.ndarray) -> Outcome:
    return judge(series(values)).outcome


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("seed", range(3))
def test_the_answer_does_not_depend_on_the_scale(factor: float, seed: int) -> None:
    noise = 1 + 0.3 * np.random.default_rng(seed).standard_normal(400).clip(-2, 2)
    assert outcome(factor * falling_loss(400) * noise) is Outcome.LEARNING
    assert outcome(factor * flat_loss(400) * noise) is Outcome.NOT_LEARNING


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_never_learning(seed: int) -> None:
    loss = np.abs(1 + 0.5 * np.random.default_rng(seed).standard_normal(500))
    assert outcome(loss) is not Outcome.LEARNING


def test_a_bias_that_is_learned_first_is_not_learning() -> None:
    bias_only = 2.303 + 0.2 * np.exp(-np.arange(500) / 20)
    assert outcome(bias_only) is Outcome.NOT_LEARNING


def test_a_slow_fall_that_goes_on_is_learning() -> None:
    rng = np.random.default_rng(0)
    assert outcome(np.linspace(10, 8.5, 400) + 0.05 * rng.standard_normal(400)) is Outcome.LEARNING


def test_a_negative_loss_is_measured_by_its_own_range() -> None:
    assert outcome(falling_loss(400) - 10) is Outcome.LEARNING
    rng = np.random.default_rng(0)
    assert outcome(rng.standard_normal(400)) is not Outcome.LEARNING


def test_nan_and_rise_are_divergence() -> None:
    assert outcome(broken_loss()) is Outcome.DIVERGING
    assert outcome(np.linspace(1, 30, 200)) is Outcome.DIVERGING
    assert outcome(np.full(10, np.nan)) is Outcome.DIVERGING


def test_losing_what_was_learned_is_not_learning() -> None:
    answer = judge(series(relapsing_loss(400, at=200)))
    assert answer.outcome is Outcome.NOT_LEARNING
    assert answer.relapsed


def test_a_relapse_counts_even_if_the_end_is_better_than_the_start() -> None:
    answer = judge(series(relapsing_loss(400, at=200, level=1.5)))
    assert answer.interval.low > 0.2
    assert answer.outcome is Outcome.NOT_LEARNING


def test_too_few_steps_are_unknown() -> None:
    assert outcome(flat_loss(10)) is Outcome.UNKNOWN
    assert outcome(flat_loss(40)) is Outcome.UNKNOWN
    assert outcome(np.zeros(0)) is Outcome.UNKNOWN
    assert outcome(falling_loss(40)) is Outcome.LEARNING


def test_a_single_bad_batch_changes_nothing() -> None:
    loss = falling_loss(200)
    loss[50] = np.nan
    loss[60] = 1e6
    assert outcome(loss) is Outcome.LEARNING


def test_a_loss_of_zero_throughout_is_not_a_division_by_zero() -> None:
    assert outcome(np.zeros(100)) is Outcome.NOT_LEARNING


def test_of_two_optimisers_a_flat_loss_proves_nothing() -> None:
    from dataclasses import replace

    run = run_of(Plan(path="g"), loss=flat_loss())
    both = replace(run, optimizers=(run.optimizers[0], replace(run.optimizers[0], index=1)))
    assert learning(run).outcome is Outcome.NOT_LEARNING
    assert learning(both).outcome is Outcome.UNKNOWN


def test_a_jump_of_the_loss_at_a_step_is_seen_and_a_level_loss_is_not() -> None:
    jump = change_at(series(relapsing_loss(200, at=100, level=0.9)), 100)
    assert jump is not None
    assert jump.worse
    level = change_at(series(falling_loss(200)), 100)
    assert level is not None
    assert not level.worse
    assert not level.stalled
