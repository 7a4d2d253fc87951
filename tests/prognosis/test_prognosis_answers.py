"""What ``foresee`` answers: proofs for all time, closed forms, other layers, and what it cannot say."""

from dataclasses import replace

import numpy as np
import pytest
from bruteforce import Setting, bury, predicted, units_of

from defib.core.prognosis import Mechanism, Outlook
from defib.core.remains import Part, Remains
from defib.diagnosis.prognosis.foresight import foresee


def _unit(weight=-1.0, bias=0.3, *, kind="SGD", step=7, bias_settings=None, **kept):
    """One unit on inputs between 1 and 2 (w . h at most -1)."""
    settings = {"lr": 0.1, **kept}
    parts = (
        Part(name="weight", values=np.array([[weight]], np.float32), kind=kind, settings=settings),
        Part(
            name="bias",
            values=np.array([[bias]], np.float32),
            kind=kind,
            settings=settings | (bias_settings or {}),
        ),
    )
    return Remains(
        path="fc1",
        units=np.array([3]),
        step=step,
        parts=parts,
        features=np.linspace(1, 2, 50)[:, None],
        first_layer=True,
        samples_seen=400,
    )


def test_a_unit_that_nothing_moves_never_returns():
    (answer,) = foresee(_unit())
    assert (answer.outlook, answer.mechanism) == (Outlook.NEVER, Mechanism.NOTHING)
    assert answer.units == (3,)
    assert answer.horizon is None
    assert answer.exact
    assert answer.samples == 400


def test_decay_of_weights_and_bias_alike_never_brings_a_unit_back():
    (answer,) = foresee(_unit(weight_decay=0.01))
    assert (answer.outlook, answer.mechanism) == (Outlook.NEVER, Mechanism.DECAY)


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_decay_of_the_weights_alone_returns_a_positive_bias_on_the_known_step(kind):
    (answer,) = foresee(_unit(kind=kind, weight_decay=0.005, bias_settings={"weight_decay": 0.0}))
    assert (answer.outlook, answer.mechanism) == (Outlook.RETURNS, Mechanism.DECAY)
    assert answer.step == 7 + int(np.floor(np.log(0.3) / np.log(1 - 0.0005))) + 1
    assert answer.exact
    negative = foresee(_unit(bias=-0.3, kind=kind, weight_decay=0.005, bias_settings={"weight_decay": 0.0}))
    assert negative[0].outlook is Outlook.NEVER


def test_a_return_beyond_the_roll_out_comes_from_the_closed_form_and_is_called_an_estimate():
    slow = _unit(weight_decay=1e-5, bias_settings={"weight_decay": 0.0})
    (answer,) = foresee(slow)
    assert answer.outlook is Outlook.RETURNS
    assert not answer.exact
    assert answer.step == pytest.approx(np.log(0.3) / np.log(1 - 1e-6), rel=1e-4)
    (short,) = foresee(slow, horizon=1000)
    assert (short.outlook, short.horizon, short.step) == (Outlook.BEYOND, 1000, None)


def test_decay_that_rounding_swallows_is_said_to_do_nothing():
    (answer,) = foresee(_unit(weight_decay=1e-8, bias_settings={"weight_decay": 0.0}))
    assert (answer.outlook, answer.mechanism) == (Outlook.NEVER, Mechanism.NOTHING)
    assert "rounding" in answer.reason


def test_a_parameter_without_a_gradient_is_skipped_with_its_momentum():
    moving = _unit(momentum=0.9)
    part = replace(moving.parts[1], state={"momentum_buffer": np.array([[-5.0]], np.float32)})
    carried = foresee(replace(moving, parts=(moving.parts[0], part)))
    assert (carried[0].outlook, carried[0].mechanism) == (Outlook.RETURNS, Mechanism.MOMENTUM)
    skipped = replace(part, gradient_is_none=True)
    assert foresee(replace(moving, parts=(moving.parts[0], skipped)))[0].outlook is Outlook.NEVER


def test_an_unknown_optimiser_is_named():
    (answer,) = foresee(_unit(kind="Lion"))
    assert answer.outlook is Outlook.UNKNOWN
    assert "Lion" in answer.reason


def test_state_that_was_not_kept_is_named():
    unit = _unit(kind="Adam")
    parts = tuple(replace(p, state={"step": 5.0}) for p in unit.parts)
    (answer,) = foresee(replace(unit, parts=parts))
    assert answer.outlook is Outlook.UNKNOWN
    assert "exp_avg" in answer.reason


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"features": np.zeros((0, 1))}, "samples"),
        ({"features": np.full((5, 1), np.nan)}, "NaN"),
        ({"features": np.zeros((5, 2))}, "features"),
    ],
)
def test_features_that_cannot_be_used_are_said(change, word):
    (answer,) = foresee(replace(_unit(), **change))
    assert answer.outlook is Outlook.UNKNOWN
    assert word in answer.reason


def test_a_unit_with_nan_is_unknown_and_the_others_are_not():
    remains, _ = bury(Setting(name="", kind="SGD", weight={"lr": 0.1}), 6, seed=0)
    remains.parts[0].values[2] = np.nan
    assert units_of(foresee(remains), outlook=Outlook.UNKNOWN) == {2}
    assert units_of(foresee(remains), outlook=Outlook.NEVER) == {0, 1, 3, 4, 5}


def test_no_units_no_answers():
    unit = _unit()
    parts = tuple(replace(p, values=p.values[:0]) for p in unit.parts)
    assert foresee(replace(unit, units=np.zeros(0, np.int64), parts=parts)) == ()


def test_a_unit_that_fires_is_not_called_silent():
    (answer,) = foresee(_unit(bias=1.5))
    assert (answer.outlook, answer.step) == (Outlook.RETURNS, 7)
    assert "not silent" in answer.reason


def test_a_deeper_unit_depends_on_upstream_and_its_distance_is_stated():
    (answer,) = foresee(replace(_unit(weight=-2.0), first_layer=False, drift=0.01))
    assert (answer.outlook, answer.mechanism) == (Outlook.UPSTREAM, Mechanism.UPSTREAM)
    numbers = {e.name: e.value for e in answer.evidence}
    assert numbers["smallest movement of a sample's features that fires a unit"] == pytest.approx(1.7 / 2)
    assert numbers["earliest plausible return"] == pytest.approx(85)
    assert not answer.exact


def test_a_threshold_shifts_what_firing_means():
    assert foresee(replace(_unit(), threshold=-0.8))[0].outlook is Outlook.RETURNS
    assert foresee(replace(_unit(weight_decay=0.1), threshold=-0.5))[0].outlook is Outlook.RETURNS
    assert foresee(replace(_unit(weight_decay=0.1), threshold=0.0))[0].outlook is Outlook.NEVER


def test_what_is_said_never_to_return_does_not_within_any_horizon():
    for kind, kept in (("SGD", {"momentum": 0.95}), ("AdamW", {"weight_decay": 0.3}), ("NAdam", {})):
        setting = Setting(name="", kind=kind, weight={"lr": 0.02} | kept, steps=4000)
        remains, run = bury(setting, 40, seed=11)
        never = units_of(foresee(remains, horizon=1), outlook=Outlook.NEVER)
        first = run.play().first
        assert not [u for u in never if first[u] > 0]


def test_a_falling_schedule_is_followed_and_can_be_proved_at_once():
    constant = Setting(name="", kind="SGD", weight={"lr": 0.05, "momentum": 0.9}, steps=200)
    falling = replace(constant, schedule=tuple(np.linspace(1, 0, 150)))
    remains, run = bury(falling, 40, seed=2)
    assert predicted(foresee(remains), remains).tolist() == run.play().first.tolist()
    assert len(units_of(foresee(remains, horizon=1), outlook=Outlook.NEVER)) > 5


def test_permuting_units_and_features_changes_nothing_else():
    setting = Setting(name="", kind="AdamW", weight={"lr": 0.03}, steps=500)
    remains, _ = bury(setting, 30, seed=4)
    order, columns = np.random.default_rng(0).permutation(30), np.random.default_rng(1).permutation(10)

    def turned(part, within):
        state = {k: v[order][:, within] if np.ndim(v) == 2 else v for k, v in part.state.items()}
        return replace(part, values=part.values[order][:, within], state=state)

    other = replace(
        remains,
        units=remains.units[order],
        features=remains.features[:, columns],
        parts=(turned(remains.parts[0], columns), turned(remains.parts[1], np.arange(1))),
    )
    assert predicted(foresee(other), other).tolist() == predicted(foresee(remains), remains).tolist()


def test_the_remains_are_left_as_they_were():
    setting = Setting(name="", kind="Adam", weight={"lr": 0.03, "weight_decay": 0.01}, steps=500)
    remains, _ = bury(setting, 20, seed=4)
    before = [(p.values.copy(), {k: np.copy(v) for k, v in p.state.items()}) for p in remains.parts]
    foresee(remains, 200)
    for part, (values, state) in zip(remains.parts, before, strict=True):
        assert np.array_equal(part.values, values)
        assert all(np.array_equal(part.state[k], v) for k, v in state.items())
