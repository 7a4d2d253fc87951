"""What is read equals what autograd computes, taken independently; and the wiring is the network's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from memory import Memory
from torch import Tensor, nn

from defib.capture.naming import Names
from defib.capture.preactivation import recompute
from defib.capture.session import start
from defib.capture.walk import walk
from defib.core.site import Signal, Site

ACTIVATIONS = {
    "relu": F.relu,
    "relu_by_clamp": lambda z: z.clamp(min=0),
    "leaky_relu": lambda z: F.leaky_relu(z, 0.1),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "silu": F.silu,
    "elu": F.elu,
    "softplus": F.softplus,
    "hardtanh": F.hardtanh,
}
SIGNALS = (Signal.ACTIVATION, Signal.PREACTIVATION, Signal.ACTIVATION_GRAD, Signal.PREACTIVATION_GRAD)


class Block(nn.Module):
    """A layer, an activation and a head; keeps nothing."""

    def __init__(self, layer: nn.Module, act: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer, self.act = layer, ACTIVATIONS[act]
        self.head = nn.LazyLinear(3)
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.layer(x)).flatten(1))


LAYERS = {
    "linear": (lambda: nn.Linear(6, 7), (6,)),
    "conv": (lambda: nn.Conv2d(2, 7, 3), (2, 5, 5)),
    "conv1d": (lambda: nn.Conv1d(2, 7, 3), (2, 9)),
    "batch_norm": (lambda: nn.Sequential(nn.Conv2d(2, 7, 3, bias=False), nn.BatchNorm2d(7)), (2, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(2, 7, 3, bias=False), (2, 5, 5)),
}


def independently(model: Block, x: Tensor, y: Tensor) -> dict[Signal, Tensor]:
    """All four signals by hand: leaves in the middle, ``torch.autograd.grad``, no watcher."""
    z = model.layer(x).detach().requires_grad_()
    h = model.act(z)
    loss = F.cross_entropy(model.head(h.flatten(1)), y)
    dh, dz = torch.autograd.grad(loss, (h, z))
    return dict(zip(SIGNALS, (h.detach(), z.detach(), dh, dz), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("kind", LAYERS)
def test_all_four_signals_equal_an_independent_computation(kind, act, dtype, sink):
    torch.manual_seed(0)
    build, shape = LAYERS[kind]
    model = Block(build(), act, dtype)
    x, y = torch.randn(8, *shape, dtype=dtype) * 2, torch.randint(3, (8,))
    model(x)
    wanted = independently(model, x, y)
    session = start(model, sink=sink, every=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    session.close()

    assert session.faults == 0, sink.events
    path = "layer.1" if kind == "batch_norm" else "layer"
    must_have = {Signal.ACTIVATION_GRAD, Signal.PREACTIVATION_GRAD}
    seen = {signal for site, signal, _ in sink.windows if site.path == path}
    assert must_have < seen
    if act in {"relu", "tanh"}:
        assert seen == set(SIGNALS), "autograd keeps only h here, so z was to be recomputed"
    for signal in seen:
        tally, truth = sink.tally(path, signal), wanted[signal].double().transpose(0, 1).flatten(1)
        assert tally.units == 7
        assert tally.samples == 8
        close = {"rtol": 1e-4, "atol": 1e-5}
        if tally.count[0] == truth.shape[1]:
            np.testing.assert_allclose(tally.total, truth.sum(1).numpy(), **close)
            np.testing.assert_allclose(tally.squares, (truth**2).sum(1).numpy(), **close)
            np.testing.assert_allclose(tally.low, truth.amin(1).numpy(), **close)
            np.testing.assert_allclose(tally.high, truth.amax(1).numpy(), **close)
        else:
            assert signal in {Signal.ACTIVATION, Signal.PREACTIVATION}, (
                "gradients are never a part of the batch"
            )
    flow = dict(sink.flows)[0]
    assert flow.keys() == {(s, g) for s, g, _ in sink.windows}
    for signal in must_have:
        rms = wanted[signal].double().square().mean().sqrt().item()
        assert flow[Site(path=path), signal] == pytest.approx(rms, rel=1e-4)


def test_gradients_under_a_loss_scale_are_reported_without_it(sink):
    torch.manual_seed(0)
    model = Block(nn.Linear(6, 7), "tanh", torch.float32)
    x, y = torch.randn(8, 6), torch.randint(3, (8,))
    model(x)
    wanted = independently(model, x, y)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    session = start(model, sink=sink, every=1)
    loss = F.cross_entropy(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    session.close()
    assert session.faults == 0, sink.events
    for signal in (Signal.ACTIVATION_GRAD, Signal.PREACTIVATION_GRAD):
        np.testing.assert_allclose(
            sink.tally("layer", signal).squares, wanted[signal].double().square().sum(0).numpy(), rtol=1e-4
        )
    assert sink.loss()[0] == pytest.approx(loss.item())
    sizes = dict(zip(sink.sizes[0][1], sink.sizes[0][2][0], strict=True))
    true = torch.autograd.grad(F.cross_entropy(model(x), y), model.layer.weight)[0].norm().item()
    assert sizes["layer.weight"] == pytest.approx(true, rel=1e-4)


def test_norms_equal_what_the_step_did(sink):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    session = start(model, sink=sink, every=1)
    truth = []
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(5, 6)), torch.randint(3, (5,))).backward()
        before = [p.detach().clone() for p in model.parameters()]
        grads = [p.grad.clone() for p in model.parameters()]
        optimizer.step()
        after = [p.detach() for p in model.parameters()]
        rows = [[g.norm() for g in grads], [b.norm() for b in before],
                [(a - b).norm() for a, b in zip(after, before, strict=True)],
                [((a == b) & (g != 0)).sum() / (g != 0).sum()
                 for a, b, g in zip(after, before, grads, strict=True)]]  # fmt: skip
        truth.append(np.array([[float(v) for v in row] for row in rows]))
    session.close()
    assert [s for s, _, _ in sink.sizes] == [0, 1, 2]
    for (_, names, values), wanted in zip(sink.sizes, truth, strict=True):
        assert names == ("0.weight", "0.bias", "2.weight", "2.bias")
        np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-7)


def test_losses_arrive_for_every_step_in_order(sink):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    session = start(model, sink=sink, every=9)
    losses = []
    for _ in range(300):  # more than wait for one drain
        optimizer.zero_grad()
        loss = F.mse_loss(model(torch.randn(4, 3)), torch.zeros(4, 2))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    session.close()
    np.testing.assert_array_equal(sink.loss(), np.array(losses, np.float32))
    assert sink.optimizers[0]["steps"] == 300


def test_weights_and_biases_in_two_optimizers_are_one_reading(sink):
    """One for matrices, one for vectors (Muon beside AdamW): nothing is counted twice."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))
    matrices = torch.optim.SGD([p for p in model.parameters() if p.ndim == 2], lr=0.1)
    vectors = torch.optim.Adam([p for p in model.parameters() if p.ndim == 1], lr=0.1)
    session = start(model, sink=sink, every=1)
    for _ in range(3):
        F.cross_entropy(model(torch.randn(5, 6)), torch.randint(3, (5,))).backward()
        matrices.step()
        vectors.step()
    session.close()
    assert session.faults == 0
    for signal in SIGNALS:
        assert sink.tally("0", signal).samples == 15, signal


def test_accumulated_micro_batches_are_one_step_with_all_their_samples(sink):
    model = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = start(model, sink=sink, every=1)
    for _ in range(2):
        for _ in range(4):
            F.cross_entropy(model(torch.randn(5, 6)), torch.randint(3, (5,))).backward()
        optimizer.step()
        optimizer.zero_grad()
    session.close()
    assert sink.tally("0", Signal.ACTIVATION).samples == 2 * 4 * 5
    assert [s for s, _ in sink.flows] == [0, 1]


def test_every_evaluation_of_a_closure_is_read(sink):
    model = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    x, y = torch.randn(5, 6), torch.randint(3, (5,))
    calls = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        calls.append(loss)
        return loss

    session = start(model, sink=sink, every=1)
    optimizer.step(closure)
    session.close()
    assert session.faults == 0
    assert sink.tally("0", Signal.ACTIVATION_GRAD).samples == 5 * len(calls) > 5


def test_optimizers_that_step_inside_backward_get_their_readings(sink):
    model = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(
            lambda p: (optimizers[p].step(), optimizers[p].zero_grad(), None)[-1]
        )
    session = start(model, sink=sink, every=1)
    for _ in range(3):
        F.cross_entropy(model(torch.randn(5, 6)), torch.randint(3, (5,))).backward()
    session.close()
    assert session.faults == 0
    for signal in (Signal.ACTIVATION, Signal.ACTIVATION_GRAD, Signal.PREACTIVATION_GRAD):
        assert sink.tally("0", signal).samples == 15


def test_a_generator_is_not_charged_with_what_the_discriminator_did(sink):
    g, d = (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)) for _ in range(2))
    opt_g, opt_d = torch.optim.SGD(g.parameters(), lr=0.1), torch.optim.SGD(d.parameters(), lr=0.1)
    session = start([g, d], sink=sink, every=1)
    for _ in range(2):
        d(g(torch.randn(3, 4)).detach()).mean().backward()
        opt_d.step()
        d(g(torch.randn(5, 4))).mean().backward()
        opt_g.step()
        d.zero_grad()
    session.close()
    paths = {layer.path for layer in sink.modules}
    g_first, d_first = sorted(p for p in paths if p.endswith(".0"))
    by_samples = {p: sink.tally(p, Signal.ACTIVATION).samples for p in (g_first, d_first)}
    assert sorted(by_samples.values()) == [6, 10]


def test_validation_is_not_mixed_into_the_readings(sink):
    model = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = start(model, sink=sink, every=1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 6)).sum().backward()
        optimizer.step()
        model(torch.randn(100, 6)).sum()
    session.close()
    assert sink.tally("0", Signal.ACTIVATION).samples == 15


# -- wiring ----------------------------------------------------------------------


def wirings(model: nn.Module, *inputs: Tensor) -> Memory:
    sink = Memory()
    session = start(model, sink=sink, every=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(*inputs).sum().backward()
    optimizer.step()
    session.close()
    assert session.faults == 0, sink.events
    return sink


def site(path: str, call: int = 0) -> Site:
    return Site(path=path, call=call)


def test_wiring_of_a_chain():
    sink = wirings(
        nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1)),
        torch.randn(3, 4),
    )
    first, second = sink.wired
    assert (first.site, first.activation, first.units, first.inputs) == (site("0"), "relu", 5, ())
    assert (second.site, second.activation, second.units, second.inputs) == (
        site("2"),
        "tanh",
        6,
        (site("0"),),
    )
    assert (first.modules, second.modules) == (("0", "1"), ("2", "3"))
    assert (first.order, second.order) == (0, 1)
    assert first.skips == second.skips == ()
    assert not first.normalised


def test_wiring_of_a_residual_block():
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.a(x))
            return self.out(F.relu(h + self.b(h)))

    sink = wirings(Residual(), torch.randn(3, 4))
    block = sink.wiring("b")
    assert block.inputs == (site("a"),)
    assert block.skips == (site("a"),)
    assert sink.wiring("a").skips == ()


def test_wiring_through_batch_norm():
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), Flat(), nn.Linear(45, 1)
    )
    sink = wirings(model, torch.randn(3, 2, 5, 5))
    (only,) = sink.wired
    assert only.site == site("1")
    assert only.normalised
    assert only.modules == ("0", "1", "2")
    assert only.units == 5


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def test_wiring_of_a_shared_module_counts_its_calls():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.out = nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = torch.relu(self.fc(x))
            return self.out(x)

    sink = wirings(Shared(), torch.randn(3, 4))
    assert [w.site for w in sink.wired] == [site("fc", 0), site("fc", 1), site("fc", 2)]
    assert [w.inputs for w in sink.wired] == [(), (site("fc", 0),), (site("fc", 1),)]


def test_wiring_of_two_inputs_that_are_joined():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.join, self.out = (
                nn.Linear(4, 3),
                nn.Linear(5, 3),
                nn.Linear(6, 4),
                nn.Linear(4, 1),
            )

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            both = torch.cat([F.relu(self.a(x)), torch.tanh(self.b(y))], 1)
            return self.out(F.gelu(self.join(both)))

    sink = wirings(Two(), torch.randn(3, 4), torch.randn(3, 5))
    assert set(sink.wiring("join").inputs) == {site("a"), site("b")}
    assert sink.wiring("a").inputs == sink.wiring("b").inputs == ()
    assert sink.wiring("join").activation == "gelu"


def test_an_embedding_has_its_units_along_the_second_axis():
    model = nn.Sequential(nn.Embedding(50, 6), nn.ReLU(), nn.Linear(6, 1))
    sink = wirings(model, torch.randint(50, (3, 4)))
    assert sink.wiring("0").units == 6
    assert sink.tally("0", Signal.ACTIVATION).units == 6
    assert sink.lives[0, "0"][1].shape == (5, 6)


def test_a_sparse_embedding_under_an_activation_is_no_fault():
    model = nn.Sequential(nn.Embedding(50, 6, sparse=True), nn.ReLU(), nn.Linear(6, 1))
    sink = wirings(model, torch.randint(50, (3, 4)))
    assert sink.lives[0, "0"][0]["steps"] == 0, "nothing is said of what was not read"
    assert sink.lives[0, "2"][0]["steps"] == 1


# -- the pre-activation that autograd did not keep ----------------------------------


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.Linear(6, 7), (300, 6)),
        (lambda: nn.Linear(6, 7, bias=False), (9, 6)),
        (lambda: nn.Linear(6, 7), (4, 5, 6)),
        (lambda: nn.Linear(6, 7).bfloat16(), (9, 6)),
        (lambda: nn.Conv2d(2, 6, 3, stride=2, padding=1, dilation=2, groups=2), (5, 2, 9, 9)),
        (lambda: nn.Conv1d(2, 6, 3, bias=False), (5, 2, 9)),
        (lambda: nn.ConvTranspose2d(2, 6, 3, stride=2, output_padding=1), (5, 2, 4, 4)),
        (lambda: nn.BatchNorm1d(6), (8, 6)),
        (lambda: nn.BatchNorm2d(6), (8, 6, 3, 3)),
        (lambda: nn.BatchNorm2d(6).eval(), (8, 6, 3, 3)),
    ],
)
def test_a_recomputed_preactivation_equals_the_true_one(layer, shape):
    torch.manual_seed(0)
    module = layer()
    x = torch.randn(shape, dtype=next(module.parameters()).dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    for name, buffer in module.named_buffers():
        if name.startswith("running"):
            buffer.uniform_(0.5, 2.0)
    z = module(x)
    graph = walk([F.relu(z).sum().grad_fn], Names([module]))
    (tap,) = graph.taps
    found = recompute(tap)
    assert found is not None
    truth = (
        z.detach().reshape(-1, z.shape[-1]) if z.ndim == 3 and isinstance(module, nn.Linear) else z.detach()
    )
    assert found.shape[1:] == truth.shape[1:]
    loose = 0.02 if x.dtype is torch.bfloat16 else 1e-5
    torch.testing.assert_close(found, truth[: len(found)], rtol=loose, atol=loose)


def test_nothing_is_recomputed_where_something_stands_between():
    module = nn.Linear(6, 7)
    graph = walk([F.relu(module(torch.randn(3, 6)) * 2).sum().grad_fn], Names([module]))
    assert recompute(graph.taps[0]) is None
