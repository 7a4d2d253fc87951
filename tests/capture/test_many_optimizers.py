"""Optimisers that rest, are made anew, or are given other parameters."""

import gc
import weakref

import torch
from memory import Memory
from torch import nn

from defib.capture.clock import Clock
from defib.capture.clocks import MOST_REPEATS, Clocks
from defib.capture.naming import Names
from defib.capture.session import start

STEPS, EVERY = 400, 40


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def train(model: nn.Sequential, turns: list[tuple[torch.optim.Optimizer, int, int]]) -> None:
    """Each optimiser steps on every n-th step of the first m."""
    x = torch.randn(16, 6)
    for step in range(STEPS):
        model.zero_grad()
        model(x).square().mean().backward()
        for optimizer, every, until in turns:
            if step % every == 0 and step < until:
                optimizer.step()


def test_an_optimizer_that_steps_no_more_does_not_have_every_step_read(sink: Memory):
    model = network()
    trains, rests = (torch.optim.SGD(model[i].parameters(), lr=0.01) for i in (0, 2))
    watch = start(model, sink=sink, every=EVERY)
    train(model, [(trains, 1, STEPS), (rests, 1, 5)])
    watch.close()
    # Two rounds may wait for it: the one under way when it stepped last, and the next.
    assert watch.readings <= STEPS // EVERY + 2 * MOST_REPEATS + 2
    assert watch.faults == 0


def test_an_optimizer_that_steps_now_and_then_is_waited_for(sink: Memory):
    model = network()
    often, seldom = (torch.optim.SGD(model[i].parameters(), lr=0.01) for i in (0, 2))
    watch = start(model, sink=sink, every=EVERY)
    train(model, [(often, 1, STEPS), (seldom, 5, STEPS)])
    watch.close()
    read = [names for _, names, _ in sink.sizes]
    assert sum("2.weight" in names for names in read) >= STEPS // EVERY - 1


def test_optimizers_made_anew_are_all_recorded_and_none_is_kept(sink: Memory):
    model, x = network(), torch.randn(16, 6)
    watch = start(model, sink=sink, every=7)
    for _ in range(60):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        model.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    del optimizer
    gc.collect()
    watch.flush()
    clocks = [thing for thing in gc.get_objects() if type(thing) is Clock and not thing.alive]
    assert len(clocks) <= 1, "the one that stepped last is let go with the next backward"
    watch.close()
    assert sorted(sink.optimizers) == list(range(60))
    assert {facts["steps"] for facts in sink.optimizers.values()} == {1}
    assert {index for index, _ in sink.lives} == set(range(60))


def test_a_retired_clock_is_counted_and_its_index_not_given_again():
    parameter = nn.Parameter(torch.ones(3))
    clocks = Clocks(Names(), ())
    first = torch.optim.SGD([parameter], lr=0.1)
    clock = clocks.of(first)
    assert clock is not None
    for _ in range(5):
        clock.tick(first, [])
    del first
    gc.collect()
    assert clocks.retire() == [], "steps that wait to be drained are not lost"
    clock.vitals.drain(wait=True)
    assert clocks.retire() == [0]
    assert clocks.steps == 5
    second = torch.optim.SGD([parameter], lr=0.1)
    again = clocks.of(second)
    assert again is not None
    assert again.index == 1


def test_parameters_exchanged_for_as_many_others_are_read_and_the_old_ones_let_go(sink: Memory):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    watch = start(sink=sink, every=5)
    train(model, [(optimizer, 1, STEPS)])
    old = weakref.ref(model[0].bias)
    model[0], model[2] = nn.Linear(6, 20), nn.Linear(20, 3)
    optimizer.param_groups[0]["params"] = list(model.parameters())
    train(model, [(optimizer, 1, STEPS)])
    gc.collect()
    assert old() is None
    watch.close()
    assert watch.faults == 0
    assert sink.lives[0, "0"][1].shape[1] == 20


def test_steps_without_a_backward_are_not_hoarded(sink: Memory):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    watch = start(model, sink=sink)
    for _ in range(50):
        loss = model(torch.randn(4, 6)).square().mean()
        for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            p.grad = g
        optimizer.step()
    assert len(watch._recorder._stepped) == 1
    watch.close()
