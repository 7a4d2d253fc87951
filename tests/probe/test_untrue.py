"""A hand-written backward is compared with finite differences."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from defib.core.checkup import Checkup
from defib.core.finding import Finding, Severity
from defib.probe.checkup import check_up


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * g


class HalfSquare(Square):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return Square.backward(ctx, g) / 2


class WrongSign(Square):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return -Square.backward(ctx, g)


class TanhOfInput(torch.autograd.Function):
    """1 - x^2 with the input instead of the output: the sign is wrong for |x| > 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (1 - x * x) * g


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return -0.3 * g


class NoisyRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class MyRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return g * (x > 0)


class Net(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.inner, self.outer, self.function = nn.Linear(64, 32), nn.Linear(32, 10), function

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.function.apply(self.inner(x)))


def checked(function: type[torch.autograd.Function]) -> Checkup:
    return check_up(Net(function), (2 * torch.randn(32, 64), torch.arange(32) % 10))


def only(function: type[torch.autograd.Function]) -> Finding:
    (finding,) = checked(function).findings
    assert finding.rule == "untrue-backward"
    return finding


def evidence(finding: Finding, name: str) -> float:
    return float(next(e.value for e in finding.evidence if e.name == name))


@pytest.mark.parametrize("function", [Square, MyRelu])
def test_a_true_backward_is_left_alone(function: type[torch.autograd.Function]) -> None:
    assert not checked(function).findings


def test_a_wrong_sign_is_an_error_and_its_cosine_minus_one() -> None:
    finding = only(WrongSign)
    assert finding.severity is Severity.ERROR
    assert evidence(finding, "cosine with the true gradient") == pytest.approx(-1, abs=1e-6)


def test_the_derivative_of_tanh_taken_at_its_input_points_elsewhere() -> None:
    # Where x ~ N(0, s^2) the cosine is E[(1 - x^2) t'(x)] / sqrt(E[(1 - x^2)^2] E[t'^2]).
    model = Net(TanhOfInput)
    x = 2 * torch.randn(32, 64)
    with torch.no_grad():
        z = model.inner(x)
    truth, claimed = 1 - z.tanh() ** 2, 1 - z * z
    cosine = float((truth * claimed).sum() / (truth.norm() * claimed.norm()))
    (finding,) = check_up(model, (x, torch.arange(32) % 10)).findings
    assert finding.severity in {Severity.WARNING, Severity.ERROR}
    # 256 random directions know a cosine to about 1 / sqrt(256); three times that.
    assert evidence(finding, "cosine with the true gradient") == pytest.approx(cosine, abs=0.19)


def test_half_the_gradient_is_information_and_the_half_is_measured() -> None:
    finding = only(HalfSquare)
    assert finding.severity is Severity.INFO
    assert evidence(finding, "size against the true gradient") == pytest.approx(0.5, abs=1e-6)


def test_a_straight_through_estimator_and_a_gradient_reversal_are_information() -> None:
    through, reverse = only(StraightThrough), only(Reverse)
    assert through.severity is reverse.severity is Severity.INFO
    assert math.isnan(evidence(through, "cosine with the true gradient"))
    assert "straight-through" in through.message
    assert "reverses" in reverse.message


def test_a_function_that_draws_random_numbers_is_said_not_to_be_tested() -> None:
    checkup = checked(NoisyRelu)
    assert not checkup.findings
    assert [(u.what, u.why) for u in checkup.unseen] == [("NoisyRelu", "it is not deterministic")]
