"""A stack of networks must behave as its networks do alone."""

import pytest
import torch

from defib.lab.nets import linears, mlp
from defib.lab.stacks import Stack, dead, draw, fit

X = torch.randn(20, 5, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
Y = torch.arange(20) % 3


def _alone(stack: Stack, which: int) -> torch.nn.Sequential:
    net = mlp((5, 6, 4, 3), torch.relu, torch.Generator(), dtype=torch.float64)
    with torch.no_grad():
        for layer, weight, bias in zip(linears(net), stack.weights, stack.biases, strict=True):
            layer.weight.copy_(weight[which])
            layer.bias.copy_(bias[which, 0])
    return net


def _hidden(net: torch.nn.Sequential, x: torch.Tensor) -> list[torch.Tensor]:
    outputs = []
    for layer in net:
        x = layer(x)
        outputs.append(x)
    return outputs[1:-1:2]


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_a_stack_trains_each_network_as_if_it_were_alone(penalty: float) -> None:
    stack = draw(3, (5, 6, 4, 3), torch.Generator().manual_seed(1), bias=0.3, dtype=torch.float64)
    nets = [_alone(stack, which) for which in range(3)]
    order = [torch.arange(20) % 7 != k for k in range(5)]
    together = torch.optim.Adam(stack.parameters(), lr=0.05)
    losses = fit(stack, together, X, Y, order, torch.relu, penalty=penalty)
    for which, net in enumerate(nets):
        optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
        for step, chosen in enumerate(order):
            loss = torch.nn.functional.cross_entropy(net(X[chosen]), Y[chosen])
            torch.testing.assert_close(losses[step, which], loss.detach())
            optimiser.zero_grad()
            sizes = [h.abs().mean(0).sum() for h in _hidden(net, X[chosen])]
            torch.autograd.backward(loss + penalty * torch.stack(sizes).sum())
            optimiser.step()
        torch.testing.assert_close(stack.sums(X, torch.relu)[-1][which], net(X))


def test_a_unit_is_dead_only_if_it_is_negative_for_every_sample() -> None:
    sums = torch.tensor([[[-1.0, 1.0, 0.0], [-2.0, -1.0, -1.0]]])
    assert dead(sums).tolist() == [[True, False, True]]


def test_every_network_of_a_stack_may_have_inputs_of_its_own() -> None:
    stack = draw(2, (5, 3), torch.Generator().manual_seed(1), dtype=torch.float64)
    own = torch.stack([X, 2 * X])
    torch.testing.assert_close(stack.sums(own, torch.relu)[0][0], stack.sums(X, torch.relu)[0][0])
    torch.testing.assert_close(stack.sums(own, torch.relu)[0][1], 2 * stack.sums(X, torch.relu)[0][1])
