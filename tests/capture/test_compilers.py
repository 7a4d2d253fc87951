"""Compilers and tracers neither fail under watch nor compile anything else."""

import os
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from small import mlp, same, train, watched, weights
from torch import nn
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx


def compiled_run(sink, watch: str, backend: str = "aot_eager", whole_step: bool = False):
    """Weights and dynamo's own counts of one compiled training."""
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    model = mlp()
    session = watched(model, sink) if watch == "before" else None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch|copyreg")
        compiled = torch.compile(model, backend=backend, fullgraph=True)
        train(compiled, optimizer, 2)
        session = watched(model, sink) if watch == "after" else session
        train(compiled, optimizer, 4)
    counts = (counters["stats"]["unique_graphs"], dict(counters["graph_break"]), dict(counters["recompiles"]))
    if session is not None:
        session.close()
        assert session.faults == 0, sink.events
    return weights(model), counts


@pytest.mark.parametrize("watch", ["before", "after"])
def test_compiled_training_keeps_its_graph_and_its_bits(watch, sink):
    bare, counts = compiled_run(sink, "never")
    assert counts[:2] == (1, {})
    seen, watched_counts = compiled_run(sink, watch)
    assert watched_counts == counts
    assert same(bare, seen)
    # What is inside a compiled region is not visible, and the record says so; vitals are.
    unseen = {u["what"]: u["why"] for u in sink.known["unseen"]}
    assert set(unseen) == {"0", "2"}
    assert "torch.compile" in unseen["0"]
    assert sink.lives[0, "0"][0]["steps"] == (6 if watch == "before" else 4)


@pytest.mark.slow
@pytest.mark.parametrize("watch", ["before", "after"])
def test_training_compiled_with_inductor_keeps_its_graph_and_its_bits(watch, sink):
    bare, counts = compiled_run(sink, "never", "inductor")
    seen, watched_counts = compiled_run(sink, watch, "inductor")
    assert watched_counts == counts
    assert same(bare, seen)


def test_a_compiled_optimizer_step_is_not_broken(sink):
    def run(watch: bool):
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        step = torch.compile(optimizer.step, backend="eager")
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # dynamo's own
        session = watched(model, sink) if watch else None
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(5, 6)).sum().backward()
            step()
        if session is not None:
            session.close()
            assert session.faults == 0, sink.events
        return weights(model)

    assert same(run(False), run(True))


def test_a_whole_training_step_that_is_compiled_keeps_its_graphs_and_bits(sink):
    def run(watch: bool):
        torch._dynamo.reset()
        counters.clear()
        torch.manual_seed(0)
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        session = watched(model, sink) if watch else None

        def step(x):
            optimizer.zero_grad()
            loss = model(x).square().sum()
            loss.backward()
            optimizer.step()
            return loss

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # dynamo's own
            compiled = torch.compile(step, backend="aot_eager")
            for _ in range(4):
                compiled(torch.randn(5, 6))
        counts = (counters["stats"]["unique_graphs"], sum(counters["graph_break"].values()))
        if session is not None:
            session.close()
            assert session.faults == 0, sink.events
        return weights(model), counts

    bare, counts = run(False)
    seen, watched_counts = run(True)
    assert same(bare, seen)
    assert watched_counts[0] == counts[0], "as many graphs"
    # Dynamo cannot trace ``backward`` and breaks there; it then looks at our function in its place, once.
    assert watched_counts[1] <= counts[1] + 1
    for (_, path), (facts, _) in sink.lives.items():
        assert facts["steps"] in {0, 4}, path


def test_scripting_and_tracing_under_watch(sink):
    model = mlp()
    session = watched(model, sink)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer, 2)
    x = torch.randn(5, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for made in (torch.jit.script(model), torch.jit.trace(model, x)):
            assert torch.equal(made(x), model(x))
            train(made, torch.optim.SGD(made.parameters(), lr=0.1), 1)
    train(model, optimizer, 1)
    session.close()
    assert session.faults == 0, sink.events


def test_export_fx_and_make_fx_see_the_same_graph_under_watch(sink):
    model, x = mlp(), torch.randn(5, 6)

    def graphs():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.export.export(model, (x,))

        def training(weight, x):
            loss = F.cross_entropy(
                torch.func.functional_call(model, {"0.weight": weight}, (x,)), torch.arange(5) % 3
            )
            return torch.autograd.grad(loss, weight)[0]

        traced = make_fx(training)(model[0].weight.detach().requires_grad_(), x)
        symbolic = torch.fx.symbolic_trace(model)
        return [str(g) for g in (exported.graph, traced.graph, symbolic.graph)]

    bare = graphs()
    session = watched(model, sink)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer, 1)
    assert graphs() == bare
    train(model, optimizer, 1)
    session.close()
    assert session.faults == 0, sink.events


def test_make_fx_of_a_whole_backward_bakes_nothing_of_ours_in(sink):
    model = mlp()

    def backward(x):
        model.zero_grad()
        model(x).sum().backward()
        return model[0].weight.grad

    x = torch.randn(5, 6)
    bare = str(make_fx(backward)(x).graph)
    model.zero_grad()
    session = watched(model, sink)
    assert str(make_fx(backward)(x).graph) == bare
    session.close()
    assert session.faults == 0, sink.events


def test_fake_tensors_train_under_watch(sink):
    with FakeTensorMode():
        model = mlp()
        session = watched(model, sink)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.randn(5, 6)).sum().backward()
            optimizer.step()
    session.close()
    assert session.faults == 0, sink.events


def test_meta_tensors_train_under_watch(sink):
    with torch.device("meta"):
        model = mlp()
    session = watched(model, sink)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(5, 6, device="meta")).sum().backward()
        optimizer.step()
    session.close()
    assert session.faults == 0, sink.events


def test_compiled_autograd_is_left_alone(sink):
    from torch._dynamo import compiled_autograd

    def run(watch: bool):
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        session = watched(model, sink) if watch else None
        for _ in range(2):
            optimizer.zero_grad()
            loss = model(torch.randn(5, 6)).sum()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # dynamo's own
                with compiled_autograd._enable(torch.compile(backend="eager")):
                    loss.backward()
            optimizer.step()
        if session is not None:
            session.close()
            assert session.faults == 0, sink.events
            assert not sink.windows, "its graph was walked while torch compiled it"
            assert sink.lives[0, "0"][0]["steps"] == 2
        return weights(model)

    assert same(run(False), run(True))


def test_a_network_on_the_wrong_side_of_a_warning_filter(tmp_path):
    """The whole life of a watch, with every warning an error."""
    script = tmp_path / "train.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import torch\n"
        "from memory import Memory\nfrom small import mlp, train, watched\n"
        "model = mlp(); sink = Memory(); session = watched(model, sink)\n"
        "train(model, torch.optim.AdamW(model.parameters()), 5)\n"
        "session.close(); assert session.faults == 0 and sink.windows\n"
    )
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), here], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_lazy_layers_get_their_names_when_they_have_shapes(sink):
    model = nn.Sequential(nn.LazyLinear(7), nn.ReLU(), nn.LazyLinear(3))
    session = watched(model, sink)
    model(torch.randn(5, 6))
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 3)
    session.close()
    assert session.faults == 0, sink.events
    assert {layer.path: layer.units for layer in sink.modules} == {"0": 7, "2": 3}
    assert sink.wirings
    assert sink.wiring("0").units == 7
    assert sink.lives[0, "0"][0]["steps"] == 3
