"""Whether inputs tell targets is read right: against a plain reference, and where nothing may be said."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from memory import Memory
from small import watched
from torch import Tensor, nn

from defib.core.objective import OBJECTIVE_COLUMNS

N = 20


def columns_of(model: nn.Module, x: Tensor | tuple[Tensor, ...], loss_of, sink: Memory) -> dict[str, float]:
    """Columns of the objective of one step."""
    session = watched(model, sink)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loss_of(model(*x) if isinstance(x, tuple) else model(x)).backward()
    optimizer.step()
    session.close()
    assert session.faults == 0, sink.events
    ((_, _, values),) = sink.objectives
    return dict(zip(OBJECTIVE_COLUMNS, values.tolist(), strict=True))


def reference(x: Tensor, y: Tensor) -> float:
    """Bias-corrected distance correlation by its definition, with loops."""
    features = x.reshape(len(x), -1).double().numpy()
    spread = features.std(axis=0)
    features = features[:, spread > 0] / spread[spread > 0]
    labels = y.reshape(len(y), -1).double().numpy()
    one = np.linalg.norm(features[:, None] - features[None], axis=2)
    other = np.linalg.norm(labels[:, None] - labels[None], axis=2)
    if not y.is_floating_point():
        other = (other > 0).astype(float)
    a, b = centred(one), centred(other)
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def centred(d: np.ndarray) -> np.ndarray:
    n = len(d)
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                whole = d.sum() / ((n - 1) * (n - 2))
                out[i, j] = d[i].sum() / -(n - 2) - d[:, j].sum() / (n - 2) + d[i, j] + whole
    return out


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


def labels() -> Tensor:
    return torch.randint(0, 3, (N,), generator=torch.Generator().manual_seed(7))


def test_a_table_and_its_labels_give_what_the_definition_gives(sink):
    x, y = drawn(N, 6), labels()
    x[:, 0] += 1000.0 * y  # a feature on another scale than the others, which the scale does not matter for
    x[:, 1] = 3.0
    found = columns_of(nn.Linear(6, 3), x, lambda z: F.cross_entropy(z, y), sink)
    assert found["relation"] == pytest.approx(reference(x, y), abs=1e-5)
    assert found["relation_samples"] == N
    assert np.isnan(found["relation_second_first"])


def test_images_and_numbers_as_targets_give_it_too(sink):
    x, y = drawn(N, 2, 5, 5), drawn(N, 2)
    y[:, 0] += x[:, 0].mean((1, 2)) * 5
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    found = columns_of(model, x, lambda z: F.mse_loss(z, y), sink)
    scaled = y / y.std(0, unbiased=False)
    assert found["relation"] == pytest.approx(reference(x, scaled), abs=1e-5)


def test_sequences_that_were_turned_with_view_are_read_as_both(sink):
    time_first, y = drawn(7, N, 3), labels()
    time_first[..., 0] += y[None] * torch.linspace(0, 3, 7)[:, None]
    wrong = time_first.reshape(N, 7, 3)
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3))
    found = columns_of(model, wrong.transpose(1, 2), lambda z: F.cross_entropy(z, y), sink)
    assert found["relation"] == pytest.approx(reference(wrong, y), abs=1e-5)
    assert found["relation_second_first"] == pytest.approx(reference(time_first.transpose(0, 1), y), abs=1e-5)
    assert found["relation_second_first"] > 0.2 > found["relation"] + 0.1


def test_rows_of_a_sequence_count_as_the_order_that_tells_more(sink):
    time_first, y = drawn(7, N, 3), labels()
    time_first[..., 0] += 3.0 * y[None]

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).mean(0)

    found = columns_of(Mean(), time_first, lambda z: F.cross_entropy(z, y), sink)
    assert found["relation"] == pytest.approx(reference(time_first.transpose(0, 1), y), abs=1e-5)
    assert np.isnan(found["relation_second_first"])


class Pair(nn.Module):
    """Two inputs whose product is asked for: either alone tells nothing."""

    def __init__(self, *, beside: bool) -> None:
        super().__init__()
        self.one, self.other, self.beside = nn.Linear(4, 4), nn.Linear(4, 4), beside
        self.head = nn.Linear(8, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(torch.cat([self.one(a), b if self.beside else self.other(b)], 1))


@pytest.mark.parametrize("beside", [True, False])
def test_of_a_model_with_two_inputs_nothing_is_said(beside, sink):
    y = labels()
    found = columns_of(
        Pair(beside=beside), (drawn(N, 4), drawn(N, 4) + 1), lambda z: F.cross_entropy(z, y), sink
    )
    assert np.isnan(found["relation"])


@pytest.mark.parametrize("what", ["one label", "a label each", "constant inputs", "not a number"])
def test_where_nothing_differs_or_everything_is_equally_far_there_is_no_number(what, sink):
    x, y = drawn(N, 6), labels()
    if what == "one label":
        y = torch.zeros_like(y)
    elif what == "a label each":
        y = torch.arange(N)
    elif what == "constant inputs":
        x = torch.full_like(x, 0.1)
    else:
        x[3, 2] = float("nan")
    model = nn.Linear(6, N)
    found = columns_of(model, x, lambda z: F.cross_entropy(z.nan_to_num(), y), sink)
    assert np.isnan(found["relation"])


def test_two_layers_that_take_the_same_input_are_one_input(sink):
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) * self.other(x).sigmoid()

    x, y = drawn(N, 6), labels()
    found = columns_of(Fork(), x, lambda z: F.cross_entropy(z, y), sink)
    assert found["relation"] == pytest.approx(reference(x, y), abs=1e-5)


def test_independent_batches_scatter_about_zero_as_the_test_says(sink):
    # 120 batches of 20: z has mean 0 and deviation 1; three errors of each leave it one failure in 200 seeds.
    del sink
    generator = torch.Generator().manual_seed(0)
    model, found = nn.Linear(6, 3), []
    for _ in range(120):
        x = torch.randn(N, 6, generator=generator)
        y = torch.randint(0, 3, (N,), generator=generator)
        found.append(columns_of(model, x, lambda z, y=y: F.cross_entropy(z, y), Memory())["relation"])
    z = np.array(found) * np.sqrt(N * (N - 3) / 2)
    assert abs(z.mean()) < 3 / 120**0.5
    assert 0.8 < z.std() < 1.25
