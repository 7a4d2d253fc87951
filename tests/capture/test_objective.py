"""What the loss compares is read as it is: against numbers worked out from the tensors themselves."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from memory import Memory
from small import watched
from torch import Tensor, nn

from defib.core.objective import OBJECTIVE_COLUMNS


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
    assert columns["prediction_high"] == pytest.approx(float(logits.log_softmax(1).max()), rel=1e-4, abs=1e-6)
    assert (columns["classes"], columns["outputs"], columns["ignored"]) == (2, 2, 0)
    assert columns["constant_loss"] == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert columns["input_std"] == pytest.approx(float(np.sqrt((5 + 0 + 25) / 3)))
    assert columns["input_constant"] == pytest.approx(1 / 3)
    assert (columns["input_high"], columns["input_nonfinite"], columns["samples"]) == (10, 0, 4)


@pytest.mark.parametrize(("images", "constant"), [("one", 1.0), ("several", 0.0), ("one channel", 0.5)])
def test_images_are_constant_where_every_sample_is_the_same_picture(images, constant, sink):
    x = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    if images == "one":
        x[:] = x[:1].clone()
    elif images == "one channel":
        x[:, 1] = x[:1, 1].clone()
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
    _, columns = read(model, x, lambda z: F.cross_entropy(z, LABELS), sink)
    assert columns["input_constant"] == constant
    assert columns["input_std"] > 0.5


def test_a_regression_is_compared_with_the_variance_of_its_targets(sink):
    y = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]])
    _, columns = read(two_layers(), X, lambda z: F.mse_loss(z, y), sink)
    assert columns["constant_loss"] == pytest.approx(5 / 3 / 2)  # without the bias of four samples
    assert columns["compared"] == 4
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


Y = torch.tensor([1.0, 2.0, 4.0, 9.0])


@pytest.mark.parametrize(
    ("operation", "loss_of"),
    [
        ("PowBackward0", lambda z: ((z[:, 0] - Y) ** 2).mean()),
        ("PowBackward0", lambda z: (Y - z[:, 0]).pow(2).mean()),
        ("MulBackward0", lambda z: ((e := z.squeeze(1) - Y) * e).mean()),
        ("PowBackward0", lambda z: torch.square(torch.tanh(z) - Y[:, None]).mean()),
        ("AbsBackward0", lambda z: (z[:, 0] - Y).abs().mean()),
        ("AbsBackward0", lambda z: F.l1_loss(z[:, 0], Y)),
    ],
)
def test_an_error_that_is_written_out_gives_its_targets_away(operation, loss_of, sink):
    facts, columns = read(nn.Sequential(nn.Linear(3, 1)), X, loss_of, sink)
    assert facts["operation"] == operation
    assert (columns["target_low"], columns["target_high"]) == (pytest.approx(1), pytest.approx(9, rel=1e-5))
    constant = 2.5 if operation == "AbsBackward0" else float(Y.var())
    assert columns["constant_loss"] == pytest.approx(constant, rel=1e-5)
    assert columns["broadcast"] == 0


@pytest.mark.parametrize(
    "loss_of", [lambda z: ((z - Y) ** 2).mean(), lambda z: (z.squeeze(1) - Y[:, None]).abs().mean()]
)
def test_an_error_that_is_written_out_shows_shapes_that_are_stretched(loss_of, sink):
    _, columns = read(nn.Sequential(nn.Linear(3, 1)), X, loss_of, sink)
    assert columns["broadcast"] == 1
    assert (columns["target_low"], columns["target_high"]) == (pytest.approx(1), pytest.approx(9, rel=1e-5))


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda z: ((z - torch.arange(16.0).reshape(4, 4) ** 2) ** 2).mean(),
        lambda z: ((z[:, 0] - z[:, 0].flip(0)) ** 2).mean(),
        lambda z: ((z[:, 0] - Y) ** 2).sum(),
        lambda z: ((z[:, 0] - Y) ** 4).mean(),
    ],
)
def test_four_opinions_a_sample_two_answers_a_sum_and_a_fourth_power_are_left_alone(loss_of, sink):
    facts, columns = read(nn.Sequential(nn.Linear(3, 1)), X, loss_of, sink)
    assert facts["operation"] == ""
    assert math.isnan(columns["constant_loss"])


@pytest.mark.parametrize(("axis", "total"), [(1, 1.0), (0, None)])
def test_probabilities_over_the_wrong_axis_do_not_sum_to_one(axis, total, sink):
    _, columns = read(two_layers(), X, lambda z: F.nll_loss(z.log_softmax(axis), LABELS), sink)
    if total is None:
        assert abs(columns["probability_total"] - 1) > 0.05
    else:
        assert columns["probability_total"] == pytest.approx(total)
    assert columns["label_mean"] == pytest.approx(0.25)


@pytest.mark.parametrize(("zeroed", "expected"), [(True, 0.0), (False, 1.0)])
def test_gradients_that_a_step_left_are_seen_when_the_next_backward_begins(zeroed, expected, sink):
    model = two_layers()
    session = watched(model, sink)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        if zeroed:
            optimizer.zero_grad()
        for _ in range(2):  # what is accumulated between two steps is not left over
            F.cross_entropy(model(X), LABELS).backward()
        optimizer.step()
    session.close()
    assert session.faults == 0, sink.events
    place = OBJECTIVE_COLUMNS.index("leftover")
    later = [values[place] for step, _, values in sink.objectives if step > 0]
    assert later
    assert set(later) == {expected}


def test_the_distance_from_the_start_is_that_of_all_weights(sink):
    model = two_layers()
    start = torch.cat([p.detach().flatten() for p in model.parameters()])
    session = watched(model, sink)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(X), LABELS).backward()
        if step == 2:
            moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - start
        optimizer.step()
    session.close()
    told = [float(v) for _, at, name, values in flattened(sink) if name == "displacement" for v in values]
    assert told[0] == 0
    assert told[2] == pytest.approx(float(moved.norm() / start.norm()), rel=1e-5)


def flattened(sink: Memory) -> list[tuple[int, int, str, np.ndarray]]:
    """Every stream that was told, one column after the other."""
    return [
        (optimizer, step, name, np.asarray(values))
        for optimizer, step, columns in sink.streams
        for name, values in columns.items()
    ]
