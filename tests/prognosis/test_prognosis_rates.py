"""Time to unstick of saturated units, and the return rate of silent ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from defib.core.errors import UsageError
from defib.core.prognosis import Outlook
from defib.diagnosis.prognosis.hazard import return_rate
from defib.diagnosis.prognosis.unstick import (
    Normaliser,
    prognose_saturated,
    steps_to_unstick,
    steps_to_unstick_normalised,
)


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
@pytest.mark.parametrize("size", [3.0, 4.0, 5.0])
def test_the_time_to_unstick_is_that_of_gradient_descent(name, size):
    free = 2.0 if name == "sigmoid" else 1.0
    h, error, lr = torch.tensor([1.0, 2.0], dtype=torch.float64), 0.05, 0.2
    w = torch.tensor([size / 5, 2 * size / 5], dtype=torch.float64, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    steps = 0
    while float(w.detach() @ h + b.detach()) > free:
        w.grad = b.grad = None
        (error * getattr(torch, name)(w @ h + b)).backward()
        with torch.no_grad():
            w -= lr * w.grad
            b -= lr * b.grad
        steps += 1
    guess = steps_to_unstick(name, [size], lr=lr, error=error, input_square=5.0)[0]
    assert guess == pytest.approx(steps, rel=0.05, abs=2)


RULES = {
    "Adam": Normaliser(lr=0.01, mean=0.9, size=0.999, eps=1e-8),
    "AdamW": Normaliser(lr=0.01, mean=0.9, size=0.999, eps=1e-8),
    "RMSprop": Normaliser(lr=0.01, mean=0.0, size=0.99, eps=1e-8),
    "Adamax": Normaliser(lr=0.01, mean=0.9, size=0.999, eps=1e-8, largest=True),
}


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize(
    ("name", "size", "eps"), [("sigmoid", 9.0, 1e-8), ("tanh", 6.0, 1e-8), ("sigmoid", 9.0, 1e-4)]
)
def test_the_time_to_unstick_is_that_of_optimisers_that_divide_by_the_gradients_size(kind, name, size, eps):
    features, error = 6, 0.05
    rule = replace(RULES[kind], eps=eps)
    h = torch.full((features,), 1.5, dtype=torch.float64)
    w = torch.full((features,), size / (1.5 * features), dtype=torch.float64, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    settings = {"weight_decay": 0.0} if kind == "AdamW" else {}
    optimizer = getattr(torch.optim, kind)([w, b], lr=0.0, eps=eps, **settings)
    free = 2.0 if name == "sigmoid" else 1.0
    steps = -3_000  # the unit has been saturated for long: the running means have settled
    while float(w.detach() @ h + b.detach()) > free:
        if steps == 0:
            optimizer.param_groups[0]["lr"] = rule.lr
        optimizer.zero_grad()
        (error * getattr(torch, name)(w @ h + b)).backward()
        optimizer.step()
        steps += 1
    guess = steps_to_unstick_normalised(
        name, [size, -size], rule, error=error, features=features, input_square=float(h @ h)
    )
    assert guess[0] == guess[1] == pytest.approx(steps, rel=0.15, abs=2)
    slow = steps_to_unstick(name, [size], lr=rule.lr, error=error, input_square=float(h @ h))[0]
    assert slow > 2 * guess[0], "gradient descent is another law"


def test_without_a_gradient_dividing_by_its_size_helps_nobody():
    steps = steps_to_unstick_normalised(
        "tanh", [5.0, 9.5, 0.5], RULES["Adam"], error=[0.0, 0.1, 0.1], features=3, input_square=1.0
    )
    assert steps.tolist() == [np.inf, np.inf, 0.0]


def test_late_saturation_grows_as_the_exponential():
    ten, twelve = steps_to_unstick("sigmoid", [10.0, -12.0], lr=0.1, error=0.1, input_square=9.0)
    assert ten == pytest.approx(np.exp(10) / 0.1, rel=1e-3)
    assert twelve / ten == pytest.approx(np.exp(2), rel=1e-3)


def test_a_derivative_that_rounds_to_zero_takes_for_ever():
    steps = steps_to_unstick("tanh", [9.5, -9.5, 8.0], lr=0.1, error=0.1, input_square=1.0)
    assert np.isinf(steps).tolist() == [True, True, False]
    assert np.isfinite(steps_to_unstick("tanh", 9.5, lr=0.1, error=0.1, input_square=1.0, dtype="float64"))


def test_no_error_means_for_ever_and_a_free_unit_needs_no_time():
    assert steps_to_unstick("sigmoid", [5.0, 1.0], lr=0.1, error=0.0, input_square=1.0).tolist() == [
        np.inf,
        0.0,
    ]


def test_other_activations_are_refused():
    with pytest.raises(UsageError, match="gelu"):
        steps_to_unstick("gelu", [5.0], lr=0.1, error=0.1, input_square=1.0)


def test_saturated_units_are_held_against_the_budget():
    answers = prognose_saturated(
        "fc1", (1, 2, 5), np.array([40.2, 1e6, np.inf]), as_of=10, samples=100, budget=1000
    )
    assert [(p.outlook, p.units, p.step) for p in answers] == [
        (Outlook.RETURNS, (1,), 51),
        (Outlook.BEYOND, (2,), None),
        (Outlook.NEVER, (5,), None),
    ]


def test_the_return_rate_without_cut_off_episodes_is_the_share_that_came_back():
    rate = return_rate(np.zeros(10), [1, 2, 2, 3, 5, 8, 9, 20, 30, 40], now=100, within=9)
    assert rate.share == pytest.approx(0.7)
    assert rate.interval.low < 0.7 < rate.interval.high
    assert rate.median == 5


def test_episodes_that_were_cut_off_early_count_only_as_long_as_they_were_seen():
    ended = [10, 10, -1, -1]
    assert return_rate([0, 0, 0, 0], ended, now=1000, within=20).share == pytest.approx(0.5)
    assert return_rate([0, 0, 995, 995], ended, now=1000, within=20).share == pytest.approx(1.0)


def test_no_return_gives_an_upper_bound_and_no_episode_gives_nothing():
    rate = return_rate([0, 0, 0], [-1, -1, -1], now=50, within=40)
    assert (rate.share, rate.interval.low) == (0.0, 0.0)
    assert rate.interval.high == pytest.approx(1 - 0.025 ** (1 / 3))
    assert return_rate([], [], now=50, within=40) is None
    assert return_rate([50], [-1], now=50, within=40) is None


def test_the_interval_covers_the_true_rate_as_often_as_it_says():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(300):
        starts = rng.integers(0, 80, size=40)
        ends = starts + rng.geometric(0.05, size=40)
        rate = return_rate(starts, np.where(ends > 100, -1, ends), now=100, within=20)
        covered += rate.interval.low <= 1 - 0.95**20 <= rate.interval.high
    assert covered > 0.9 * 300
