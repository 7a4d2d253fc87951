"""From a run with remains to the prognosis of its findings."""

from dataclasses import replace

import numpy as np
import pytest

from defib.core.cause import Fault
from defib.core.finding import Finding
from defib.core.optimizer import Optimizer
from defib.core.prognosis import Mechanism, Outlook
from defib.core.reading import EPISODE_STEPS, LENGTHS
from defib.core.remains import Part, Remains
from defib.core.remains_exhibit import KIND, preserve, recover
from defib.core.run import Exhibit, RunView
from defib.core.series import Series
from defib.diagnosis.cases import Plan, run_of
from defib.diagnosis.engine import diagnose
from defib.diagnosis.prognosis.of_run import forecast, remains_of
from defib.diagnosis.prognosis.recovery import recovery_of


def remains(units=(0, 1, 2, 3, 4, 5, 6, 7), step=200, first=True, path="fc1", rows=20, **settings) -> Remains:
    """Units that momentum brings back, but for the last."""
    rng = np.random.default_rng(0)
    features = np.abs(rng.normal(size=(rows, 3))).astype("f4")
    count = len(units)
    weight = np.full((count, 3), -0.1, "f4")
    push = np.zeros((count, 3), "f4")
    push[:-1] = -1.0
    made = {
        "lr": 0.1,
        "momentum": 0.9,
        "dampening": 0.0,
        "nesterov": False,
        "weight_decay": 0.0,
        "maximize": False,
    }
    parts = tuple(
        Part(name=name, values=v, kind="SGD", settings=made | settings, state={"momentum_buffer": m})
        for name, v, m in (("weight", weight, push), ("bias", np.full((count, 1), -0.5, "f4"), push[:, :1]))
    )
    return Remains(
        path=path,
        units=np.array(units),
        step=step,
        parts=parts,
        features=features,
        first_layer=first,
        samples_seen=1000,
    )


def shown(kept: Remains, **facts) -> Exhibit:
    known, arrays = preserve(kept)
    return Exhibit(kind=KIND, path=kept.path, step=5, facts=known | facts, arrays=arrays)


def run(*exhibits: Exhibit, dead=range(8), **changes) -> RunView:
    made = run_of(Plan(path="fc1", dies=dict.fromkeys(dead, 100)), Plan(path="fc2"))
    return replace(made, exhibits=exhibits, **changes)


def dead_unit(view: RunView) -> Finding:
    [finding] = [f for f in diagnose(view).findings if f.fault is Fault.DEAD_UNITS]
    return finding


def test_what_is_preserved_is_recovered():
    known = remains()
    again = recover(shown(known))
    assert (again.path, again.step, again.first_layer, again.samples_seen) == ("fc1", 200, True, 1000)
    np.testing.assert_array_equal(again.features, known.features)
    for one, other in zip(again.parts, known.parts, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.state["momentum_buffer"], other.state["momentum_buffer"])
        assert (one.name, one.kind, dict(one.settings)) == (other.name, other.kind, dict(other.settings))


def test_a_finding_says_which_of_its_units_come_back():
    answers = dead_unit(run(shown(remains()))).prognosis
    assert [(p.outlook, p.units) for p in answers] == [
        (Outlook.RETURNS, tuple(range(7))),
        (Outlook.NEVER, (7,)),
    ]
    assert answers[0].mechanism is Mechanism.MOMENTUM
    assert all(s is not None and s > 200 for s in answers[0].steps)
    assert answers[0].samples == 20, "on those that were kept, not on all that were seen"


def test_only_the_units_of_the_finding_are_foretold():
    answers = dead_unit(run(shown(remains()), dead=(0, 7))).prognosis
    assert sorted(u for p in answers for u in p.units) == [0, 7]


def test_units_that_were_not_kept_are_unknown_and_no_unit_is_left_out():
    answers = dead_unit(run(shown(remains(units=(1, 3, 7))))).prognosis
    assert sorted(u for p in answers for u in p.units) == list(range(8))
    [unknown] = [p for p in answers if p.outlook is Outlook.UNKNOWN]
    assert unknown.units == (0, 2, 4, 5, 6)
    assert unknown.reason == "the state of 3 of the layer's silent units was kept, not theirs"


def test_without_any_remains_a_finding_says_nothing_and_a_forecast_says_why():
    view = run()
    assert dead_unit(view).prognosis == ()
    [answer] = forecast(view, diagnose(view).findings).prognoses
    assert (answer.outlook, len(answer.units)) == (Outlook.UNKNOWN, 8)
    assert "were not kept" in answer.reason
    normalised = replace(view, wirings=tuple(replace(w, normalised=True) for w in view.wirings))
    [answer] = forecast(normalised, diagnose(view).findings).prognoses
    assert "normalisation" in answer.reason


def test_the_newest_remains_count_and_foreign_ones_are_passed_over():
    older = shown(remains(units=(1,), step=100))
    foreign = Exhibit(kind=KIND, path="fc1", step=9, facts={"step": 999}, arrays={})
    another = Exhibit(kind="autopsy", path="fc1", step=9)
    assert remains_of(run(older, shown(remains()), foreign, another))["fc1"].step == 200


def test_the_samples_of_all_ranks_count():
    known = remains()
    other = replace(known, features=known.features + 1)
    [found] = remains_of(run(shown(known, rank=0), shown(other, rank=1))).values()
    assert (len(found.features), found.samples_seen) == (40, 2000)


def test_a_learning_rate_that_changed_is_taken_to_stay_and_that_is_said():
    rates = Series(steps=np.arange(200), values=np.linspace(1, 0.1, 200))
    owner = Optimizer(index=0, kind="SGD", steps=200, parameters=("fc1.weight", "fc1.bias"), lr=rates)
    view = run(shown(remains()), optimizers=(owner, *run().optimizers[1:]))
    answers = forecast(view, diagnose(run(shown(remains()))).findings)
    assert not answers.prognoses[0].exact
    assert "stays at 0.1 from step 200 on (it changed before)" in answers.prognoses[0].reason
    assert answers.assumed == ("fc1: the learning rate stays at 0.1 from step 200 on (it changed before)",)
    still = answers.prognoses[1]
    assert (still.mechanism, still.exact) == (Mechanism.NOTHING, True), "no rate moves what nothing acts on"


def test_deeper_layers_bring_their_own_experience():
    made = run(shown(remains(first=False)))
    lengths = np.zeros(LENGTHS, np.int64)
    lengths[3:5] = (30, 10)
    live = replace(made.liveness["fc1"], lengths=lengths, returns=np.full(8, 5), silent_before=np.full(8, 60))
    view = replace(made, liveness=made.liveness | {"fc1": live})
    recovery = recovery_of(view, "fc1")
    assert recovery is not None
    assert (recovery.returned, recovery.open, recovery.episodes) == (40, 8, 48)
    assert recovery.low < recovery.share < recovery.high
    assert recovery.share == pytest.approx(40 / 48)
    answers = dead_unit(view).prognosis
    assert {p.outlook for p in answers} == {Outlook.RETURNS, Outlook.UPSTREAM}
    assert all(any(e.name.startswith("share that ends within") for e in p.evidence) for p in answers)
    assert not any(p.exact for p in answers)


def test_silences_that_last_are_no_returns():
    made = run()
    live = replace(made.liveness["fc1"], lengths=np.zeros(LENGTHS, np.int64))
    recovery = recovery_of(replace(made, liveness={"fc1": live}), "fc1")
    assert recovery is not None
    assert (recovery.returned, recovery.open, recovery.share, recovery.low) == (0, 8, 0.0, 0.0)
    assert recovery.high == 1.0, "none of them was followed for that long"
    assert EPISODE_STEPS == 8


def test_a_look_ahead_within_a_diagnosis_is_short_and_a_forecast_goes_as_far_as_it_is_told():
    known = remains(lr=1e-6, weight_decay=0.01, betas=[0.9, 0.999], eps=1e-8, amsgrad=False)
    parts = []
    for part in known.parts:
        still = np.zeros_like(part.values)
        state = {"exp_avg": still, "exp_avg_sq": still, "step": 10.0}
        parts.append(replace(part, kind="Adam", state=state, values=part.values + 0.01))
    view = run(shown(replace(known, parts=tuple(parts))))
    findings = diagnose(view).findings
    [far] = forecast(view, findings, horizon=12_345).prognoses
    [glance] = findings[0].prognosis
    assert (far.outlook, far.horizon) == (Outlook.BEYOND, 12_345)
    assert glance.outlook is Outlook.BEYOND
    assert glance.horizon == 10_000


@pytest.mark.parametrize(("lr", "exact"), [(1e-3, True), (1e-4, False)])
def test_a_return_far_away_under_a_divided_decay_is_not_called_exact(lr, exact):
    known = remains(lr=lr, weight_decay=0.01, betas=[0.9, 0.999], eps=1e-8, amsgrad=False)
    parts = []
    for part, value in zip(known.parts, (-0.3, 0.5), strict=True):
        still = np.zeros_like(part.values)
        state = {"exp_avg": still, "exp_avg_sq": still, "step": 10_000.0}
        parts.append(replace(part, kind="Adam", state=state, values=still + np.float32(value)))
    view = run(shown(replace(known, parts=tuple(parts), features=known.features * 0 + 0.8)))
    [answer] = forecast(view, diagnose(view).findings, horizon=9000).prognoses
    assert (answer.outlook, answer.mechanism) == (Outlook.RETURNS, Mechanism.NORMALISED_DECAY)
    assert answer.exact == exact
    assert ("rounding" in answer.reason) == (not exact)


def test_a_return_that_the_run_has_passed_without_it_is_not_foretold():
    early, end = 2, run().steps

    def told(step):
        view = run(shown(remains(step=step)))
        return forecast(view, diagnose(view).findings).prognoses

    units = told(end)
    assert any(p.outlook is Outlook.RETURNS for p in units), "nothing returns, so nothing is tested"
    stale = told(early)
    assert all(step >= end for p in stale for step in p.steps)
    assert sorted(u for p in stale for u in p.units) == list(range(8))
