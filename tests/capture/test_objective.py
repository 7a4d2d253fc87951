"""What the loss compares is read as it is: against numbers worked out from the tensors themselves."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from memory import Memory
from small import watched
from torch import Tensor, nn

from defib.core.run import OBJECTIVE_COLUMNS


def read(model: nn.Module, x: Tensor, loss_of, sink: Memory) -> tuple[dict[str, str], dict[str, float]]:
    """Facts and columns of one step with that loss of the model's output."""
    session = watched(model, sink)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loss_of(model(x)).backward()
    optimizer.step()
    session.close()
    assert session.faults == 0, sink.events
    ((step, facts, values),) = sink.objectives
    assert step == 0
    return facts, dict(zip(OBJECTIVE_COLUMNS, values.tolist(), strict=True))


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


X = torch.tensor([[1.0, 10.0, 5.0], [3.0, 10.0, -5.0], [5.0, 10.0, 5.0], [7.0, 10.0, -5.0]])
LABELS = torch.tensor([0, 0, 0, 1])


def test_input_output_and_labels_of_a_classifier(sink):
    model = two_layers()
    facts, columns = read(model, X, lambda z: F.cross_entropy(z, LABELS), sink)
    assert facts == {"operation": "NllLossBackward0", "output_layer": "2", "input_layer": "0"}
    logits = model(X).detach().double()
    assert columns["output_low"] == pytest.approx(float(logits.min()), rel=1e-5)
    assert columns["output_spread"] == pytest.approx(
        float(logits.var(0, unbiased=False).mean().sqrt()), rel=1e-4
    )
    assert columns["prediction_high"] == pytest.approx(float(logits.log_softmax(1).max()), rel=1e-4)
    assert (columns["classes"], columns["outputs"], columns["ignored"]) == (2, 2, 0)
    assert columns["constant_loss"] == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert columns["input_std"] == pytest.approx(float(np.sqrt((5 + 0 + 25) / 3)))
    assert columns["input_constant"] == pytest.approx(1 / 3)
    assert (columns["input_high"], columns["input_nonfinite"], columns["samples"]) == (10, 0, 4)


def test_a_regression_is_compared_with_the_variance_of_its_targets(sink):
    y = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]])
    _, columns = read(two_layers(), X, lambda z: F.mse_loss(z, y), sink)
    assert columns["constant_loss"] == pytest.approx(1.25 / 2)
    assert (columns["target_low"], columns["target_high"], columns["broadcast"]) == (0, 4, 0)


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_shapes_that_are_stretched_to_fit_are_told(sink):
    model = nn.Sequential(nn.Linear(3, 1))
    _, columns = read(model, X, lambda z: F.mse_loss(z, torch.arange(4.0)), sink)
    assert columns["broadcast"] == 1


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda z: F.cross_entropy(z, LABELS, weight=torch.tensor([1.0, 3.0])),
        lambda z: F.cross_entropy(z, LABELS, reduction="sum"),
    ],
)
def test_a_loss_that_is_no_plain_mean_has_no_constant_to_compare_with(loss_of, sink):
    _, columns = read(two_layers(), X, loss_of, sink)
    assert math.isnan(columns["constant_loss"])
    assert columns["classes"] == 2


def test_nan_in_the_data_is_counted_and_enters_no_other_number(sink):
    x = X.clone()
    x[0, 0] = float("nan")
    _, columns = read(nn.Sequential(nn.Linear(3, 2)), x, lambda z: F.cross_entropy(z[1:], LABELS[1:]), sink)
    assert columns["input_nonfinite"] == pytest.approx(1 / 12)
    assert columns["input_high"] == 10
