"""Records in other people's formats, read back with those people's own readers."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import defib as package
from defib.core.errors import EnvironmentProblem, OutputError, UsageError
from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.core.wiring import Layer
from defib.record.writer import Writer
from defib.report.tables import TABLES
from defib.report.whole import fresh_file, fresh_folder

HOSTILE = ("a\nb", "\x1b[31mred", "\u202egnp", "x" * 10_000, "\ud800", "</script>", "漢", "$a$", "", "a/b\\c")


def tally(values: np.ndarray) -> Tally:
    return Tally(
        samples=len(values), count=np.full(values.shape[1], float(len(values))),
        positive=(values > 0).sum(0).astype(float), zero=(values == 0).sum(0).astype(float),
        saturated=np.zeros(values.shape[1]), flat=np.zeros(values.shape[1]),
        nonfinite=np.zeros(values.shape[1]), total=values.sum(0), squares=(values**2).sum(0),
        low=values.min(0), high=values.max(0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """A record whose layers have names that nobody expects, and numbers that are none."""
    path = tmp_path_factory.mktemp("hostile") / "hostile.rec"
    writer = Writer.create(path)
    names = [name for name in HOSTILE if name != "\ud800"]  # a record itself holds no half characters
    layers = tuple(
        Layer(path=n, kind=n or "Root", units=3, parameters=(f"{n}.weight",), optimizer=0) for n in names
    )
    writer.layers(layers)
    writer.optimizer(0, {"kind": "SGD", "steps": 4, "groups": [{"lr": 0.1}], "parameters": []})
    loss = np.array([1.0, np.nan, np.inf, 0.5], np.float32)
    writer.stream(0, 0, {"loss": loss, "lr": np.full(4, 0.1, np.float32)})
    for name in names:
        values = np.random.default_rng(0).normal(size=(8, 3))
        writer.reading(Site(path=name), Signal.ACTIVATION, 0, 3, tally(values))
        writer.flow(0, {(Site(path=name), Signal.ACTIVATION): 1.0})
    writer.norms(0, tuple(f"{n}.weight" for n in names), np.ones((4, len(names)), np.float32))
    writer.close("finished")
    return path


# ------------------------------------------------------------------ Parquet


def test_parquet_holds_every_table_with_every_column_documented(treated, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    package.export(treated, parquet=tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(f"{t.name}.parquet" for t in TABLES)
    for table in TABLES:
        schema = parquet.read_schema(tmp_path / "out" / f"{table.name}.parquet")
        assert schema.names == [c.name for c in table.columns]
        assert all(field.metadata[b"meaning"] for field in schema)
        assert schema.metadata[b"defib"] == b"defib.tables/1"


def test_parquet_holds_the_numbers_of_the_record_itself(treated, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    package.export(treated, parquet=tmp_path / "out")
    view = package.open_run(treated).view

    def table(name: str) -> dict[str, list[object]]:
        return parquet.read_table(tmp_path / "out" / f"{name}.parquet").to_pydict()

    curves = table("curves")
    loss = [v for n, v in zip(curves["name"], curves["value"], strict=True) if n == "loss"]
    assert loss == view.loss.values.tolist()
    readings = table("readings")
    assert len(readings["unit"]) == sum(r.units for r in view.readings)
    assert sum(readings["total"]) == pytest.approx(sum(float(r.tally.total.sum()) for r in view.readings))
    units = table("units")
    assert units["last_alive"] == [s for live in view.liveness.values() for s in live.last_alive.tolist()]
    assert len(table("norms")["step"]) == len(view.norms.steps) * len(view.norms.parameters)
    assert table("events")["kind"] == [e.kind for e in view.events]


def test_hostile_names_and_numbers_that_are_none_come_back(hostile, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    package.export(hostile, parquet=tmp_path / "out", json=tmp_path / "out.json")
    view = package.open_run(hostile).view
    assert parquet.read_table(tmp_path / "out/layers.parquet")["path"].to_pylist() == [
        layer.path for layer in view.layers
    ]
    values = parquet.read_table(tmp_path / "out/curves.parquet")["value"].to_numpy()[:4]
    assert np.isnan(values[1])
    assert np.isinf(values[2])


# ------------------------------------------------------------------ JSON


def test_json_holds_the_same_rows_and_says_what_it_is(treated, tmp_path):
    package.export(treated, json=tmp_path / "run.json")
    data = json.loads((tmp_path / "run.json").read_text(encoding="ascii"))
    assert data["schema"] == "defib.export/1"
    assert data["diagnosis"]["schema"] == "defib.diagnosis/1"
    assert list(data["tables"]) == [t.name for t in TABLES]
    for table in TABLES:
        own = data["tables"][table.name]
        assert own["columns"] == [c.name for c in table.columns]
        assert all(len(row) == len(own["columns"]) for row in own["rows"])
    view = package.open_run(treated).view
    assert len(data["tables"]["readings"]["rows"]) == sum(r.units for r in view.readings)


def test_one_record_gives_the_same_json_twice(treated, tmp_path):
    for name in ("a.json", "b.json"):
        package.export(treated, json=tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_no_sample_of_the_data_is_exported(dying, tmp_path):
    """Single extremes are (the lowest and the highest of a batch), rows are not."""
    view = package.open_run(dying).view
    samples = [e.arrays["features"] for e in view.exhibits if "features" in e.arrays]
    rows = [row for each in samples for row in each.tolist() if np.count_nonzero(row) > 3]
    assert rows, "the record should hold samples, or this test shows nothing"
    package.export(dying, json=tmp_path / "run.json")
    text = (tmp_path / "run.json").read_text(encoding="ascii")
    words = {float(word) for word in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text)}
    assert not [row for row in rows if set(row) - {0.0} <= words]


# ------------------------------------------------------------------ TensorBoard


def test_tensorboards_own_reader_opens_the_events(treated, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    package.export(treated, tensorboard=tmp_path / "tb")
    read = accumulator.EventAccumulator(str(tmp_path / "tb"))
    read.Reload()
    view = package.open_run(treated).view
    loss = read.Scalars("train/loss")
    assert [e.step for e in loss][-1] == view.loss.steps[-1]
    assert [e.value for e in loss[-5:]] == pytest.approx(view.loss.values[-5:].tolist())
    assert "norm/gradient/2.weight" in read.Tags()["scalars"]
    (words,) = read.Tensors("diagnosis")
    assert b"defib:" in words.tensor_proto.string_val[0]


def test_hostile_names_make_different_tags(hostile, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    package.export(hostile, tensorboard=tmp_path / "tb")
    read = accumulator.EventAccumulator(str(tmp_path / "tb"))
    read.Reload()
    tags = [t for t in read.Tags()["scalars"] if t.startswith("rms/")]
    assert len(tags) == len(HOSTILE) - 1
    assert all(tag.isprintable() and len(tag) < 400 for tag in tags)


# ------------------------------------------------------------------ whole or not at all


def half_a_folder(path: Path) -> None:
    with fresh_folder(path) as part:
        (part / "half").write_text("x")
        raise ZeroDivisionError


def half_a_file(path: Path) -> None:
    with fresh_file(path) as part:
        part.write_text("x")
        raise ZeroDivisionError


@pytest.mark.parametrize("write", [half_a_folder, half_a_file])
def test_after_an_error_nothing_is_left(tmp_path, write):
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_after_a_kill_nothing_stands_in_the_place_and_the_next_try_clears_up(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from defib.report.whole import fresh_folder\n"
        "with fresh_folder(Path('out')) as part:\n"
        "    (part / 'half').write_text('x'); print('written', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"written\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not (tmp_path / "out").exists()
    assert len(list(tmp_path.iterdir())) == 1
    with fresh_folder(tmp_path / "out") as part:
        (part / "whole").write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["whole"]


def test_a_place_that_is_taken_is_left_alone(treated, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    (tmp_path / "mine.json").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        package.export(treated, tensorboard=tmp_path / "full")
    with pytest.raises(OutputError, match="exists already"):
        package.export(treated, json=tmp_path / "mine.json")
    assert (tmp_path / "full/mine").read_text() == (tmp_path / "mine.json").read_text() == "mine"
    package.export(treated, json=tmp_path / "mine.json", force=True)
    assert (tmp_path / "mine.json").read_text().startswith("{")


def test_a_place_that_cannot_be_written_is_one_clear_line(treated):
    with pytest.raises(OutputError, match="cannot write"):
        package.export(treated, json="/proc/defib/run.json")


def test_a_missing_package_is_named_with_the_extra_that_brings_it(treated, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(EnvironmentProblem, match=r"defib\[export\]"):
        package.export(treated, parquet=tmp_path / "out")
    with pytest.raises(EnvironmentProblem, match=r"defib\[tensorboard\]"):
        package.export(treated, tensorboard=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_format_has_to_be_named(treated):
    with pytest.raises(UsageError, match="no format"):
        package.export(treated)


def test_the_command_says_what_it_wrote(defib, treated, tmp_path):
    done = defib("export", str(treated), "--json", "run.json")
    assert (done.returncode, done.stdout) == (0, "written   run.json\n")
    assert defib("export", str(treated)).returncode == 64
    assert defib("export", "nothing.rec", "--json", "x.json").returncode == 66
    assert defib("export", str(treated), "--json", "run.json").returncode == 73


def test_ten_thousand_units_are_exported_in_seconds(tmp_path):
    writer = Writer.create(tmp_path / "wide.rec")
    units = 10_000
    writer.layers((Layer(path="fc", kind="Linear", units=units, parameters=("fc.weight",), optimizer=0),))
    writer.optimizer(0, {"kind": "SGD", "steps": 40, "groups": [], "parameters": ["fc.weight"]})
    values = np.random.default_rng(0).normal(size=(4, units))
    for first in range(0, 40, 10):
        writer.reading(Site(path="fc"), Signal.ACTIVATION, first, first, tally(values))
    writer.close("finished")
    pytest.importorskip("pyarrow")
    began = time.process_time()
    package.export(tmp_path / "wide.rec", parquet=tmp_path / "out")
    assert time.process_time() - began < 10


def test_the_page_documents_every_column_of_every_table():
    page = (Path(__file__).parents[2] / "docs/export.md").read_text(encoding="utf-8")
    for table in TABLES:
        section = page.split(f"### {table.name}\n")[1].split("\n### ")[0]
        for column in table.columns:
            assert f"| `{column.name}` | {column.kind} | {column.meaning} |" in section
