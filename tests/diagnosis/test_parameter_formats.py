"""The format of the parameters is in the record, and decides whether rounding can take an update."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import defib
from defib.core.cause import Cause
from defib.core.finding import Confidence
from defib.core.run import RunView
from defib.diagnosis.engine import diagnose
from defib.diagnosis.rules.update_lost import UpdateLost
from defib.record import nouns
from defib.record.reader import read


def trained(path: Path, dtype: torch.dtype, autocast: bool = False) -> RunView:
    """Thirty steps of Adam with its default eps, whose second moments of tiny gradients are 0 in float16."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    x, y = torch.randn(16, 6), torch.randn(16, 2)
    watch = defib.watch(model, output=path, every=1)
    model.to(dtype)  # after it was found
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(30):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = model(x.to(dtype))
        (1e-4 * (out.to(dtype) - y.to(dtype)).square().mean()).backward()
        optimizer.step()
    watch.close()
    return read(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_the_record_tells_the_format_of_every_parameter_as_it_was_trained(tmp_path, dtype):
    run = trained(tmp_path / "x.rec", dtype)
    name = str(dtype).removeprefix("torch.")
    assert [layer.dtypes for layer in run.layers] == [(name, name)] * 2


def test_an_eps_that_float16_weights_round_to_zero_is_measured_and_not_inferred(tmp_path):
    run = trained(tmp_path / "x.rec", torch.float16)
    lost = [f for f in UpdateLost().check(run) if f.cause is Cause.EPSILON_LOST]
    assert [f.confidence for f in lost] == [Confidence.MEASURED]
    before = replace(run, layers=tuple(replace(layer, dtypes=()) for layer in run.layers))
    lost = [f for f in UpdateLost().check(before) if f.cause is Cause.EPSILON_LOST]
    assert [f.confidence for f in lost] == [Confidence.INFERRED], "a record of before does not tell it"


def test_float32_weights_under_float16_activations_lose_no_eps(tmp_path):
    run = trained(tmp_path / "x.rec", torch.float16)
    kept = replace(run, layers=tuple(replace(layer, dtypes=("float32",) * 2) for layer in run.layers))
    assert not [f for f in UpdateLost().check(kept) if f.cause is Cause.EPSILON_LOST]


def test_under_autocast_the_record_tells_both_formats(tmp_path):
    run = trained(tmp_path / "x.rec", torch.float32, autocast=True)
    assert {d for layer in run.layers for d in layer.dtypes} == {"float32"}
    assert {w.dtype for w in run.wirings} == {"bfloat16"}
    assert diagnose(run).not_run == ()


def test_a_layer_of_a_record_of_before_has_no_formats(tmp_path):
    run = trained(tmp_path / "x.rec", torch.float32)
    plain = nouns.layer_to_plain(run.layers[0])
    assert json.loads(json.dumps(plain)) == plain
    del plain["dtypes"]
    assert nouns.layer_from_plain(plain) == replace(run.layers[0], dtypes=())
