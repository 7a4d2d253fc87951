"""Many nets at once learn what each would learn alone."""

import pytest
import torch

from defib.lab.crowd import Crowd, MemberPReLU, train_crowd
from defib.lab.stacks import cross_entropy

SIZES = (4, 6, 3)


def crowd(members=3, activation=torch.tanh, **kwargs):
    generator = torch.Generator().manual_seed(1)
    return Crowd(members, SIZES, activation, generator, dtype=torch.float64, **kwargs)


def data(count=40):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(count, SIZES[0], generator=generator, dtype=torch.float64)
    return x, torch.randint(SIZES[-1], (count,), generator=generator)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_member_learns_what_it_would_learn_alone(kind):
    x, y = data()
    every = crowd()
    alone = crowd()
    for one, of in zip(alone.parameters(), every.parameters(), strict=True):
        one.data = of.data[1:2].clone()
    for nets in (every, alone):
        optimiser = kind(nets.parameters(), lr=0.1)
        for _ in range(5):
            optimiser.zero_grad()
            cross_entropy(nets(x), y).sum().backward()
            optimiser.step()
    torch.testing.assert_close(every(x)[1:2], alone(x))


def test_members_begin_apart_and_training_lowers_every_loss():
    x, y = data()
    nets = crowd()
    assert not torch.equal(nets(x)[0], nets(x)[1])
    before = cross_entropy(nets(x), y)
    optimiser = torch.optim.SGD(nets.parameters(), lr=0.5)
    train_crowd(nets, optimiser, x, y, torch.Generator().manual_seed(3), steps=range(200), size=20)
    assert (cross_entropy(nets(x), y) < before).all()


def test_the_loss_of_each_member_is_its_mean_cross_entropy():
    x, y = data()
    nets = crowd()
    expected = torch.stack([torch.nn.functional.cross_entropy(out, y) for out in nets(x)])
    torch.testing.assert_close(cross_entropy(nets(x), y), expected)


def test_an_accuracy_is_the_share_of_right_answers():
    x, _ = data()
    nets = crowd()
    labels = nets(x)[2].argmax(1)
    assert nets.accuracies(x, labels)[2].item() == 1.0
    assert nets.accuracies(x, labels)[0].item() < 1.0


def test_each_member_learns_a_slope_of_its_own():
    x, y = data()
    slopes = MemberPReLU(3).double()
    nets = crowd(activation=slopes)
    assert any(parameter is slopes.slope for parameter in nets.parameters())
    cross_entropy(nets(x), y)[0].backward()
    gradient = slopes.slope.grad.flatten()
    assert len(gradient) == 3
    assert gradient[0] != 0
    assert (gradient[1:] == 0).all()
