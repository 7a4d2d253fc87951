"""A network as a function of a flat vector says what the same network as modules says."""

import warnings

import pytest
import torch
from torch.func import vmap

from defib.lab.flat import FlatNet, hessian
from defib.lab.nets import linears, mlp


def same_net(sizes):
    net = mlp(sizes, torch.tanh, torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        for layer in linears(net):
            layer.bias.normal_(generator=torch.Generator().manual_seed(1))
    theta = torch.cat([p.detach().flatten() for p in net.parameters()])
    return net, FlatNet(sizes=sizes, activation=torch.tanh), theta


@pytest.mark.parametrize("sizes", [(3, 2), (3, 4, 2), (3, 4, 5, 1)])
def test_a_flat_net_and_the_same_modules_put_out_the_same(sizes):
    net, flat, theta = same_net(sizes)
    x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert flat.count == len(theta)
    assert torch.equal(flat(theta, x), net(x))


def test_starting_weights_have_the_deviation_asked_for_and_biases_theirs():
    flat = FlatNet(sizes=(16, 40, 1), activation=torch.tanh)
    theta = flat.start(50, torch.Generator().manual_seed(0), gain=2.0, bias=0.3)
    first, bias = theta[:, : 16 * 40], theta[:, 16 * 40 : 17 * 40]
    assert float(first.std()) == pytest.approx(2 / 4, rel=0.02)
    assert float(bias.std()) == pytest.approx(0.3, rel=0.1)
    assert not flat.start(2, torch.Generator().manual_seed(0))[:, 16 * 40 : 17 * 40].any()


def test_the_hessian_is_that_of_autograd_for_one_net_and_for_many_and_warns_of_nothing():
    _, flat, theta = same_net((2, 3, 1))
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(5, 2, dtype=torch.float64, generator=generator)

    def loss(theta, x):
        return flat(theta, x).square().mean()

    expected = torch.autograd.functional.hessian(lambda t: loss(t, x), theta)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        many = vmap(hessian(loss), (0, None))(torch.stack([theta, -theta]), x)
    assert torch.allclose(hessian(loss)(theta, x), expected, atol=1e-12)
    assert torch.allclose(many[0], expected, atol=1e-12)
    assert not torch.allclose(many[1], expected)
