"""Nothing of the user's is kept alive, and nothing grows."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from memory import Memory
from small import mlp, train, watched
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint

from defib.capture.recorder import Recorder
from defib.capture.session import Session, start


def tensors_alive() -> int:
    gc.collect()
    return sum(1 for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor))


def memory_of(tensor: torch.Tensor) -> StorageWeakRef:
    """Expires with the memory itself: a graph can keep that without any Python object."""
    return StorageWeakRef(tensor.untyped_storage())


@pytest.mark.parametrize("given", [True, False], ids=["model given", "model found"])
def test_model_and_optimizer_are_freed_while_still_watched(given, sink):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    session = start(model if given else None, sink=sink, every=1)
    train(model, optimizer, 5)
    refs = [weakref.ref(thing) for thing in (model, optimizer, *model.parameters())]
    del model, optimizer
    gc.collect()
    assert [r() for r in refs if r() is not None] == []
    session.close()
    assert session.faults == 0, sink.events
    assert len(sink.loss()) == 5


def test_the_graph_of_a_step_dies_with_the_step(sink):
    model = mlp()
    session = watched(model, sink)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hidden = model[1](model[0](torch.randn(5, 6)))
    memory = memory_of(hidden)
    loss = model[2](hidden).sum()
    loss.backward()
    optimizer.step()
    del hidden, loss
    assert memory.expired()
    session.close()


def test_live_tensors_do_not_grow_over_200_steps(sink):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    session = watched(model, sink)
    train(model, optimizer, 20)
    session.flush()
    before = tensors_alive()
    train(model, optimizer, 200)
    session.flush()
    assert tensors_alive() <= before
    session.close()
    assert session.faults == 0


def test_this_count_of_live_tensors_can_grow():
    kept = []
    before = tensors_alive()
    kept.append(torch.zeros(3))
    assert tensors_alive() == before + 1


def test_steps_that_wait_for_a_drain_hold_no_graph(sink):
    """Gradients of ``create_graph=True`` carry a graph; a copy of them must not."""
    model = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = watched(model, sink, every=1000)
    refs = []
    for _ in range(3):
        hidden = model[1](model[0](torch.randn(5, 6)))
        refs.append(memory_of(hidden))
        grads = torch.autograd.grad(model[2](hidden).sum(), list(model.parameters()), create_graph=True)
        for p, g in zip(model.parameters(), grads, strict=True):
            p.grad = g
        optimizer.step()
        optimizer.zero_grad()
        del hidden, grads, p, g
    gc.collect()
    assert all(r.expired() for r in refs)
    session.close()
    assert session.faults == 0, sink.events
    assert sink.lives[0, "0"][0]["steps"] == 3


class Refuses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise ValueError("no")


def test_a_backward_that_fails_leaves_no_graph_behind(sink):
    model = mlp()
    gc.disable()  # what is freed is freed at once, with nothing to collect
    session = watched(model, sink)
    refs = []
    for _ in range(3):
        x = torch.randn(5, 6)
        refs.append(memory_of(x))  # kept by the first layer's node, which this backward never reaches
        hidden = model[1](Refuses.apply(model[0](x)))
        with pytest.raises(ValueError, match="no"):
            model[2](hidden).sum().backward()
        del hidden, x
    try:
        assert all(r.expired() for r in refs)
    finally:
        gc.enable()
        session.close()


def test_a_reading_that_fails_half_way_leaves_no_graph_behind(sink, monkeypatch):
    from defib.capture.reading import Reading

    real, calls = Reading._behind, []

    def behind(self, tap):
        calls.append(tap.wiring.site)
        if len(calls) % 2 == 0:
            raise RuntimeError("planted at the second activation")
        return real(self, tap)

    monkeypatch.setattr(Reading, "_behind", behind)
    model = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 7), nn.ReLU(), nn.Linear(7, 3))
    session = watched(model, sink)
    refs = []
    for _ in range(2):
        hidden = model[:4](torch.randn(5, 6))
        refs.append(memory_of(hidden))
        model[4](hidden).sum().backward()
        del hidden
    refs += [weakref.ref(p) for p in model.parameters()]
    del model
    gc.collect()
    assert session.faults == 2
    assert all(r.expired() for r in refs[:2])
    assert [r() for r in refs[2:]] == [None] * 6, "a hook left on a node keeps the node and its leaves"
    session.close()


def test_hooks_are_off_a_retained_graph_after_its_backward(sink):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = watched(model, sink)
    loss = model(torch.randn(5, 6)).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    session.close()
    seen = {k: t.count.sum() for k, (_, t) in sink.windows.items()}
    session_after = watched(mlp(), Memory())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()  # the step changed the weights: that is torch's own word, and ours is not heard
    session_after.close()
    assert {k: t.count.sum() for k, (_, t) in sink.windows.items()} == seen


def test_a_new_optimizer_at_the_address_of_a_dead_one_is_a_new_one(sink):
    """CPython reuses addresses; as many optimisers are reported as there were."""
    model = mlp()
    session = watched(model, sink)
    ids = set()
    for made in range(1, 101):
        # Of many new ones, one at an address that a dead one had, if there is one.
        made_now = [torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(64)]
        optimizer = next((o for o in made_now if id(o) in ids), made_now[0])
        del made_now
        train(model, optimizer, 3)
        ids.add(id(optimizer))
        del optimizer
        gc.collect()
        if made > len(ids) or made == 60:
            break
    session.close()
    assert session.faults == 0, sink.events
    assert len(ids) < made, "no address was reused, so nothing was tested"
    assert sorted(sink.optimizers) == list(range(made))
    assert all(facts["steps"] == 3 for facts in sink.optimizers.values())
    assert all(len(sink.loss(i)) == 3 for i in range(made))
    assert all(sink.lives[i, "0"][0]["steps"] == 3 for i in range(made))


def test_a_new_model_at_the_address_of_a_dead_one_is_not_taken_for_it(sink):
    model = mlp()
    session = watched(model, sink)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
    session.flush()
    readings = session.readings
    del model
    gc.collect()
    for _ in range(8):
        other = mlp()
        train(other, torch.optim.SGD(other.parameters(), lr=0.1), 1)
        del other
        gc.collect()
    session.close()
    assert session.readings == readings, "the training of a stranger was recorded as the model's"
    assert sorted(sink.optimizers) == [0]


def test_the_users_saved_tensor_hooks_are_called_as_often_as_without_us(sink):
    def count(watch: bool):
        torch.manual_seed(0)
        model = mlp()
        calls = {"pack": 0, "unpack": 0}

        def pack(t):
            calls["pack"] += 1
            return t

        def unpack(t):
            calls["unpack"] += 1
            return t

        session = watched(model, sink) if watch else None
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
                loss = F.cross_entropy(model(torch.randn(5, 6)), torch.randint(3, (5,)))
            loss.backward()
            optimizer.step()
        if session is not None:
            session.close()
            assert session.faults == 0, sink.events
        return calls

    bare = count(False)
    assert bare["unpack"] > 0
    assert count(True) == bare
    assert any("recomputed" in u["why"] for u in sink.known["unseen"])


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_checkpointed_part_is_recomputed_as_often_as_without_us(use_reentrant, sink):
    def count(watch: bool):
        torch.manual_seed(0)
        model, calls = mlp(), []

        def body(x):
            calls.append(1)
            return model[1](model[0](x))

        session = watched(model, sink) if watch else None
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            x = torch.randn(5, 6, requires_grad=True)
            model[2](checkpoint(body, x, use_reentrant=use_reentrant)).sum().backward()
            optimizer.step()
        if session is not None:
            session.close()
            assert session.faults == 0, sink.events
        return len(calls)

    assert count(False) == 6
    assert count(True) == 6


def test_a_closed_recorder_holds_nothing_of_the_users(sink):
    model = mlp()
    recorder = Recorder(sink, [model], every=1)
    session = Session(recorder, sink)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer, 2)
    session.close()
    refs = [weakref.ref(p) for p in model.parameters()]
    del model, optimizer
    gc.collect()
    assert [r() for r in refs] == [None] * 4
    assert recorder is session._recorder
