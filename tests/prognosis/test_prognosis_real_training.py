"""What is foretold of dead first-layer units in real training is what happens."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from real_training import Plan, Training, exact_verdicts, record_verdicts

import defib
from defib.core.prognosis import Outlook

torch.set_num_threads(1)

optim = torch.optim
SETTINGS: dict[str, Callable[[list[nn.Parameter]], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
    "Nesterov": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "underdamped": lambda p: optim.SGD(p, lr=0.02, momentum=0.99, weight_decay=5e-3),
    "Adam": lambda p: optim.Adam(p, lr=3e-3),
    "Adam and L2": lambda p: optim.Adam(p, lr=3e-3, weight_decay=1e-2),
    "AdamW": lambda p: optim.AdamW(p, lr=3e-3, weight_decay=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, lr=1e-3, momentum=0.9),
}
COME_BACK = {"Nesterov", "underdamped", "Adam", "Adam and L2", "AdamW"}


@pytest.mark.parametrize("name", SETTINGS)
def test_each_death_in_the_first_layer_ends_as_foretold(name):
    verdicts = exact_verdicts(Plan(make=SETTINGS[name], steps=350))
    assert len(verdicts) >= 8
    assert [v for v in verdicts if not v.right] == []
    if name in COME_BACK:
        assert any(v.seen is not None and v.said == v.seen for v in verdicts)
    assert all(v.exact for v in verdicts if v.outlook in {Outlook.NEVER, Outlook.RETURNS})


@pytest.mark.parametrize("name", ["momentum", "underdamped", "Adam and L2"])
def test_the_record_alone_foretells_it_as_far_as_its_samples_go(name, tmp_path):
    verdicts, samples = record_verdicts(Plan(make=SETTINGS[name], steps=350), tmp_path / "x.rec")
    assert 100 < samples <= 300, "no sample is kept twice"
    assert len(verdicts) >= 20
    wrong = [v for v in verdicts if not v.right]
    assert len(wrong) <= 0.15 * len(verdicts)
    for v in wrong:  # a sample that was not kept can only fire a unit sooner
        assert v.seen is not None
        assert v.said is None or v.seen < v.said


def test_with_another_momentum_than_the_optimizers_the_answers_are_wrong():
    """The test above can fail: what is stored in the optimiser decides."""
    training, answers = Training(Plan(make=SETTINGS["Nesterov"], steps=350)), []
    for t in training:
        if t in {60, 150}:
            buffers = [s["momentum_buffer"] for s in training.optimizer.state.values()]
            kept = [b.clone() for b in buffers]
            for buffer in buffers:
                buffer.neg_()
            forecast = defib.prognose(training.model, training.optimizer, training.data, horizon=350)
            for buffer, before in zip(buffers, kept, strict=True):
                buffer.copy_(before)
            answers += [(u, p, t) for p in forecast.prognoses if p.path == "0" for u in p.units]
    assert not all(v.right for v in training.judged([(u, p, t) for u, p, t in answers if not p.steps]))


def test_a_scheduler_that_is_given_is_followed_to_the_step():
    plan = Plan(make=SETTINGS["underdamped"], steps=800, plant=(50,), depth=1.0, jolt=-1)
    training = Training(plan)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(training.optimizer, 1500)
    followed = constant = None
    for t in training:
        if t:
            scheduler.step()
        if t == 50:
            asked = training.model, training.optimizer, training.data
            followed = defib.prognose(*asked, scheduler=scheduler, horizon=750)
            constant = defib.prognose(*asked, horizon=750)
    assert followed is not None
    assert constant is not None
    steps = {
        u: s for p in followed.prognoses if p.path == "0" for u, s in zip(p.units, p.steps, strict=False)
    }
    assert len(steps) >= 3
    for unit, ahead in steps.items():
        assert training.returned(unit, 50) == 50 + ahead
    others = {
        u: s for p in constant.prognoses if p.path == "0" for u, s in zip(p.units, p.steps, strict=False)
    }
    assert any(others.get(unit) != ahead for unit, ahead in steps.items()), "the schedule matters"


def test_the_steps_of_a_watched_model_are_counted_as_the_run_does(tmp_path):
    training = Training(Plan(make=SETTINGS["Nesterov"], steps=200, plant=(100,), jolt=-1))
    with defib.watch(training.model, training.optimizer, output=tmp_path / "x.rec"):
        for t in training:
            if t == 100:
                forecast = defib.prognose(training.model, training.optimizer, training.data)
                assert {p.as_of for p in forecast.prognoses} == {100}
    for prognosis in forecast.prognoses:
        for unit, step in zip(prognosis.units, prognosis.steps, strict=False):
            if prognosis.path == "0":
                assert training.returned(unit, 100) == step
    assert any(p.steps for p in forecast.prognoses if p.path == "0")
