"""``defib.log``: a number of the script's own, in the record and in the judgement."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import defib
from defib.core.errors import UsageError


def train(steps: int = 5, each=lambda step: None) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(8, 4)), torch.randint(2, (8,))).backward()
        optimizer.step()
        each(step)
    return model


def test_what_is_logged_stands_beside_the_step_taken_last(tmp_path):
    with defib.watch(output=tmp_path / "a.rec") as run:
        defib.log("val_loss", 9.0)
        train(6, lambda step: defib.log("val_loss", 10.0 + step) if step % 2 else None)
    series = run.view.logged["val_loss"]
    assert series.steps.tolist() == [-1, 1, 3, 5]
    assert series.values.tolist() == [9.0, 11.0, 13.0, 15.0]
    assert len(run.view.optimizers) == 1, "what is logged is no optimiser"


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (2, 2.0),
        (np.float32(0.5), 0.5),
        (torch.tensor(1.5, requires_grad=True), 1.5),
        (torch.tensor([3.0]), 3.0),
        (math.inf, math.inf),
    ],
)
def test_numbers_of_any_kind_are_kept(value, number, tmp_path):
    with defib.watch(output=tmp_path / "a.rec") as run:
        train(2)
        defib.log("test loss", value)
    assert run.view.logged["test loss"].values.tolist() == [number]


def test_the_last_number_of_a_step_counts_and_nan_is_a_number(tmp_path):
    with defib.watch(output=tmp_path / "a.rec") as run:
        train(2)
        defib.log("x", 1.0)
        run.log("x", math.nan)
    assert np.isnan(run.view.logged["x"].values).tolist() == [True]


def test_without_a_watch_nothing_happens_and_after_its_end_neither(tmp_path):
    defib.log("val_loss", 1.0)
    with defib.watch(output=tmp_path / "a.rec") as run:
        train(2)
    run.log("val_loss", 1.0)
    defib.log("val_loss", 1.0)
    assert run.view.logged == {}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("", 1.0, "1 to 200 characters"),
        ("n" * 201, 1.0, "1 to 200 characters"),
        (7, 1.0, "1 to 200 characters"),
        ("val_loss", "low", "must be one number, not a str"),
        ("val_loss", torch.ones(2), "must be one number, not a Tensor"),
        ("val_loss", None, "must be one number, not a NoneType"),
    ],
)
def test_what_is_no_name_or_no_number_is_one_clear_line(name, value, said):
    with pytest.raises(UsageError, match=said) as error:
        defib.log(name, value)
    assert "\n" not in str(error.value)


def test_training_is_not_changed_by_a_bit(tmp_path):
    bare = train()
    with defib.watch(output=tmp_path / "a.rec", every=1):
        watched = train(5, lambda step: defib.log("val_loss", step))
    assert all(torch.equal(a, b) for a, b in zip(bare.parameters(), watched.parameters(), strict=True))
