"""Each theorem of docs/prognosis.md, with hypothesis trying to break it."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from defib.core.remains import Part, Remains
from defib.diagnosis.prognosis.arithmetic import Arithmetic
from defib.diagnosis.prognosis.family import Body, Mode, Tail
from defib.diagnosis.prognosis.foresight import families
from defib.diagnosis.prognosis.plane import HeavyBall, adam_coasting, adam_reach, weight_only_return
from defib.diagnosis.prognosis.proof import first_return, future
from defib.diagnosis.prognosis.samples import Samples, Sentry

rates = st.floats(1e-4, 1.0)
momenta = st.one_of(st.just(0.0), st.floats(0.05, 0.995))
seeds = st.integers(0, 2**32 - 1)


def _ball(lr, mu, kappa, dampening, nesterov):
    dampening = 0.0 if nesterov else dampening
    return HeavyBall(
        lr=lr,
        momentum=mu,
        decay=kappa / lr / (1 - dampening if mu else 1),
        dampening=dampening,
        nesterov=nesterov,
    )


@st.composite
def overdamped(draw):
    """Heavy balls whose kappa is below 0.9 of the critical one."""
    mu, nesterov = draw(momenta), draw(st.booleans())
    critical = HeavyBall(lr=0.1, momentum=mu, nesterov=nesterov).critical
    kappa = draw(st.one_of(st.just(0.0), st.floats(1e-6, 0.9))) * critical
    return _ball(draw(rates), mu, kappa, draw(st.floats(0.0, 0.9)), nesterov)


@st.composite
def underdamped(draw):
    """Heavy balls whose kappa is above the critical one."""
    mu, nesterov = draw(st.floats(0.3, 0.995)), draw(st.booleans())
    critical = HeavyBall(lr=0.1, momentum=mu, nesterov=nesterov).critical
    top = 1.0 if nesterov else (1 + math.sqrt(mu)) ** 2
    kappa = critical + draw(st.floats(0.02, 0.98)) * (min(top, 1.0) - critical)
    return _ball(draw(rates), mu, kappa, draw(st.floats(0.0, 0.9)), nesterov)


@given(overdamped())
@settings(deadline=None)
def test_overdamped_decay_keeps_the_sign_and_the_reach_is_the_supremum(ball):
    pairs = list(itertools.islice(ball.coefficients(), 400))
    scale = [a for a, _ in pairs if a > 1e-280]
    assert all(a > 0 for a in scale)
    ratios = np.array([c / a for a, c in pairs[: len(scale)]])
    assert np.all(np.diff(ratios) >= -1e-9 * max(1e-30, abs(ball.reach)))
    assert ratios.max() <= ball.reach * (1 + 1e-7)
    gap = (ball.roots[1] / ball.roots[0]) ** len(scale)
    assert ratios[-1] == pytest.approx(ball.reach, rel=1e-6 + 2 * gap, abs=1e-12)


@given(underdamped(), st.floats(-1, 1), st.floats(-4, 4))
@settings(deadline=None)
def test_underdamped_every_silent_unit_fires_within_half_a_turn_and_a_step(ball, direction, size):
    silent, q = -1.0, direction * 10.0**size / ball.lr
    within = itertools.islice(ball.coefficients(), ball.latest_return)
    assert ball.underdamped
    assert any(a * silent - c * q > 0 for a, c in within)


@given(st.floats(0.05, 0.999), st.booleans())
def test_the_critical_decay_separates_the_two(mu, nesterov):
    critical = HeavyBall(lr=0.1, momentum=mu, nesterov=nesterov).critical
    assume(critical < 0.9)
    assert not _ball(0.1, mu, 0.999 * critical, 0.0, nesterov).underdamped
    assert _ball(0.1, mu, 1.001 * critical, 0.0, nesterov).underdamped


@given(overdamped(), seeds)
@settings(deadline=None)
def test_the_plane_is_what_the_roll_out_does(ball, seed):
    p, v = np.random.default_rng(seed).normal(size=(2, 1, 3))
    kept = {name: getattr(ball, name) for name in ("lr", "momentum", "dampening", "nesterov")}
    body = _body("SGD", p, {"momentum_buffer": v}, weight_decay=ball.decay, **kept)
    for a, c in itertools.islice(ball.coefficients(), 60):
        families()["SGD"].step(body, ball.lr)
        expected = a * p - (c * v if ball.momentum else 0.0)
        assert np.allclose(body.values, expected, rtol=1e-9, atol=1e-9 * (np.abs(p).max() + abs(c)))


@given(st.floats(0.05, 0.995), st.floats(0, 0.9), st.floats(1e-3, 1), seeds)
@settings(deadline=None, max_examples=200)
def test_momentum_never_brings_a_unit_back_through_a_sample_that_it_just_lost(mu, dampening, lr, seed):
    lost, returned = _coast_after_a_kill(seed, lr, mu, dampening, nesterov=False)
    assume(lost)
    assert not returned


def test_nesterov_breaks_the_momentum_theorem():
    found = [_coast_after_a_kill(seed, 0.1, 0.9, 0.0, nesterov=True) for seed in range(300)]
    assert any(returned for lost, returned in found if lost)


def _coast_after_a_kill(seed, lr, mu, dampening, nesterov):
    """Samples lost in one random step, and whether any fires again while the unit coasts."""
    rng = np.random.default_rng(seed)
    features = np.c_[rng.normal(size=(64, 3)), np.ones(64)]
    p, v, g = rng.normal(size=(3, 1, 4))
    before = (features @ p.T)[:, 0]
    body = _body("SGD", p, {}, lr=lr, momentum=mu, dampening=dampening, nesterov=nesterov)
    v = mu * v + (1 - dampening) * g
    body.state["momentum_buffer"] = v
    body.values = p - lr * (g + mu * v if nesterov else v)
    lost = (before > 0) & ((features @ body.values.T)[:, 0] <= 0)
    for _ in range(200):
        families()["SGD"].step(body, lr)
        if np.any((features @ body.values.T)[lost] > 1e-12):
            return bool(lost.any()), True
    return bool(lost.any()), False


@given(
    st.floats(1e-4, 0.05), st.floats(0.5, 0.95), st.floats(0.97, 0.9999), st.integers(5, 5000),
    st.floats(0, 0.5), st.booleans(), seeds,
)  # fmt: skip
@settings(deadline=None)
def test_adamw_lives_in_the_plane_below_its_reach(lr, beta1, beta2, steps, decay, amsgrad, seed):
    rng = np.random.default_rng(seed)
    p, m = rng.normal(size=(2, 1, 3))
    v = rng.uniform(0.5, 2, size=(1, 3))
    state = {"exp_avg": m, "exp_avg_sq": v, "max_exp_avg_sq": v, "step": float(steps)}
    kept = {"lr": lr, "betas": (beta1, beta2), "weight_decay": decay, "eps": 0.0, "amsgrad": amsgrad}
    body = _body("AdamW", p, state, **kept)
    reach = adam_reach(lr, (beta1, beta2), steps, decay, amsgrad)
    last = 0.0
    for a, c in itertools.islice(adam_coasting(lr, (beta1, beta2), steps, decay, amsgrad), 500):
        families()["AdamW"].step(body, lr)
        assert np.allclose(body.values, a * p - c * m / np.sqrt(v), rtol=1e-8, atol=1e-8)
        assert last * (1 - 1e-12) <= c / a <= reach * (1 + 1e-9)
        last = c / a
    ratio = beta1 / ((1.0 if amsgrad else math.sqrt(beta2)) * (1 - lr * decay))
    assert last == pytest.approx(reach, rel=1e-6 + ratio**500 / (1 - ratio) ** 2)


def test_late_adam_coasts_nine_learning_rates():
    assert adam_reach(1.0, (0.9, 0.999), 1e6) == pytest.approx(9.045237, abs=1e-6)
    assert adam_reach(1.0, (0.9, 0.999), 1e6, amsgrad=True) == pytest.approx(9.0, abs=1e-6)
    assert adam_reach(1.0, (0.9, 0.95), 1e6) == pytest.approx(12.05, abs=5e-3)
    assert adam_reach(1e-3, (0.9, 0.999), 5000, decay=0.1) / 1e-3 == pytest.approx(9.0242, abs=1e-4)
    assert adam_reach(1e-2, (0.9, 0.999), 50, decay=0.1) / 1e-2 == pytest.approx(2.2064, abs=1e-4)


@given(st.floats(-1, 1), st.floats(1e-3, 10), st.floats(0.9, 0.9999))
def test_weights_that_decay_alone_bring_a_unit_back_exactly_if_its_bias_is_positive(bias, nearest, shrink):
    assume(bias <= 0 or (bias < nearest and bias > 1e-3))
    steps = weight_only_return(bias, nearest, shrink)
    if bias <= 0:
        assert steps is None
        return
    assert shrink**steps * -nearest + bias > -1e-12
    assert shrink ** (steps - 1) * -nearest + bias <= 1e-12
    samples = _samples(np.array([[1.0]]), [("weight", 1), ("bias", 1)])
    tails = (_tail([-nearest], shrink), _tail([bias], 1.0))
    assert first_return(samples, tails, 0, 10**9) == pytest.approx(steps, abs=1)


@given(seeds, st.floats(-1, 0.5))
@settings(deadline=None, max_examples=200)
def test_what_is_proved_never_to_fire_does_not_and_what_surely_fires_does(seed, lift):
    rng = np.random.default_rng(seed)
    samples = _samples(
        rng.normal(size=(20, 2)), [("weight", 2), ("bias", 1)], threshold=rng.choice([0.0, -0.1])
    )
    speeds = rng.choice([1.0, 0.99, 0.9, 0.5], size=4)
    modes = [
        [Mode(values=rng.normal(size=(30, width)) + lift, rate=rate) for rate in pair]
        for width, pair in ((2, speeds[:2]), (1, speeds[2:]))
    ]
    tails = [Tail(modes=tuple(pair)) for pair in modes]
    seen = future(samples, tails, 30)
    fired = np.zeros(30, bool)
    slowest = 1.0 if samples.threshold else speeds.max()
    for j in [*range(600), 3_000, 30_000, 300_000]:
        now = [sum((m.rate / slowest) ** j * m.values for m in tail.modes) for tail in tails]
        fired |= samples.highest(now) > 1e-12
    assert not (seen.never & fired).any()
    assert fired[seen.surely].all()


def test_the_proofs_decide_something():
    rng = np.random.default_rng(0)
    samples = _samples(rng.normal(size=(20, 2)), [("weight", 2), ("bias", 1)])
    tails = (_tail(0.1 * rng.normal(size=(50, 2)), 0.99), _tail(rng.normal(size=(50, 1)), 1.0))
    seen = future(samples, tails, 50)
    assert 10 < seen.never.sum() < 40
    assert 10 < seen.surely.sum() < 40


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "NAdam", "RAdam", "Adamax"])
@given(seed=seeds, steps=st.sampled_from([6, 50, 500, 100_000]), eps=st.sampled_from([0.0, 1e-8, 0.1]))
@settings(deadline=None, max_examples=25)
def test_a_coasting_parameter_stays_within_the_bound_of_its_travel(kind, seed, steps, eps):
    rng = np.random.default_rng(seed)
    p, m = rng.normal(size=(2, 1, 3))
    v = rng.uniform(0.01, 2, size=(1, 3))
    state = {"exp_avg": m, "exp_avg_sq": v, "exp_inf": v, "step": float(steps), "mu_product": 0.5}
    decay = 0.1 if kind == "AdamW" else 0.0
    body = _body(kind, p, state, lr=0.01, eps=eps, weight_decay=decay)
    family = families()[kind]
    tail = family.tail(body, 0.01)
    assert np.isfinite(tail.rest).all()
    rate, most = tail.modes[0].rate, np.zeros((1, 3))
    for j in range(1, 301):
        family.step(body, 0.01)
        most = np.maximum(most, np.abs(body.values / rate**j - p))
    assert np.all(most <= tail.rest * (1 + 1e-9))
    if kind in {"Adam", "AdamW"} and eps < 0.1 and steps > 1000:
        assert np.all(most >= 0.99 * tail.rest)  # late in training nothing is given away


@given(seeds)
@settings(deadline=None, max_examples=50)
def test_the_sentry_misses_no_step(seed):
    rng = np.random.default_rng(seed)
    samples = _samples(rng.normal(size=(30, 3)), [("weight", 3), ("bias", 1)])
    weight, bias = 0.2 * rng.normal(size=(6, 3)), np.full((6, 1), -1.0)
    sentry = Sentry(samples, [weight, bias])
    for _ in range(60):
        weight, bias = weight + 0.05 * rng.normal(size=(6, 3)), bias + 0.05 * rng.normal(size=(6, 1))
        assert sentry.look([weight, bias]).tolist() == (samples.highest([weight, bias]) > 0).tolist()


def _body(kind, values, state, **kept):
    return Body(
        values=values.copy(),
        state={k: v.copy() if np.ndim(v) else v for k, v in state.items()},
        settings=kept,
        kind=kind,
        arithmetic=Arithmetic("float64"),
    )


def _tail(values, rate):
    return Tail(modes=(Mode(values=np.asarray(values, float).reshape(len(values), -1), rate=rate),))


def _samples(features, parts, threshold=0.0):
    made = tuple(Part(name=n, values=np.zeros((1, w)), kind="", dtype="float64") for n, w in parts)
    return Samples(
        Remains(
            path="fc1", units=np.arange(1), step=0, parts=made, features=features, first_layer=True,
            samples_seen=len(features), threshold=threshold,
        )
    )  # fmt: skip
