"""Shapes, kinds of numbers, last activations, and gradients that cannot arrive."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from defib.core.checkup import Checkup
from defib.core.diagnosis import Verdict
from defib.core.errors import UsageError
from defib.core.finding import Severity
from defib.probe.checkup import check_up

torch.manual_seed(0)  # the networks below are drawn while this file is read
X = torch.linspace(-2, 2, 32 * 8).view(32, 8).sin()


def net(outputs: int, *last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, outputs), *last)


def classes(n: int = 4) -> Tensor:
    return torch.arange(32) % n


def causes(checkup: Checkup) -> list[tuple[str, str]]:
    return [(f.cause.value, f.severity.value) for f in checkup.findings]


def subtraction(out: Tensor, y: Tensor) -> Tensor:
    return ((out - y) ** 2).mean()


def far_off(out: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy(100 * out, y)


SICK: list[tuple[nn.Module, Tensor, Callable[..., Any], str]] = [
    (net(1), torch.rand(32), F.mse_loss, "shapes-broadcast"),
    (net(1), torch.rand(32), subtraction, "shapes-broadcast"),
    (net(1), torch.rand(32), lambda o, y: (y - o).abs().mean(), "shapes-broadcast"),
    (net(4), classes(5), F.cross_entropy, "labels-outside"),
    (net(4), torch.full((32,), -100), F.cross_entropy, "labels-ignored"),
    (net(4), classes().float(), F.cross_entropy, "integer-targets"),
    (net(1), classes(1), F.cross_entropy, "softmax-over-one"),
    (net(1, nn.Softmax(dim=1)), torch.rand(32, 1), F.mse_loss, "softmax-over-one"),
    (net(4, nn.Softmax(dim=1)), classes(), F.cross_entropy, "double-activation"),
    (net(1, nn.Sigmoid()), torch.ones(32, 1), F.binary_cross_entropy_with_logits, "double-activation"),
    (net(4, nn.ReLU()), classes(), F.cross_entropy, "one-sided-output"),
    (net(4, nn.Softmax(dim=1)), classes(), F.nll_loss, "not-log-probabilities"),
    (net(1, nn.Flatten(0)), classes(2).float(), far_off, "not-log-probabilities"),
    (net(1, nn.Flatten(0)), classes(3).float(), F.binary_cross_entropy_with_logits, "labels-outside"),
    (net(1, nn.Flatten(0)), classes(2), F.binary_cross_entropy_with_logits, "integer-targets"),
    (net(1, nn.Sigmoid()), 50 * torch.rand(32, 1), F.mse_loss, "targets-out-of-range"),
    (net(1, nn.Tanh()), 3 * torch.rand(32, 1), F.mse_loss, "targets-out-of-range"),
]  # fmt: skip

HEALTHY: list[tuple[nn.Module, Tensor, Callable[..., Any]]] = [
    (net(1), torch.rand(32, 1), F.mse_loss),
    (net(1), torch.tensor(1.0), subtraction),
    (net(4), classes(), F.cross_entropy),
    (net(4), F.one_hot(classes(), 4).float(), F.cross_entropy),
    (net(4, nn.LogSoftmax(dim=1)), classes(), F.nll_loss),
    (net(1, nn.Sigmoid()), torch.rand(32, 1), F.mse_loss),
    (net(1, nn.Sigmoid(), nn.Flatten(0)), classes(2).float(), F.binary_cross_entropy),
    (net(1, nn.Flatten(0)), classes(2).float(), nn.BCEWithLogitsLoss()),
    (net(1, nn.Tanh()), torch.rand(32, 1) * 2 - 1, F.mse_loss),
]


@pytest.mark.parametrize(("model", "target", "loss", "cause"), SICK)
def test_a_loss_that_does_not_fit_is_told(model: nn.Module, target: Tensor, loss: Any, cause: str) -> None:
    with pytest.warns(UserWarning, match="target size") if _warns(loss, cause) else _silence():
        checkup = check_up(model, (X, target), loss)
    assert cause in [c for c, _ in causes(checkup)]
    assert checkup.verdict is Verdict.SICK


def _warns(loss: Any, cause: str) -> bool:
    return loss is F.mse_loss and cause == "shapes-broadcast"


def _silence() -> Any:
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize(("model", "target", "loss"), HEALTHY)
def test_a_loss_that_fits_is_left_alone(model: nn.Module, target: Tensor, loss: Any) -> None:
    checkup = check_up(model, (X, target), loss)
    assert not [c for c in causes(checkup) if c[1] != "info"]
    assert checkup.verdict is Verdict.HEALTHY


def test_the_place_of_the_comparison_is_named() -> None:
    finding = check_up(net(1), (X, torch.rand(32)), subtraction).findings[0]
    line = subtraction.__code__.co_firstlineno + 1
    assert any(e.value == f"test_lint.py:{line}" for e in finding.evidence)


class Cut(nn.Module):
    def __init__(self, cut: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.below, self.above, self.cut = nn.Linear(8, 16), nn.Linear(16, 4), cut

    def forward(self, x: Tensor) -> Tensor:
        return self.above(self.cut(self.below(x)))


@pytest.mark.parametrize(
    ("cut", "cause", "name"),
    [
        (lambda h: h.detach(), "graph-cut", "detach"),
        (lambda h: F.one_hot(h.argmax(1), 16).float(), "graph-cut", "argmax"),
        (lambda h: h.sign(), "zero-derivative", "sign"),
        (torch.round, "zero-derivative", "round"),
        (lambda h: torch.floor(h * 3), "zero-derivative", "floor"),
    ],
)
def test_what_cuts_the_gradient_is_named_with_its_place(cut: Any, cause: str, name: str) -> None:
    (finding,) = check_up(Cut(cut), (X, classes())).findings
    assert (finding.rule, finding.cause.value, finding.layer) == ("gradient-path", cause, "below")
    assert finding.severity is Severity.WARNING
    assert f"{name} at test_lint.py:" in finding.message


def test_a_loss_without_any_gradient_is_an_error() -> None:
    (finding,) = check_up(net(4), (X, classes()), lambda o, y: (o.argmax(1) == y).float().mean()).findings
    assert (finding.cause.value, finding.severity) == ("graph-cut", Severity.ERROR)


def test_a_cut_that_leaves_every_parameter_a_gradient_is_not_reported() -> None:
    straight_through = Cut(lambda h: h + (h.sign() - h).detach())
    assert not check_up(straight_through, (X, classes())).findings


def test_all_zero_weights_and_cloned_units_are_told_once() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4))
    for p in model.parameters():
        nn.init.zeros_(p)
    assert causes(check_up(model, (X, classes()))) == [("zero-weights", "error")]
    for p in model.parameters():
        nn.init.constant_(p, 0.1)
    with torch.no_grad():
        model[4].weight.copy_(torch.randn(4, 1).expand(4, 16))
    assert causes(check_up(model, (X, classes()))) == [("cloned-units", "error")]


def test_an_output_layer_of_zeros_is_left_alone() -> None:
    model = net(4)
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    assert not [f for f in check_up(model, (X, classes())).findings if f.cause.value == "zero-weights"]


def test_a_loss_that_is_no_number_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match=r"the loss is to be one number, and is a tensor of shape \(32, 4\)"):
        check_up(net(4), (X, classes()), lambda o, y: o)


def test_a_layer_that_does_not_fit_is_named() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(15, 4))
    with pytest.raises(UsageError, match=r"the model raised RuntimeError: mat1 .* \(in layer 1\)$"):
        check_up(model, (X, classes()))
