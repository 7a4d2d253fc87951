"""Signal and gradient of each layer, and units that are off from the start."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from defib.core.checkup import Checkup, LayerCheck
from defib.core.finding import Severity
from defib.probe.checkup import check_up
from defib.probe.layers import expected_off


def layer(checkup: Checkup, path: str) -> LayerCheck:
    return next(x for x in checkup.layers if x.path == path)


def positive_digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[:128] / 16), torch.tensor(labels[:128])


def test_signal_and_gradient_are_those_that_autograd_gives_by_itself() -> None:
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(inplace=True), nn.Linear(32, 10)).double()
    x, y = positive_digits()
    z = model[0](x)
    out = model[2](z.relu())
    grad = torch.autograd.grad(nn.functional.cross_entropy(out, y), [z, model[0].weight, model[0].bias])
    z = z.detach()
    found = layer(check_up(model, (x, y)), "0")
    assert found.signal == pytest.approx(float(z.square().mean().sqrt()), rel=1e-9)
    assert found.gradient == pytest.approx(float(grad[0].square().mean().sqrt()), rel=1e-9)
    assert found.weight_gradient == pytest.approx(
        math.hypot(float(grad[1].norm()), float(grad[2].norm())), rel=1e-9
    )
    assert found.gain == pytest.approx(float(model[0].weight.detach().norm()) / math.sqrt(32), rel=1e-9)
    assert found.off == int((z <= 0).all(0).sum())


# Last-layer RMS of 20 ReLU layers of 256 units, from the reference table.
@pytest.mark.parametrize(
    ("how", "rms"), [("default", 1.7e-8), ("xavier", 7.7e-4), ("he", 0.79), ("small", 9e-20), ("unit", 9e20)]
)
def test_the_signal_is_choked_off_as_far_as_it_is_known_to_be(how: str, rms: float) -> None:
    modules: list[nn.Module] = []
    for i in range(20):
        linear = nn.Linear(256 if i else 64, 256, bias=False)
        if how == "xavier":
            nn.init.xavier_normal_(linear.weight)
        elif how == "he":
            nn.init.kaiming_normal_(linear.weight)
        elif how != "default":
            nn.init.normal_(linear.weight, std=0.01 if how == "small" else 1.0)
        modules += [linear, nn.ReLU()]
    model = nn.Sequential(*modules, nn.Linear(256, 10)).double()
    x, y = positive_digits()
    x = (x - x.mean(0)) / x.std()
    last = layer(check_up(model, (x, y)), "38").signal / math.sqrt(2)  # behind a ReLU half of it is left
    # Half a decade either way after 20 random layers; the settings lie three decades and more apart.
    assert abs(math.log10(last) - math.log10(rms)) < 0.5


def test_units_that_are_off_for_the_whole_batch_are_counted_one_by_one() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    with torch.no_grad():
        model[0].bias[:3] = -100.0
    x, y = positive_digits()
    found = layer(check_up(model, (x.float().view(-1, 1, 8, 8), y)), "0")
    with torch.no_grad():
        truth = (model[0](x.float().view(-1, 1, 8, 8)) <= 0).all(0).all(1).all(1)
    assert truth[:3].all()
    assert (found.units, found.off) == (8, int(truth.sum()))


def test_the_expected_share_of_born_dead_units_is_that_of_simulated_ones() -> None:
    # Inputs of equal pairwise correlation; weights drawn as the theory has it.
    for share, points in ((0.9, 32), (0.6, 16), (0.99, 128)):
        common, own = torch.randn(1, 512), torch.randn(points, 512)
        x = math.sqrt(share) * common + math.sqrt(1 - share) * own
        z = x @ torch.randn(512, 8192) / math.sqrt(512)
        unit = x / x.norm(dim=1, keepdim=True)
        cosine = float((unit.sum(0).square().sum() - points) / (points * (points - 1)))
        simulated = float((z <= 0).all(0).float().mean())
        assert expected_off(points, cosine) == pytest.approx(simulated, abs=0.02)


def test_the_expected_share_is_a_half_for_one_point_and_nothing_for_many_independent_ones() -> None:
    assert expected_off(1, 0.0) == pytest.approx(0.5, abs=1e-6)
    assert expected_off(10, 0.0) == pytest.approx(2**-10, rel=1e-6)
    assert expected_off(64, 1.0) == 0.5
    assert math.isnan(expected_off(0, 0.3))


def test_a_layer_that_is_wholly_off_is_the_one_finding() -> None:
    model = nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
    ).double()
    nn.init.constant_(model[2].bias, -100.0)
    (finding,) = check_up(model, positive_digits()).findings
    assert (finding.rule, finding.layer, finding.cause.value) == ("dead-unit", "2", "born-dead")
    assert finding.severity is Severity.ERROR


def test_a_module_that_is_not_called_is_not_seen_and_no_alarm() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(64, 10), nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            x.sum().detach()
            return self.used(x)

    checkup = check_up(Net().double(), positive_digits())
    assert not checkup.findings
    assert [(u.what, u.why) for u in checkup.unseen] == [("spare", "not called")]


def test_a_long_recurrence_may_forget_without_an_alarm() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.GRUCell(8, 16), nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            state = x.new_zeros(len(x), 16)
            for step in range(80):
                state = self.cell(x[:, 8 * (step % 8) : 8 * (step % 8) + 8], state)
            return self.head(state)

    checkup = check_up(Net().double(), positive_digits())
    assert checkup.ledger is not None
    assert checkup.ledger.gain.total < -3, "it forgets, or this says nothing"
    assert max(s.uses for s in checkup.ledger.stretches) == 80
    assert not checkup.findings
