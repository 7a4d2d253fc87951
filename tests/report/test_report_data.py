"""What a page shows of a run: thinned, true to the record, and free of torch."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from report_runs import DEATH, STEPS, UNITS, written

from defib.core.reading import Liveness
from defib.core.series import Series
from defib.report.portrait.layers import is_silent
from defib.report.thinning import bucketed, curve, grid
from defib.views import portray


def decoded(table: dict[str, Any]) -> np.ndarray:
    """The numbers of a grid, by its description."""
    kind = "<u1" if table["bits"] == 8 else "<u2"
    codes = np.frombuffer(base64.b64decode(table["data"]), kind).astype(float)
    top, first = 2 ** table["bits"] - 2, 2 if table["log"] else 1
    values = table["low"] + (codes - first) / (top - first) * (table["high"] - table["low"])
    values[codes == 0] = np.nan
    values[codes == top + 1] = np.inf
    if table["log"]:
        values[codes == 1] = -np.inf
    return values.reshape(table["rows"], table["cols"])


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return portray(written(tmp_path_factory.mktemp("report") / "run.rec", broken_loss=True))


def test_a_thinned_curve_keeps_every_spike_both_ends_and_what_is_not_finite() -> None:
    steps = np.arange(100_000)
    values = np.sin(steps / 5000)
    values[[777, 50_001]] = 9.0, -9.0
    values[33_333] = np.nan
    thin = curve(Series(steps=steps, values=values), "loss", 1200)
    shown = dict(zip(thin["steps"], thin["values"], strict=True))
    assert len(shown) <= 1202
    assert (shown[777], shown[50_001]) == (9.0, -9.0)
    assert {0, 99_999} <= set(shown)
    assert thin["broken"] == [33_333]
    assert thin["thinned"]
    assert thin["points"] == 100_000


def test_a_short_curve_is_left_alone() -> None:
    thin = curve(Series(steps=np.arange(5), values=np.array([1.0, np.inf, 3.0, np.nan, 5.0])), "loss")
    assert thin["values"] == [1.0, None, 3.0, None, 5.0]
    assert thin["broken"] == [1, 3]
    assert not thin["thinned"]


@given(
    arrays(np.float64, (3, 7), elements=st.floats(-1e6, 1e6) | st.just(np.nan) | st.just(np.inf)),
    st.sampled_from([8, 16]),
)
def test_a_grid_comes_back_to_half_a_step(values: np.ndarray, bits: int) -> None:
    table = json.loads(json.dumps(grid(values, range(7), 7, bits=bits), allow_nan=False))
    back = decoded(table)
    step = (table["high"] - table["low"]) / (2**bits - 3)
    assert np.array_equal(np.isnan(back), np.isnan(values))
    assert np.array_equal(np.isinf(back), np.isinf(values))
    finite = np.isfinite(values)
    assert np.all(np.abs(back[finite] - values[finite]) <= 0.5 * step + 1e-9 * abs(table["high"]) + 1e-9)


def test_a_gradient_of_exactly_zero_is_told_from_a_small_one() -> None:
    with np.errstate(divide="ignore"):
        table = grid(np.log10(np.array([[0.0, 1e-30, 1.0]])), range(3), 3, log=True)
    assert decoded(table)[0, 0] == -np.inf
    assert decoded(table)[0, 1] == pytest.approx(-30)


def test_a_bucket_of_a_grid_shows_its_most_unusual_value() -> None:
    values = np.ones((2, 1000))
    values[0, 421] = 50.0
    values[1, 7] = np.inf
    steps, thin = bucketed(np.arange(1000), values, 20)
    assert thin.shape == (2, 20)
    assert steps[421 // 50] == 400
    assert thin[0, 421 // 50] == 50.0
    assert np.isinf(thin[1, 0])
    assert (thin[:, 10:] == 1.0).all()


def test_the_layers_stand_in_order_of_data_flow_with_what_feeds_them(portrait: dict[str, Any]) -> None:
    assert [layer["path"] for layer in portrait["layers"]] == ["stem", "body.0", "body.1", "body.2"]
    assert [layer["inputs"] for layer in portrait["layers"]] == [[], [0], [1], [2]]
    assert portrait["layers"][3]["skips"] == [0]


def test_a_death_is_seen_in_the_map_at_its_step(portrait: dict[str, Any]) -> None:
    table = portrait["grids"]["liveness"]
    alive = decoded(table)
    before = max(c for c, step in enumerate(table["steps"]) if step < DEATH - 1)
    assert alive[2, before - 1] == pytest.approx(1.0, abs=1e-3)
    assert alive[2, before + 2] == pytest.approx(2 / 3, abs=1e-3)
    assert alive[1].min() == pytest.approx(1.0, abs=1e-3)
    assert portrait["deaths"] == {"2": [[DEATH, UNITS // 3]]}
    assert portrait["units"]["2"]["silent_since"] == [DEATH] * 8 + [-1] * 16


def test_units_that_died_pass_nothing_in_the_unit_map(portrait: dict[str, Any]) -> None:
    passed = decoded(portrait["units"]["2"]["grid"])
    assert passed.shape == (UNITS, 4)
    assert (passed[:8, 3] == 0).all()
    assert (passed[8:, 3] > 0.2).all()
    assert (passed[:8, 2] > 0.2).all()


def test_a_wide_layer_is_grouped_with_the_silent_units_first(tmp_path: Path) -> None:
    shown = portray(written(tmp_path / "wide.rec", units=1500, last_die=True))["units"]["2"]
    passed = decoded(shown["grid"])
    assert shown["per_row"] == 6
    assert len(passed) == 250
    assert shown["silent_since"] == []
    assert (passed[:83, 3] == 0).all()
    assert (passed[84:, 3] > 0.1).all()


def test_the_ledger_adds_up_to_its_total(portrait: dict[str, Any]) -> None:
    ledger = portrait["ledger"]["backward"]
    for window in ledger["windows"]:
        assert sum(window["derivative"]) + sum(window["between"]) == pytest.approx(window["total"], abs=1e-3)
    assert len(ledger["links"]) == len(ledger["rows"]) - 1


def test_the_spread_is_that_of_all_entries(portrait: dict[str, Any]) -> None:
    spread = portrait["layers"][2]["spread"]
    assert spread["first"]["zero"] == pytest.approx(0.5, abs=0.1)
    assert spread["last"]["zero"] == pytest.approx(2 / 3, abs=0.1)
    assert spread["first"]["low"] == 0


def test_the_data_is_json_without_nan(portrait: dict[str, Any]) -> None:
    text = json.dumps(portrait, allow_nan=False)
    assert json.loads(text) == portrait
    assert portrait["loss"][0]["broken"] == [300]
    assert portrait["steps"] == STEPS


def test_a_unit_that_was_silent_only_lately_by_chance_is_not_silent() -> None:
    last = np.array([-1, 50, 95, 99])
    live = Liveness(
        path="fc",
        source="bias",
        steps=100,
        last_step=99,
        period=1,
        first_alive=last,
        last_alive=last,
        alive_steps=last,
    )
    assert is_silent(live).tolist() == [True, True, False, False]


def test_no_torch_is_needed_for_it(tmp_path: Path) -> None:
    record = written(tmp_path / "run.rec")
    code = f"import sys; from defib.views import portray; portray({str(record)!r})"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    code = code.replace("import sys;", "import sys, torch;")  # the question can be answered otherwise
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
