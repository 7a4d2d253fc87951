"""Ranks of a data-parallel job become one run."""

import numpy as np
import pytest
from record_samples import ACTIVATION, FC1, FC2, alive, fill, killed, tally_of

from defib.core.errors import RecordTooNew
from defib.core.wiring import Layer
from defib.record.reader import read
from defib.record.writer import Writer


@pytest.fixture
def two(tmp_path):
    """The writers of two ranks."""
    writers = [Writer.create(tmp_path / "x.rec", rank=rank) for rank in (0, 1)]
    yield writers
    for writer in writers:
        writer.close("finished")


def merged(two):
    for writer in two:
        writer.close("finished")
        assert writer.fault is None
    return read(two[0].path)


def test_tallies_of_the_same_window_are_merged(two):
    rng = np.random.default_rng(0)
    halves = rng.integers(-8, 8, size=(2, 16, 5)) / 4
    for writer, half in zip(two, halves, strict=True):
        writer.reading(FC1, ACTIVATION, 0, 9, tally_of(half))
    [reading] = merged(two).readings
    assert reading.tally.to_array().tolist() == tally_of(np.concatenate(halves)).to_array().tolist()
    assert reading.tally.samples == 32


def test_windows_that_differ_stay_apart_and_in_order_of_time(two):
    two[0].reading(FC1, ACTIVATION, 10, 19, tally_of([[1.0]]))
    two[1].reading(FC1, ACTIVATION, 0, 9, tally_of([[2.0]]))
    assert [r.first for r in merged(two).at(FC1, ACTIVATION)] == [0, 10]


def test_a_window_that_has_grown_replaces_what_was_written_of_it(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    for last, entries in ((4, [[1.0]]), (9, [[1.0], [2.0]])):
        writer.reading(FC1, ACTIVATION, 0, last, tally_of(entries))
        assert writer.flush()
    writer.reading(FC1, ACTIVATION, 10, 10, tally_of([[3.0]]))
    writer.close("finished")
    run = read(tmp_path / "x.rec")
    assert [(r.first, r.last, r.tally.samples) for r in run.readings] == [(0, 9, 2), (10, 10, 1)]
    assert run.unseen == ()


def test_readings_of_another_width_are_not_merged_but_listed(two):
    two[0].reading(FC1, ACTIVATION, 0, 9, tally_of([[1.0, 2.0]]))
    two[1].reading(FC1, ACTIVATION, 0, 9, tally_of([[1.0]]))
    run = merged(two)
    assert run.tally(FC1, ACTIVATION) is not None
    assert [entry.what for entry in run.unseen] == ["fc1"]


def test_losses_are_averaged_and_nan_on_one_rank_is_nan(two):
    two[0].stream(0, 0, {"loss": np.array([1, 2, 3], "f4"), "lr": np.array([5, 5], "f4")})
    two[1].stream(0, 1, {"loss": np.array([4, np.nan, 7], "f4"), "lr": np.array([9, 9], "f4")})
    run = merged(two)
    assert run.loss.steps.tolist() == [0, 1, 2, 3]
    assert repr(run.loss.values.tolist()) == "[1.0, 3.0, nan, 7.0]"
    assert run.optimizers[0].lr.values.tolist() == [5, 5, 9]


def test_alive_anywhere_is_alive(two):
    facts, _ = alive(100, 4)
    two[0].liveness(0, "fc1", facts, np.array([[-1, 0, 5, -1], [-1, 7, 50, -1], [0, 3, 9, 0]], np.int32))
    two[1].liveness(0, "fc1", facts, np.array([[3, 0, 2, -1], [99, 7, 60, -1], [8, 3, 9, 0]], np.int32))
    one = merged(two).liveness["fc1"]
    assert one.first_alive.tolist() == [3, 0, 2, -1]
    assert one.last_alive.tolist() == [99, 7, 60, -1]
    assert one.alive_steps.tolist() == [8, 3, 9, 0]
    assert (one.steps, one.last_step, one.period, one.batch) == (100, 99, 1, 64.0)


def test_flow_is_the_root_mean_square_over_ranks(two):
    two[0].flow(0, {(FC1, ACTIVATION): 3e-200, (FC2, ACTIVATION): 1.0})
    two[1].flow(0, {(FC1, ACTIVATION): 4e-200})
    two[1].flow(5, {(FC1, ACTIVATION): 2.0})
    run = merged(two)
    assert run.flow_steps.tolist() == [0, 5]
    assert run.flow[FC1, ACTIVATION].tolist() == pytest.approx([12.5**0.5 * 1e-200, 2.0], rel=1e-12, abs=0)
    assert repr(run.flow[FC2, ACTIVATION].tolist()) == "[1.0, nan]"


def test_norms_and_facts_come_from_the_lowest_rank_that_has_them(two):
    two[0].norms(0, ("a",), np.full((4, 1), 1, "f4"))
    two[1].norms(0, ("a",), np.full((4, 1), 2, "f4"))
    two[1].norms(1, ("a",), np.full((4, 1), 3, "f4"))
    two[0].facts({"script": "zero"})
    two[1].facts({"script": "one", "only": 1})
    two[0].optimizer(0, {"kind": "SGD", "steps": 2, "parameters": ["a"]})
    two[1].optimizer(0, {"kind": "Adam", "steps": 3, "parameters": ["a", "b"]})
    two[1].layers((Layer(path="b", kind="Linear", units=1, parameters=("b",)),))
    run = merged(two)
    assert run.norms is not None
    assert run.norms.gradient.tolist() == [[1.0], [3.0]]
    assert (run.facts["script"], run.facts["only"], run.facts["ranks"]) == ("zero", 1, 2)
    [optimizer] = run.optimizers
    assert (optimizer.kind, optimizer.steps, optimizer.parameters) == ("SGD", 3, ("a", "b"))
    assert [layer.path for layer in run.layers] == ["b"]


def test_one_event_on_two_ranks_is_one_that_names_both(two):
    two[0].event(5, "non-finite", {"stage": "loss"})
    two[0].event(6, "non-finite", {"stage": "loss"})
    two[1].event(5, "non-finite", {"stage": "loss"})
    events = merged(two).events
    assert [(e.step, e.data["ranks"]) for e in events] == [(5, [0, 1]), (6, [0])]


def test_a_rank_that_was_killed_makes_the_run_interrupted(tmp_path):
    path = killed(tmp_path / "x.rec")
    (path / "rank-00000.db").rename(path / "rank-00001.db")
    (path / "rank-00000.db-wal").rename(path / "rank-00001.db-wal")
    other = Writer.create(tmp_path / "y.rec")
    fill(other)
    other.close("finished")
    other.file.rename(path / "rank-00000.db")
    run = read(path)
    assert run.facts["status"] == "interrupted"
    assert run.readings[0].tally.samples == 16


def test_a_rank_that_cannot_be_read_is_listed_and_the_others_are_read(two):
    fill(two[0])
    run = merged(two)
    two[1].file.write_bytes(b"\0" * 5000)
    run = read(two[0].path)
    assert run.steps == 40
    [entry] = run.unseen
    assert entry.why.startswith("rank 1: the record")


def test_one_rank_of_a_newer_defib_is_refused(two):
    merged(two)
    data = bytearray(two[1].file.read_bytes())
    data[63] += 1
    two[1].file.write_bytes(data)
    (two[0].path / "meta.json").unlink()
    with pytest.raises(RecordTooNew):
        read(two[0].path)


def test_a_run_that_is_being_written_is_running(two):
    two[0].close("finished")
    assert read(two[0].path).facts["status"] == "running"


def test_how_the_run_ended_is_told(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    writer.close("raised ValueError")
    assert read(tmp_path / "x.rec").facts["status"] == "raised ValueError"
