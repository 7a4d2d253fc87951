"""Nets written by hand from tensors, without any module: they are seen like others."""

import pytest
import torch
import torch.nn.functional as F

import defib


def train(parameters, forward, steps=60, lr=0.02):
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(parameters, lr=lr)
    x = torch.randn(64, 6, generator=generator)
    y = x[:, :1] - x[:, 1:2]
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.mse_loss(forward(x), y)
        loss.backward()
        optimizer.step()


def tensors(dead=5, width=16):
    generator = torch.Generator().manual_seed(1)
    w1 = torch.randn(6, width, generator=generator).mul_(0.5).requires_grad_()
    b1 = torch.zeros(width)
    b1[:dead] = -40.0
    b1.requires_grad_()
    w2 = torch.randn(width, 1, generator=generator).mul_(0.3).requires_grad_()
    b2 = torch.zeros(1, requires_grad=True)
    return w1, b1, w2, b2


def seen(run):
    return {layer.path: (layer.kind, layer.units, layer.parameters) for layer in run.view.layers}


def dead_units(run):
    return {f.layer: f.units for f in run.diagnose().findings if f.rule == "dead-unit"}


@pytest.mark.parametrize("weights_first", [False, True])
def test_variables_name_layers_and_their_dead_units_are_found(tmp_path, weights_first):
    w1, b1, w2, b2 = tensors()
    with defib.watch(output=tmp_path / "a.rec", every=5) as run:
        order = [w1, w2, b1, b2] if weights_first else [w1, b1, w2, b2]
        train(order, lambda x: torch.relu(x @ w1 + b1) @ w2 + b2)
    assert seen(run) == {"w1": ("Tensor", 16, ("w1", "b1")), "w2": ("Tensor", 1, ("w2", "b2"))}
    assert dead_units(run) == {"w1": (0, 1, 2, 3, 4)}
    assert run.view.facts is not None
    assert run.readings > 0
    assert run.faults == 0


def test_units_lie_along_the_first_axis_where_the_bias_says_so(tmp_path):
    w1, b1, w2, b2 = tensors()
    w1 = w1.detach().T.contiguous().requires_grad_()
    w2 = w2.detach().T.contiguous().requires_grad_()
    with defib.watch(output=tmp_path / "a.rec", every=5) as run:
        train([w1, b1, w2, b2], lambda x: F.linear(torch.relu(F.linear(x, w1, b1)), w2, b2))
    assert seen(run)["w1"][1] == 16
    assert dead_units(run) == {"w1": (0, 1, 2, 3, 4)}


def test_tensors_in_a_list_or_a_dictionary_are_named_by_their_place(tmp_path):
    layers = list(tensors())
    with defib.watch(output=tmp_path / "a.rec", every=5) as run:
        train(layers, lambda x: torch.relu(x @ layers[0] + layers[1]) @ layers[2] + layers[3])
    # "parameters" is the name that the innermost function has for the list.
    assert set(seen(run)) == {"parameters[0]", "parameters[2]"}


def test_an_input_that_wants_a_gradient_is_no_layer(tmp_path):
    w1, b1, w2, b2 = tensors()
    with defib.watch(output=tmp_path / "a.rec", every=5) as run:
        train([w1, b1, w2, b2], lambda x: torch.relu(x.requires_grad_() @ w1 + b1) @ w2 + b2)
    assert set(seen(run)) == {"w1", "w2"}


def test_a_flattened_model_is_no_layer_and_modules_keep_their_names(tmp_path):
    flat = torch.randn(6).requires_grad_()
    with defib.watch(output=tmp_path / "a.rec", every=5) as run:
        train([flat], lambda x: (x * flat).sum(1, keepdim=True))
    assert seen(run) == {}
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    with defib.watch(output=tmp_path / "b.rec", every=5) as run:
        train(net.parameters(), net)
    assert set(seen(run)) == {"0", "2"}


def test_watching_changes_no_bit_of_a_net_of_tensors(tmp_path):
    def final(watched):
        w1, b1, w2, b2 = tensors()
        run = defib.watch(output=tmp_path / "a.rec", every=3) if watched else None
        train([w1, b1, w2, b2], lambda x: torch.relu(x @ w1 + b1) @ w2 + b2)
        if run is not None:
            run.close()
            assert run.readings > 5
        return [p.detach().clone() for p in (w1, b1, w2, b2)]

    assert all(torch.equal(a, b) for a, b in zip(final(False), final(True), strict=True))
