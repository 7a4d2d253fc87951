"""Exhibits come back bit for bit, under the record's cap, from killed and from damaged runs."""

import os
import shutil
import sqlite3
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from record_samples import fill, record

from defib.core.errors import RecordDamaged
from defib.record import cabinet, codec
from defib.record.batch import Batch, Points, Shown
from defib.record.reader import read
from defib.record.schema import SCHEMA_VERSION
from defib.record.writer import SMALLEST_CAP, Writer

DB = "rank-00000.db"

numbers = st.sampled_from(sorted(cabinet.KINDS)).flatmap(
    lambda kind: arrays.arrays(np.dtype(f"<{kind}"), arrays.array_shapes(min_dims=0, max_dims=3, min_side=0))
)


def bytes_of(named):
    return {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in named.items()}


def remains(seed, rows=8):
    rng = np.random.default_rng(seed)
    return {
        "weight": rng.normal(size=(rows, 64)).astype("f4"),
        "units": np.arange(rows, dtype=np.int64),
        "fired": rng.normal(size=rows) > 0,
    }


def shown(path):
    return {(e.kind, e.path, e.step): e for e in read(path).exhibits}


@given(named=st.dictionaries(st.text(max_size=5), numbers, max_size=4))
@settings(max_examples=150, deadline=None)
def test_arrays_of_any_type_and_shape_come_back_bit_for_bit(named):
    layout, size, body = cabinet.pack(named)
    assert bytes_of(cabinet.unpack(codec.loads(codec.dumps(layout)), size, body)) == bytes_of(named)


def test_an_exhibit_comes_back_with_its_facts_and_its_rank(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    facts = {"step": 7, "lrs": [0.1, float("inf")], "nested": {"none": None}}
    writer.exhibit("dead-units", "net.0", 7, facts, remains(0))
    writer.exhibit("autopsy", "", -1, {}, {})
    writer.close("finished")
    assert writer.fault is None
    first, second = read(tmp_path / "x.rec").exhibits
    assert (first.kind, first.path, first.step, first.arrays) == ("autopsy", "", -1, {})
    assert (second.kind, second.path, second.step) == ("dead-units", "net.0", 7)
    assert second.facts == facts | {"rank": 0}
    assert bytes_of(second.arrays) == bytes_of(remains(0))


def test_a_later_one_of_the_same_kind_path_and_step_replaces_the_earlier(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    for seed in range(3):
        writer.exhibit("dead-units", "net.0", 7, {"seed": seed}, remains(seed))
        if seed:
            assert writer.flush()
    writer.exhibit("dead-units", "net.0", 8, {}, remains(9))
    writer.close("finished")
    found = shown(tmp_path / "x.rec")
    assert set(found) == {("dead-units", "net.0", 7), ("dead-units", "net.0", 8)}
    assert found["dead-units", "net.0", 7].facts["seed"] == 2
    assert bytes_of(found["dead-units", "net.0", 7].arrays) == bytes_of(remains(2))


def test_arrays_and_facts_changed_after_the_call_are_recorded_as_they_were(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    given_away, facts = remains(1), {"list": [1]}
    writer.exhibit("dead-units", "net.0", 7, facts, given_away)
    given_away["weight"][:] = 0
    facts["list"].append(2)
    writer.close("finished")
    [found] = read(tmp_path / "x.rec").exhibits
    assert found.facts["list"] == [1]
    assert bytes_of(found.arrays) == bytes_of(remains(1))


def test_an_array_that_cannot_be_kept_is_counted_and_costs_nothing_else(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    writer.exhibit("autopsy", "a", 0, {}, {"names": np.array(["text"])})
    writer.exhibit("autopsy", "b", 0, {}, remains(0))
    fill(writer)
    writer.close("finished")
    run = read(tmp_path / "x.rec")
    assert [e.path for e in run.exhibits] == ["b"]
    assert run.steps == 40
    assert [entry.why for entry in run.unseen] == ["1 entries could not be encoded"]


def test_big_ones_never_push_the_file_beyond_its_cap_and_the_newest_of_a_kind_stay(tmp_path):
    writer = Writer.create(tmp_path / "x.rec", cap=SMALLEST_CAP)
    writer.exhibit("autopsy", "first", 0, {}, remains(0, rows=20))
    noise = np.random.default_rng(0)
    for step in range(40):
        writer.exhibit("dead-units", "net.0", step, {}, {"a": noise.normal(size=3000)})
        assert writer.flush()
        size = sum(os.path.getsize(f) for f in (tmp_path / "x.rec").iterdir() if f.name.startswith(DB))
        assert size < SMALLEST_CAP + 64_000  # shared memory and headers are not counted
    writer.close("finished")
    run = read(tmp_path / "x.rec")
    kept = [e.step for e in run.exhibits if e.kind == "dead-units"]
    assert kept[-1] == 39
    assert kept == list(range(40 - len(kept), 40))
    assert 2 <= len(kept) < 40
    assert [e.path for e in run.exhibits if e.kind == "autopsy"] == ["first"], (
        "another kind does not give way"
    )
    gone = f"{40 - len(kept)} arrays kept as evidence gave way at the record's size limit (dead-units)"
    assert [entry.why for entry in run.unseen] == [gone]


def test_one_larger_than_its_share_finds_no_room_and_drops_no_other(tmp_path):
    writer = Writer.create(tmp_path / "x.rec", cap=SMALLEST_CAP)
    writer.exhibit("dead-units", "small", 0, {}, remains(0))
    writer.exhibit("dead-units", "large", 1, {}, {"a": np.random.default_rng(0).normal(size=40_000)})
    writer.close("finished")
    run = read(tmp_path / "x.rec")
    assert [e.path for e in run.exhibits] == ["small"]
    assert run.unseen[0].why.startswith("1 arrays kept as evidence gave way")


def test_in_a_record_that_is_full_an_exhibit_takes_the_room_of_its_elders(tmp_path):
    writer = Writer.create(tmp_path / "x.rec", cap=SMALLEST_CAP)
    noise = np.random.default_rng(0)
    writer.exhibit("dead-units", "net.0", 0, {}, {"a": noise.normal(size=2000)})
    for step in range(0, 200_000, 5000):
        writer.stream(0, step, {"loss": noise.normal(size=5000).astype("f4")})
        assert writer.flush()
    writer.exhibit("dead-units", "net.0", 1, {}, {"a": noise.normal(size=1000)})
    writer.exhibit("autopsy", "net.0", 1, {}, {"a": noise.normal(size=5000)})
    writer.close("finished")
    assert os.path.getsize(tmp_path / "x.rec" / DB) < SMALLEST_CAP
    assert [(e.kind, e.step) for e in read(tmp_path / "x.rec").exhibits] == [("dead-units", 1)]


def test_the_queue_keeps_the_newest_of_a_key_and_counts_what_finds_no_room():
    batch = Batch(limit=20_000)
    for _ in range(50):
        batch.show(("k", "a", 0), Shown(facts=b"{}", arrays={"a": np.zeros(1000)}))
    assert (len(batch.exhibits), batch.weight < 20_000, dict(batch.dropped)) == (1, True, {})
    for step in range(1, 5):
        batch.show(("k", "a", step), Shown(facts=b"{}", arrays={"a": np.zeros(1000)}))
    assert (len(batch.exhibits), dict(batch.dropped), batch.dropped_steps) == (2, {"exhibit": 3}, (2, 4))
    batch.add(Points(optimizer=0, name="loss", step=9, values=np.zeros(2000, "f4")))
    assert batch.dropped == {"exhibit": 3, "stream": 1}


def test_an_exhibit_that_could_not_be_written_is_replaced_by_what_came_meanwhile():
    early, late = Batch(limit=20_000), Batch(limit=20_000)
    early.show(("k", "a", 0), Shown(facts=b"1", arrays={}))
    early.show(("k", "b", 0), Shown(facts=b"1", arrays={}))
    late.show(("k", "a", 0), Shown(facts=b"2", arrays={}))
    both = early.then(late)
    assert {key[1]: one.facts for key, one in both.exhibits.items()} == {"a": b"2", "b": b"1"}


def test_a_damaged_exhibit_is_lost_and_told_and_the_others_stay(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    for step in range(3):
        writer.exhibit("dead-units", "net.0", step, {}, remains(step, rows=40))
    writer.close("finished")
    truth = shown(tmp_path / "x.rec")
    data = (tmp_path / "x.rec" / DB).read_bytes()
    rng, losses = np.random.default_rng(0), 0
    for _ in range(60):
        changed = bytearray(data)
        changed[rng.integers(4096, len(data))] ^= 1 << rng.integers(8)
        (tmp_path / "x.rec" / DB).write_bytes(changed)
        try:
            run = read(tmp_path / "x.rec")
        except RecordDamaged:  # it hit the definition of a table
            continue
        for one in run.exhibits:
            assert bytes_of(one.arrays) == bytes_of(truth[one.kind, one.path, one.step].arrays)
        lost = 3 - len(run.exhibits)
        assert lost == 0 or any("exhibit damaged or lost" in entry.why for entry in run.unseen)
        losses += lost == 1
    assert losses > 20


def test_a_truncated_file_loses_the_last_exhibits_and_says_so(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    for step in range(6):
        writer.exhibit("dead-units", "net.0", step, {}, remains(step, rows=60))
        assert writer.flush()
    writer.close("finished")
    data = (tmp_path / "x.rec" / DB).read_bytes()
    (tmp_path / "x.rec" / DB).write_bytes(data[: len(data) * 2 // 3])
    run = read(tmp_path / "x.rec")
    assert 0 < len(run.exhibits) < 6
    assert any("exhibit damaged or lost" in entry.why for entry in run.unseen)


def test_sealed_nonsense_is_listed_and_not_raised(tmp_path):
    path = record(tmp_path / "x.rec")
    body = codec.deflate(bytes(16))
    good = b'[["a","f4",[4]]]'
    nonsense = [
        (b"{}", b'[["a","f4",[5]]]', 16, body),
        (b"{}", b'[["a","f4",[3]]]', 16, body),
        (b"{}", b'[["a","O",[4]]]', 16, body),
        (b"{}", b'[["a","f4",[-4]]]', 16, body),
        (b"{}", b'[["a","f4",[4294967296,4294967297]]]', 16, body),
        (b"{}", b"[3]", 16, body),
        (b"[]", good, 16, body),
        (b"{}", good, 1 << 40, body),
        (b"{}", good, -1, body),
    ]
    with sqlite3.connect(path / DB) as connection:
        for number, (facts, layout, size, data) in enumerate(nonsense, 1):
            values = (number, b"dead-units", b"net.0", number, facts, layout, size, data)
            crc = codec.seal("exhibit", *values)
            connection.execute("INSERT INTO exhibit VALUES (?,?,?,?,?,?,?,?,?)", (*values, crc))
    connection.close()
    run = read(path)
    assert run.exhibits == ()
    assert [e.why for e in run.unseen] == [f"{len(nonsense)} rows of exhibit damaged or lost in {DB}"]


def test_exhibits_of_all_ranks_are_kept_apart(tmp_path):
    writers = [Writer.create(tmp_path / "x.rec", rank=rank) for rank in (0, 1)]
    for rank, writer in enumerate(writers):
        writer.exhibit("dead-units", "net.0", 5 - rank, {}, remains(rank))
        writer.close("finished")
    run = read(tmp_path / "x.rec")
    assert [(e.step, e.facts["rank"]) for e in run.exhibits] == [(4, 1), (5, 0)]
    assert bytes_of(run.exhibits[0].arrays) == bytes_of(remains(1))


def test_a_killed_run_has_what_was_flushed(tmp_path):
    child = os.fork()
    if child == 0:
        try:
            writer = Writer.create(tmp_path / "x.rec")
            for seed in range(4):
                writer.exhibit("dead-units", "net.0", 7, {"seed": seed}, remains(seed))
                assert seed == 3 or writer.flush()
        finally:
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    [found] = read(tmp_path / "x.rec").exhibits
    seed = found.facts["seed"]
    assert seed in {2, 3}
    assert bytes_of(found.arrays) == bytes_of(remains(seed))


def test_without_being_asked_it_is_written_within_a_second(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    writer.exhibit("dead-units", "net.0", 7, {}, remains(0))
    time.sleep(1.5)
    assert len(read(tmp_path / "x.rec").exhibits) == 1
    writer.close("finished")


@pytest.mark.parametrize("side", ["folder", "file"])
def test_a_record_of_schema_1_is_one_without_exhibits(tmp_path, side):
    path = record(tmp_path / "x.rec")
    truth = read(path)
    with sqlite3.connect(path / DB) as connection:
        connection.execute("DROP TABLE exhibit")
        connection.execute("PRAGMA user_version=1")
    connection.close()
    meta = path / "meta.json"
    meta.write_bytes(codec.dumps(codec.loads(meta.read_bytes()) | {"schema": 1}))
    run = read(path if side == "folder" else path / DB)
    assert (run.exhibits, run.unseen, run.steps) == ((), (), 40)
    assert run.loss.values.tolist() == truth.loss.values.tolist()


def test_a_record_of_this_schema_without_its_table_is_damaged(tmp_path):
    assert SCHEMA_VERSION >= 2
    path = record(tmp_path / "x.rec")
    with sqlite3.connect(path / DB) as connection:
        connection.execute("DROP TABLE exhibit")
    connection.close()
    with pytest.raises(RecordDamaged, match="table exhibit is missing"):
        read(path)
    shutil.rmtree(path)
