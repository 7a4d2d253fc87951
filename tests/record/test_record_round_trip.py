"""What is read back is what was written, bit for bit."""

import os
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from record_samples import ACTIVATION, FC1, FC2, GRADIENT, alive, fill, record, tally_of

from defib.core.coverage import Overhead
from defib.core.evidence import Unseen
from defib.core.objective import OBJECTIVE_COLUMNS
from defib.core.site import Site
from defib.core.tally import Tally
from defib.core.wiring import Layer
from defib.record import codec
from defib.record.reader import read
from defib.record.writer import Writer

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT | st.integers(), inner, max_size=4),
    max_leaves=12,
)


def same(a, b):
    """Equal, with NaN equal to itself."""
    return repr(a) == repr(b)


@given(ANY_JSON)
def test_any_json_value_comes_back_as_it_was(value):
    assert same(codec.loads(codec.dumps(value)), value)


@pytest.mark.parametrize(
    "value", [{"$float": "nan"}, {"$pairs": [[1, 2]]}, {"$int": "0x1"}, {"$float": 1, "b": 2}]
)
def test_a_dict_that_looks_like_a_tag_comes_back_as_a_dict(value):
    assert codec.loads(codec.dumps(value)) == value


def test_two_lone_surrogates_side_by_side_do_not_become_one_character():
    assert codec.loads(codec.dumps("\ud83d\ude00")) == "\ud83d\ude00" != "\U0001f600"


class Rude:
    def __repr__(self):
        raise RuntimeError("no")


def test_what_json_lacks_becomes_text():
    value = {"f": Rude(), "t": (1, np.float32(0.5)), "a": np.arange(2), "o": object}
    plain = codec.loads(codec.dumps(value))
    assert plain == {"f": "<Rude>", "t": [1, 0.5], "a": [0, 1], "o": "<class 'object'>"}


DOUBLES = arrays.arrays(np.float64, st.tuples(st.integers(0, 5), st.integers(0, 7)), elements=st.floats())


@given(DOUBLES)
def test_rows_keep_every_bit_in_whichever_type_they_are_stored(rows):
    layout, body = codec.pack_rows(rows)
    back = codec.unpack_rows(layout, rows.shape[1], body)
    assert back.tobytes() == rows.tobytes()


@given(arrays.arrays(np.int64, 5, elements=st.integers(0, 2**52)), st.integers(0, 2**52))
def test_counts_merge_exactly_after_reading_back(counts, more):
    array = np.zeros((len(Tally.rows()), 5))
    array[0] = counts
    layout, body = codec.pack_rows(array)
    back = Tally.from_array(1, codec.unpack_rows(layout, 5, body))
    other = Tally.from_array(1, np.full_like(array, more))
    assert back.merge(other).count.astype(np.int64).tolist() == [int(c) + more for c in counts]


def test_small_numbers_are_stored_in_four_bytes():
    ones = np.ones((1, 10_000)) * np.arange(10_000)
    assert codec.pack_rows(ones)[0] == "f"
    assert codec.pack_rows(ones + 2**24)[0] == "u"
    assert codec.pack_rows(ones + 2**40)[0] == "d"
    assert codec.pack_rows(ones * 1e-60)[0] == "d"


def test_the_squares_of_tiny_gradients_do_not_underflow(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    tally = tally_of(np.full((4, 3), 1e-25))
    writer.reading(FC1, GRADIENT, 0, 0, tally)
    writer.close("finished")
    assert read(tmp_path / "x.rec").readings[0].tally.rms == pytest.approx(1e-25)


def test_a_whole_run_comes_back(tmp_path):
    run = read(record(tmp_path / "x.rec"))
    assert run.facts["status"] == "finished"
    assert run.facts["script"] == "train.py"
    assert [layer.path for layer in run.layers] == ["fc1", "fc2"]
    assert run.layers[1].frozen
    assert run.wirings[1].inputs == run.wirings[1].skips == (FC1,)
    assert run.wirings[1].options == {"negative_slope": 0.01}
    assert [w.dtype for w in run.wirings] == ["", "float16"]
    assert run.loss_operations == ("NllLossBackward0", "LogSoftmaxBackward0")
    assert run.steps == 40
    rng = np.random.default_rng(0)
    assert run.loss.steps.tolist() == list(range(40))
    assert run.loss.values[0] == np.float32(rng.normal())
    assert run.optimizers[0].kind == "Adam"
    assert run.optimizers[0].groups == ({"lr": 0.1},)
    assert len(run.optimizers[0].scale) == 0
    assert run.flow_steps.tolist() == list(range(0, 40, 4))
    assert run.flow[FC2, ACTIVATION].tolist() == [1e-40 * s for s in range(0, 40, 4)]
    assert run.norms is not None
    assert run.norms.gradient.shape == (10, 2)
    assert run.liveness["fc1"].last_alive.tolist() == [0, 1, 2, 3, 4, 5]
    assert run.liveness["fc1"].batch == 32.0
    assert [(r.first, r.last) for r in run.at(FC1, ACTIVATION)] == [(0, 9), (10, 19), (20, 29), (30, 39)]
    assert [e.kind for e in run.events] == ["compiled"]
    assert run.unseen == ()


def test_tallies_come_back_bit_for_bit(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    tally = tally_of([[np.nan, 0.1, -0.0], [np.inf, -3e38, 5e-324]])
    writer.reading(FC1, ACTIVATION, 0, 3, tally)
    writer.close("finished")
    [reading] = read(tmp_path / "x.rec").readings
    assert reading.tally.to_array().tobytes() == tally.to_array().tobytes()
    assert (reading.tally.samples, reading.first, reading.last) == (2, 0, 3)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(ANY_TEXT | st.just("x" * 9_999) | st.just("\0\ud800"), unique=True, min_size=1, max_size=6))
def test_hostile_names_come_back_exactly(tmp_path, names):
    path = tmp_path / f"{time.monotonic_ns()}.rec"
    writer = Writer.create(path)
    for number, name in enumerate(names):
        writer.reading(Site(path=name, call=number), ACTIVATION, 0, 0, tally_of([[1.0]]))
        writer.liveness(0, name, *alive(3, 2))
        writer.norms(number, (name,), np.ones((4, 1), "f4"))
        writer.stream(0, 0, {name: np.ones(1, "f4")})
        writer.event(0, name, {name: name})
    writer.layers(tuple(Layer(path=n, kind=n, units=1, parameters=(n,)) for n in names))
    writer.facts(dict.fromkeys(names, 1))
    writer.close("finished")
    assert writer.fault is None
    run = read(path)
    assert run.unseen == ()
    assert {r.site.path for r in run.readings} == set(names) == set(run.liveness)
    assert run.norms is not None
    assert run.norms.parameters == tuple(names)
    assert [event.kind for event in run.events] == names
    assert [event.data for event in run.events] == [{n: n} for n in names]
    assert [layer.path for layer in run.layers] == names
    assert set(names) <= run.facts.keys()


def test_a_later_value_replaces_an_earlier_one(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    for n in range(3):
        writer.facts({"n": n, str(n): n})
        writer.optimizer(0, {"steps": n, str(n): n})
        writer.layers((Layer(path=str(n), kind="Linear", units=1, parameters=()),))
        assert writer.flush()
    writer.close("finished")
    run = read(tmp_path / "x.rec")
    assert (run.facts["n"], run.facts["0"], run.facts["2"]) == (2, 0, 2)
    assert run.optimizers[0].steps == 2
    assert [layer.path for layer in run.layers] == ["2"]


def test_values_changed_after_the_call_are_recorded_as_they_were(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    losses, fact = np.ones(2, "f4"), {"inner": [1]}
    facts, units = alive(3, 2)
    writer.stream(0, 0, {"loss": losses})
    writer.facts({"fact": fact})
    writer.liveness(0, "fc1", facts, units)
    losses[:] = 7
    units[:] = 7
    fact["inner"].append(2)
    writer.close("finished")
    run = read(tmp_path / "x.rec")
    assert run.loss.values.tolist() == [1, 1]
    assert run.facts["fact"] == {"inner": [1]}
    assert run.liveness["fc1"].first_alive.tolist() == [0, 0]


def test_liveness_is_replaced_in_place_so_that_the_file_does_not_grow(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    for step in range(1, 60):
        writer.liveness(0, "fc1", *alive(step, 4000))
        assert writer.flush()
    writer.close("finished")
    assert os.path.getsize(writer.file) < 200_000
    assert read(tmp_path / "x.rec").liveness["fc1"].steps == 59


def test_a_long_stream_is_kept_in_chunks_and_none_is_lost(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    for step in range(0, 30_000, 50):
        writer.stream(0, step, {"loss": np.arange(step, step + 50, dtype="f4")})
        if step % 5000 == 0:
            assert writer.flush()
    writer.close("finished")
    run = read(tmp_path / "x.rec")
    assert run.loss.steps.tolist() == list(range(30_000))
    assert run.loss.values.tolist() == list(range(30_000))
    assert run.unseen == ()


def test_a_step_told_twice_counts_the_second_time(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    writer.stream(0, 0, {"loss": np.array([1, 2, 3], "f4")})
    writer.stream(0, 1, {"loss": np.array([9], "f4")})
    writer.close("finished")
    assert read(tmp_path / "x.rec").loss.values.tolist() == [1, 9, 3]


def test_nan_and_infinite_losses_are_real_readings(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    writer.stream(0, 5, {"loss": np.array([1, np.nan, np.inf, -np.inf], "f4")})
    writer.close("finished")
    run = read(tmp_path / "x.rec")
    assert run.loss.steps.tolist() == [5, 6, 7, 8]
    assert same(run.loss.values.tolist(), [1.0, np.nan, np.inf, -np.inf])


def test_norms_of_changing_parameters_are_missing_where_they_were_not_taken(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    writer.norms(0, ("a", "b"), np.full((4, 2), 1, "f4"))
    writer.norms(1, ("b", "c"), np.full((4, 2), 2, "f4"))
    writer.close("finished")
    norms = read(tmp_path / "x.rec").norms
    assert norms is not None
    assert norms.parameters == ("a", "b", "c")
    assert same(norms.weight.tolist(), [[1.0, 1.0, np.nan], [np.nan, 2.0, 2.0]])


def test_what_the_loss_compared_comes_back(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    rows = np.arange(2 * len(OBJECTIVE_COLUMNS), dtype=float).reshape(2, -1)
    rows[1, 3] = np.nan
    facts = {"operation": "NllLossBackward0", "output_layer": "fc2", "input_layer": "fc1"}
    for step, row in zip((5, 9), rows, strict=True):
        writer.objective(step, facts, row)
    writer.close("finished")
    objective = read(tmp_path / "x.rec").objective
    assert objective is not None
    assert (objective.operation, objective.output_layer, objective.input_layer) == tuple(facts.values())
    assert objective.steps.tolist() == [5, 9]
    assert same([c.tolist() for c in objective.columns.values()], rows.T.tolist())
    assert tuple(objective.columns) == OBJECTIVE_COLUMNS


def test_an_entry_that_cannot_be_encoded_does_not_cost_the_others(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    writer.event(1 << 70, "too-late", {})
    writer.norms(0, ("a",), np.zeros(3, "f4"))
    writer.reading(FC1, ACTIVATION, 0, 0, tally_of([[1.0]]))
    writer.liveness(0, "fc1", {}, np.zeros((2, 2), np.int32))
    writer.close("finished")
    run = read(tmp_path / "x.rec")
    assert len(run.readings) == 1
    assert Unseen(what="run", why="3 entries could not be encoded") in run.unseen


def test_wrong_arguments_are_a_fault_and_not_an_exception(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    writer.stream(0, "soon", {"loss": np.zeros(1, "f4")})  # type: ignore[arg-type]
    assert writer.fault is not None
    assert "stream" in writer.fault
    writer.close("finished")


def test_what_capture_did_not_see_is_told(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    writer.facts({"unseen": [{"what": "fc3", "why": "runs inside torch.compile"}]})
    writer.facts({"overhead": {"ratio": 0.01, "seconds": 2.0, "budget": 0.01, "period": 20}})
    writer.close("finished")
    run = read(tmp_path / "x.rec")
    assert run.unseen == (Unseen(what="fc3", why="runs inside torch.compile"),)
    assert run.overhead == Overhead(ratio=0.01, seconds=2.0, budget=0.01, period=20.0)


def test_flush_within_a_second_without_being_asked(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    fill(writer)
    time.sleep(2.5)
    assert read(tmp_path / "x.rec").steps == 40
    writer.close("finished")


def test_an_event_is_written_at_once(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    writer.facts({"a": 1})
    assert writer.flush()
    writer.event(7, "non-finite", {"stage": "loss"})
    until = time.monotonic() + 0.8
    while not read(tmp_path / "x.rec").events and time.monotonic() < until:
        time.sleep(0.02)
    assert [event.step for event in read(tmp_path / "x.rec").events] == [7]
    writer.close("finished")


def test_after_close_nothing_is_written_any_more(tmp_path):
    path = record(tmp_path / "x.rec")
    writer = Writer.create(tmp_path / "y.rec")
    writer.close("finished")
    before = writer.file.read_bytes()
    fill(writer)
    writer.close("again")
    assert not writer.flush()
    assert writer.file.read_bytes() == before
    assert sorted(os.listdir(path)) == ["meta.json", "rank-00000.db"]


def test_the_silences_that_units_came_back_from_come_back(tmp_path):
    facts, three = alive(100, 4)
    five = np.concatenate([three, [[0, 1, 2, 3], [0, 9, 30, 40]]]).astype(np.int32)
    writer = Writer.create(tmp_path / "x.rec")
    writer.liveness(0, "new", facts | {"lengths": [1] * 32}, five)
    writer.liveness(0, "old", facts, three)
    writer.close("finished")
    run = read(tmp_path / "x.rec")
    new, old = run.liveness["new"], run.liveness["old"]
    assert new.returns is not None
    assert new.silent_before is not None
    assert new.lengths is not None
    assert new.returns.tolist() == [0, 1, 2, 3]
    assert new.silent_before.tolist() == [0, 9, 30, 40]
    assert new.lengths.tolist() == [1] * 32
    assert (old.returns, old.silent_before, old.lengths) == (None, None, None)
    assert new.last_alive.tolist() == old.last_alive.tolist() == [0, 1, 2, 3]
