"""Better, worse, undecided: from outcomes alone."""

import math

import numpy as np
import pytest

from defib.core.errors import UsageError
from defib.core.trial import Goal, Outcome
from defib.trials.design import Measure, parse_measure
from defib.trials.verdict import compare, ranked

LOSS = Measure()
ACCURACY = Measure(logged="accuracy", goal=Goal.HIGHER)


def outcome(arm: str, seed: int, score: float | None, *, first: float = 2.0, **more: object) -> Outcome:
    return Outcome(
        **{
            "arm": arm,
            "seed": seed,
            "score": score,
            "loss": score,
            "first_loss": first,
            "steps": 100,
            "seconds": 1.0,
            "code": 0,
            **more,
        }  # type: ignore[arg-type]
    )


def runs(arm: str, scores: list[float | None], **more: object) -> list[Outcome]:
    return [outcome(arm, seed, score, **more) for seed, score in enumerate(scores)]


def test_a_clear_gain_is_better_and_its_mirror_image_is_worse() -> None:
    low, high = [0.1, 0.11, 0.09], [1.0, 1.1, 0.95]
    assert compare("a", runs("a", low) + runs("control", high), LOSS).answer == "better"
    assert compare("a", runs("a", high) + runs("control", low), LOSS).answer == "worse"


def test_a_gain_within_the_noise_is_undecided_and_the_interval_holds_zero() -> None:
    found = compare("a", runs("a", [0.5, 1.0, 2.0]) + runs("control", [0.6, 0.9, 2.1]), LOSS)
    assert found.answer == "undecided"
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high


def test_one_seed_never_decides() -> None:
    assert compare("a", runs("a", [0.1]) + runs("control", [1.0]), LOSS).answer == "undecided"


def test_a_loss_that_became_nan_counts_as_much_as_its_first_step() -> None:
    found = compare("a", runs("a", [0.1, 0.2, 0.1]) + runs("control", [None, None, None]), LOSS)
    assert found.answer == "better"
    assert found.difference == pytest.approx(np.mean(np.log10([2 / 0.1, 2 / 0.2, 2 / 0.1])))


def test_a_metric_that_only_one_side_still_has_decides() -> None:
    measure = Measure(pattern="loss (.*)", goal=Goal.LOWER)
    assert compare("a", runs("a", [1.0, 1.0]) + runs("control", [None, None]), measure).answer == "better"
    assert compare("a", runs("a", [None, None]) + runs("control", [1.0, 1.0]), measure).answer == "worse"


def test_higher_is_better_for_an_accuracy() -> None:
    found = compare("a", runs("a", [0.9, 0.91, 0.92]) + runs("control", [0.1, 0.12, 0.11]), ACCURACY)
    assert found.answer == "better"
    assert found.difference == pytest.approx(0.8)


def test_only_seeds_of_both_arms_are_paired_and_screening_runs_never() -> None:
    known = runs("a", [0.1, 0.1, 0.1]) + runs("control", [1.0, 1.1]) + [outcome("control", 2, 9.0, stop_at=5)]
    assert compare("a", known, LOSS).pairs == 2


def test_a_refused_treatment_is_no_comparison() -> None:
    known = runs("a", [1.0, 1.0], refused="tied weights") + runs("control", [1.0, 1.0])
    assert compare("a", known, LOSS).answer == "refused"


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, covered, times = np.random.default_rng(0), 0, 2000
    for _ in range(times):
        control = np.exp(rng.normal(0, 0.3, 3))
        treated = control * 10 ** (-0.2 + rng.normal(0, 0.1, 3))
        found = compare("a", runs("a", list(treated)) + runs("control", list(control)), LOSS)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.2 <= found.high
    assert abs(covered / times - 0.95) < 4 * math.sqrt(0.95 * 0.05 / times)


def test_better_arms_come_first_and_the_larger_gain_before_the_smaller() -> None:
    control = runs("control", [1.0, 1.1, 0.9])
    small, large = runs("small", [0.5, 0.55, 0.45]), runs("large", [0.1, 0.11, 0.09])
    noise = runs("noise", [0.5, 1.5, 1.0])
    found = [compare(n, control + small + large + noise, LOSS) for n in ("noise", "small", "large")]
    assert [c.arm for c in ranked(found)] == ["large", "small", "noise"]


@pytest.mark.parametrize(
    ("text", "goal", "logged", "expected"),
    [
        ("val_loss", None, True, Goal.LOWER),
        ("accuracy", None, True, Goal.HIGHER),
        (r"acc ([0-9.]+)", None, False, Goal.HIGHER),
        (r"acc ([0-9.]+)", "lower", False, Goal.LOWER),
    ],
)
def test_a_metric_is_a_name_or_an_expression(
    text: str, goal: str | None, logged: bool, expected: Goal
) -> None:
    measure = parse_measure(text, goal)
    assert bool(measure.logged) is logged
    assert measure.goal is expected


@pytest.mark.parametrize(("text", "goal"), [("(", None), (r"acc \d+", None), ("(a)(b)", None), ("x", "up")])
def test_a_bad_metric_is_one_clear_line(text: str, goal: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        parse_measure(text, goal)
    assert "\n" not in str(caught.value)
