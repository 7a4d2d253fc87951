"""The neutrality test can fail: a watcher that disturbs anything is caught by the same comparison.

Each violation is a real :class:`Recorder` that does one thing too much.
"""

import gc
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from families import Training
from fingerprint import differences, environment, run
from memory import Memory

from defib.capture.reading import Reading
from defib.capture.recorder import Recorder
from defib.capture.session import Session

Violation = Callable[[Training, tuple[torch.Tensor, ...]], object]
VIOLATIONS: dict[str, tuple[Violation, str]] = {}


def caught_as(mark: str) -> Callable[[Violation], Violation]:
    """The violation must show up as a difference whose name contains ``mark``."""

    def plant(violation: Violation) -> Violation:
        VIOLATIONS[violation.__name__] = (violation, mark)
        return violation

    return plant


class Disturbing(Recorder):
    """Looks as usual, and breaks one promise at every backward."""

    violation: Violation
    training: Training

    def backward_begins(self, tensors: tuple[torch.Tensor, ...]) -> Reading | None:
        reading = super().backward_begins(tensors)
        self.violation(self.training, tensors)
        return reading


@caught_as("rng torch")
def draws_from_torch(training, tensors):
    torch.rand(1)


@caught_as("rng python")
def draws_from_python(training, tensors):
    random.random()


@caught_as("rng numpy")
def draws_from_numpy(training, tensors):
    np.random.rand()


@caught_as("grad")
def changes_an_activation_in_place(training, tensors):
    logits = tensors[0].grad_fn.next_functions[0][0]._saved_result
    logits.data.mul_(1 + 1e-6)


@caught_as("grad")
def changes_a_gradient_in_place(training, tensors):
    weight = training.modules["model"][0].weight
    if not weight._backward_hooks:
        weight.register_hook(lambda g: g.mul_(1 + 1e-6))


@caught_as("output 0")
def changes_the_loss_by_one_bit(training, tensors):
    tensors[0].detach().view(torch.int32).add_(1)


@caught_as("version")
def bumps_a_version_and_nothing_else(training, tensors):
    training.modules["model"][0].weight.detach().add_(0)


@caught_as("threads")
def changes_the_number_of_threads(training, tensors):
    torch.set_num_threads(3 - torch.get_num_threads())


@caught_as("model.1 hooks")
def leaves_a_module_hook(training, tensors):
    training.modules["model"][1].register_forward_hook(lambda m, i, o: None)


@caught_as("model.0.weight hooks")
def leaves_a_parameter_hook(training, tensors):
    training.modules["model"][0].weight.register_post_accumulate_grad_hook(lambda p: None)


@caught_as("global module hooks")
def leaves_a_global_hook(training, tensors):
    torch.nn.modules.module.register_module_forward_hook(lambda m, i, o: None)


@caught_as("model.0 attributes")
def leaves_an_attribute_on_a_module(training, tensors):
    training.modules["model"][0].seen = True


@caught_as("model.0.weight attributes")
def leaves_an_attribute_on_a_parameter(training, tensors):
    training.modules["model"][0].weight.seen = True


@caught_as("optimizer[0] attributes")
def leaves_an_attribute_on_the_optimizer(training, tensors):
    training.optimizers[0].seen = True


@caught_as("optimizer[0].state")
def touches_the_optimizers_state(training, tensors):
    for state in training.optimizers[0].state.values():
        state["exp_avg"].mul_(1 + 1e-6)


@caught_as("grad mode")
def leaks_the_gradient_mode(training, tensors):
    if training.optimizers[0].state:  # at the last step: the user's next forward would fail
        torch.set_grad_enabled(False)


@caught_as("default dtype")
def changes_the_default_dtype(training, tensors):
    torch.set_default_dtype(torch.float64)


@caught_as("version")
def freezes_a_parameter(training, tensors):
    training.modules["model"][0].bias.requires_grad_(False)


@caught_as("training")
def switches_to_eval(training, tensors):
    training.modules["model"][1].eval()


@caught_as("warnings")
def adds_a_warning_filter(training, tensors):
    warnings.simplefilter("ignore", DeprecationWarning)


@caught_as("deterministic")
def switches_deterministic_mode_on(training, tensors):
    torch.use_deterministic_algorithms(True)


@caught_as("signals")
def takes_a_signal(training, tensors):
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


@caught_as("cwd")
def changes_the_folder(training, tensors):
    os.chdir("/")


@caught_as("environ")
def changes_the_environment(training, tensors):
    os.environ["DEFIB_LEFT_BEHIND"] = "1"


@caught_as("recursion")
def changes_the_recursion_limit(training, tensors):
    sys.setrecursionlimit(sys.getrecursionlimit() + 1)


@caught_as("gc")
def stops_the_garbage_collector(training, tensors):
    gc.disable()


@pytest.fixture
def put_back():
    """A test that disturbs the process on purpose leaves nothing of it behind."""
    threads, folder, limit = torch.get_num_threads(), os.getcwd(), sys.getrecursionlimit()
    handler, hooks = signal.getsignal(signal.SIGUSR1), torch.nn.modules.module._global_forward_hooks
    run("adam_foreach", 0, steps=1)  # torch sets a variable of its own at first use
    before = environment()
    with warnings.catch_warnings():
        yield
    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)
    signal.signal(signal.SIGUSR1, handler)
    os.chdir(folder)
    os.environ.pop("DEFIB_LEFT_BEHIND", None)
    sys.setrecursionlimit(limit)
    gc.enable()
    hooks.clear()
    after = environment()
    assert {d: (before[d], after[d]) for d in differences(before, after) if not d.startswith("rng")} == {}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_planted_violation_is_caught(name, sink, put_back):
    violation, mark = VIOLATIONS[name]

    def disturb(training: Training) -> Session:
        recorder = Disturbing(sink, training.modules.values(), training.optimizers, every=1)
        recorder.violation, recorder.training = violation, training
        return Session(recorder, sink)

    bare, _ = run("adam_foreach", 0, steps=2)
    hurt, session = run("adam_foreach", 0, disturb, steps=2)

    assert session.faults == 0, "the violation itself failed, nothing was planted"
    found = differences(bare, hurt)
    assert [d for d in found if mark in d], found


def test_a_watcher_that_leaves_its_registrations_behind_is_caught(sink):
    def never_closed(training: Training) -> Session:
        session = Session(Recorder(sink, training.modules.values(), every=1), sink)
        left_open.append(session)
        session.close, close = (lambda status="": None), session.close
        closes.append(close)
        return session

    left_open: list[Session] = []
    closes: list[Callable[[], None]] = []
    bare, _ = run("adam_foreach", 0, steps=2)
    try:
        hurt, _ = run("adam_foreach", 0, never_closed, steps=2)
    finally:
        closes[0]()
    assert differences(bare, hurt) == ["autograd.backward", "optimizer hooks"]
    again, _ = run("adam_foreach", 0, steps=2)
    assert differences(bare, again) == []


def test_a_recorder_that_disturbs_nothing_is_not_caught(sink: Memory):
    """The harness of this file by itself makes no difference."""

    def harmless(training: Training) -> Session:
        recorder = Disturbing(sink, training.modules.values(), training.optimizers, every=1)
        recorder.violation, recorder.training = (lambda training, tensors: None), training
        return Session(recorder, sink)

    bare, _ = run("adam_foreach", 0, steps=2)
    same, session = run("adam_foreach", 0, harmless, steps=2)
    assert session.faults == 0
    assert differences(bare, same) == []
