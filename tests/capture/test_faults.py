"""What goes wrong inside defib never reaches training; what goes wrong in training arrives untouched."""

import traceback

import pytest
import torch
import torch.nn.functional as F
from memory import Memory
from small import bare_run, mlp, same, train, watched, weights
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from defib.capture import taps
from defib.capture.recorder import Recorder
from defib.capture.session import Session

ENTRIES = ["backward_begins", "backward_ended", "step_begins", "step_ended"]


def breaking(entry: str, times: int) -> type[Recorder]:
    """A recorder whose ``entry`` fails the first ``times`` times."""
    left = [times]

    class Breaking(Recorder):
        pass

    def fail(self, *args):
        if left[0] > 0:
            left[0] -= 1
            raise RuntimeError(f"planted in {entry}")
        return getattr(Recorder, entry)(self, *args)

    setattr(Breaking, entry, fail)
    return Breaking


def run_with(recorder_class: type[Recorder], sink: Memory, steps: int = 8):
    torch.manual_seed(0)
    model = mlp()
    session = Session(recorder_class(sink, [model], every=1), sink)
    train(model, torch.optim.Adam(model.parameters()), steps)
    session.close()
    return weights(model), session


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_fault_in_an_entry_point_is_contained_and_recorded(entry, sink):
    bits, session = run_with(breaking(entry, 2), sink)
    assert same(bits, bare_run(8))
    assert session.faults == 2
    assert [k for _, k, _ in sink.events] == ["watcher-fault"] * 2
    assert f"planted in {entry}" in sink.events[0][2]["error"]
    assert session.readings > 0, "after two faults it still looks"
    assert sink.known["faults"] == 2


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_third_fault_switches_the_watcher_off_and_training_goes_on(entry, sink):
    bits, session = run_with(breaking(entry, 1000), sink)
    assert same(bits, bare_run(8))
    assert session.faults == 3
    assert [d["off"] for _, _, d in sink.events] == [False, False, True]


@pytest.mark.parametrize("entry", ENTRIES)
def test_switching_off_does_not_disturb_the_users_own_step_hooks(entry, sink):
    """Torch is iterating over the hooks when ours gives up: theirs must still be called."""
    calls = []
    torch.manual_seed(0)
    model = mlp()
    session = Session(breaking(entry, 1000)(sink, [model], every=1), sink)
    handles = [
        register_optimizer_step_pre_hook(lambda *_: calls.append("pre")),
        register_optimizer_step_post_hook(lambda *_: calls.append("post")),
    ]
    try:
        train(model, torch.optim.Adam(model.parameters()), 8)
    finally:
        for handle in handles:
            handle.remove()
        session.close()
    assert session.faults == 3
    assert calls == ["pre", "post"] * 8
    assert same(weights(model), bare_run(8))


@pytest.mark.parametrize("entry", ENTRIES)
def test_one_watcher_that_breaks_does_not_take_the_other_with_it(entry, sink):
    torch.manual_seed(0)
    model, sound = mlp(), Memory()
    broken = Session(breaking(entry, 1000)(sink, [model], every=1), sink)
    healthy = watched(model, sound)
    train(model, torch.optim.Adam(model.parameters()), 8)
    healthy.close()
    broken.close()
    assert same(weights(model), bare_run(8))
    assert healthy.faults == 0
    assert len(sound.loss()) == 8, "a step was missed while the other was switched off"
    assert [s for s, _ in sound.flows] == list(range(8))
    assert broken.faults == 3


def test_a_fault_in_a_node_hook_is_contained(sink, monkeypatch):
    from defib.capture.reading import Reading

    real = Reading._take

    def take(self, tap, signal, *rest):
        if signal.value.endswith("grad"):
            raise RuntimeError("planted in a hook")
        return real(self, tap, signal, *rest)

    monkeypatch.setattr(Reading, "_take", take)
    bits, session = run_with(Recorder, sink)
    assert same(bits, bare_run(8))
    assert session.faults == 3
    assert "planted in a hook" in sink.events[0][2]["error"]


@pytest.mark.parametrize(
    "method", ["reading", "flow", "stream", "liveness", "norms", "facts", "layers", "event", "close"]
)
def test_a_sink_that_breaks_harms_nobody(method, sink):
    class Broken(Memory):
        pass

    torch.manual_seed(0)
    model, bad = mlp(), Broken()
    session = watched(model, bad)

    def fail(self, *args):
        raise OSError("the disk is gone")

    setattr(Broken, method, fail)
    train(model, torch.optim.Adam(model.parameters()), 8)
    session.flush()
    if method == "close":
        with pytest.raises(OSError, match="disk"):
            session.close()
    else:
        session.close()
    assert same(weights(model), bare_run(8))
    assert torch.autograd.backward is taps._original_backward
    assert session.faults > 0 or method in {"event", "close"}


class Explodes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, error):
        ctx.error = error
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        if ctx.error is not None:
            raise ctx.error
        return grad, None


def explode(model, error):
    hidden = Explodes.apply(model[1](model[0](torch.randn(5, 6))), error)
    F.cross_entropy(model[2](hidden), torch.randint(3, (5,))).backward()


@pytest.mark.parametrize(
    "error", [ValueError("the user's own"), KeyboardInterrupt(), SystemExit(3)], ids=repr
)
def test_an_exception_in_the_users_backward_arrives_as_it_was(error, sink):
    def frames(watch: bool):
        torch.manual_seed(0)
        model = mlp()
        optimizer = torch.optim.Adam(model.parameters())
        session = watched(model, sink) if watch else None
        train(model, optimizer, 2)
        with pytest.raises(type(error)) as caught:
            explode(model, error.__class__(*error.args))
        names = [(f.filename, f.name) for f in traceback.extract_tb(caught.tb)]
        train(model, optimizer, 2)
        if session is not None:
            session.close()
            assert session.faults == 0, sink.events
            assert len(sink.loss()) == 4
        return names, weights(model)

    bare_frames, bare_weights = frames(False)
    seen_frames, seen_weights = frames(True)
    assert seen_frames == bare_frames
    assert not [f for f, _ in seen_frames if "defib" in f]
    assert same(bare_weights, seen_weights)


def test_a_call_that_torch_refuses_is_refused_with_the_same_words(sink):
    def words(call):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever torch raises
            call()
        return type(caught.value), str(caught.value)

    calls = [
        lambda: torch.zeros(3).backward(),
        lambda: torch.zeros(3, requires_grad=True).backward(),
        lambda: torch.autograd.backward(3),
        lambda: torch.autograd.backward(),
        lambda: torch.autograd.backward([torch.zeros(())]),
    ]
    bare = [words(call) for call in calls]
    session = watched(mlp(), sink)
    assert [words(call) for call in calls] == bare
    session.close()


def test_an_interrupt_inside_our_own_code_is_not_swallowed(sink):
    class Interrupted(Recorder):
        def step_begins(self, *args):
            raise KeyboardInterrupt

    model = mlp()
    session = Session(Interrupted(sink, [model]), sink)
    with pytest.raises(KeyboardInterrupt):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1))
    session.close()


def test_watching_twice_and_closing_twice_is_harmless(sink):
    torch.manual_seed(0)
    model, other = mlp(), Memory()
    one, two = watched(model, sink), watched(model, other)
    train(model, torch.optim.Adam(model.parameters()), 8)
    one.close()
    one.close()
    assert torch.autograd.backward is taps.backward, "the second still watches"
    two.close()
    assert torch.autograd.backward is taps._original_backward
    assert one.faults == two.faults == 0
    assert same(weights(model), bare_run(8))
    assert sink.wired == other.wired
    for key, (last, tally) in sink.windows.items():
        assert other.windows[key][0] == last
        assert (other.windows[key][1].to_array() == tally.to_array()).all()


def test_somebody_elses_replacement_of_backward_is_left_in_place(sink):
    """Another tool put itself on top of us; closing must not throw it out."""
    session = watched(mlp(), sink)
    ours = torch.autograd.backward

    def theirs(*args, **kwargs):
        return ours(*args, **kwargs)

    try:
        torch.autograd.backward = theirs
        session.close()
        assert torch.autograd.backward is theirs
        train(model := mlp(), torch.optim.SGD(model.parameters(), lr=0.1))
    finally:
        torch.autograd.backward = taps._original_backward


def test_losses_may_come_from_an_iterator(sink):
    """An iterator can be read once, and it is the user's."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = watched(model, sink)
    out = model(torch.randn(5, 6))
    torch.autograd.backward(t for t in (out.sum(), out.square().sum()))
    assert model[0].weight.grad.abs().sum() > 0
    optimizer.step()
    session.close()
    assert session.faults == 0, sink.events
