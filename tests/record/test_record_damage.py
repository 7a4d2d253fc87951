"""Damaged, foreign and newer files: one clear line, or what is whole; never other numbers."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest
from record_samples import ACTIVATION, FC1, killed, record

from defib.core.errors import DefibError, NotARecord, NotFound, RecordDamaged, RecordTooNew
from defib.record import codec
from defib.record.reader import read
from defib.record.schema import HISTORY, SCHEMA_VERSION, TABLES

DB = "rank-00000.db"


def try_to_read(path):
    """The run, or None after one clear line."""
    try:
        return read(path)
    except DefibError as error:
        line = str(error)
        assert 20 < len(line) < 1000
        assert "\n" not in line
        assert "; " in line, "says the way out"
        return None


def facts_of(run):
    """All numbers of a run, comparable."""
    return {
        "readings": {(r.site, r.signal, r.first): r.tally.to_array().tobytes() for r in run.readings},
        "loss": dict(zip(run.loss.steps.tolist(), run.loss.values.tolist(), strict=True)),
        "flow": {
            (k, s): v for k, a in run.flow.items() for s, v in zip(run.flow_steps.tolist(), a, strict=True)
        },
        "alive": {
            (p, n): v for p, one in run.liveness.items() for n, v in enumerate(one.last_alive.tolist())
        },
        "layers": {layer.path: layer for layer in run.layers},
        "events": {(e.step, e.kind): e.data for e in run.events},
    }


def assert_nothing_made_up(run, truth):
    for name, known in facts_of(run).items():
        for key, value in known.items():
            assert truth[name][key] == value, f"{name} {key} was altered"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = record(tmp_path_factory.mktemp("whole") / "x.rec", steps=400, units=300)
    return path, facts_of(read(path))


def mutant(tmp_path, whole, data):
    path = tmp_path / "m.rec"
    path.mkdir(exist_ok=True)
    shutil.copyfile(whole / "meta.json", path / "meta.json")
    (path / DB).write_bytes(data)
    return path


def test_a_record_truncated_at_any_length_is_one_clear_line_or_what_is_left(tmp_path, whole):
    path, truth = whole
    data = (path / DB).read_bytes()
    lengths = [*range(0, 101), *range(101, len(data), max(1, len(data) // 150)), len(data) - 1]
    readable = 0
    for length in lengths:
        run = try_to_read(mutant(tmp_path, path, data[:length]))
        if run is not None:
            readable += 1
            assert_nothing_made_up(run, truth)
            assert run.unseen, f"a record cut at {length} of {len(data)} looks whole"
    assert readable > 20


def test_a_flipped_bit_never_becomes_a_number(tmp_path, whole):
    path, truth = whole
    data = (path / DB).read_bytes()
    rng = random.Random(0)
    told = silent = 0
    for _ in range(200):
        spot = rng.randrange(len(data))
        changed = bytearray(data)
        changed[spot] ^= 1 << rng.randrange(8)
        run = try_to_read(mutant(tmp_path, path, bytes(changed)))
        if run is None or run.unseen:
            told += 1
        else:
            silent += 1
            assert facts_of(run) == truth, "data was lost and nothing says so"
        if run is not None:
            assert_nothing_made_up(run, truth)
    assert told > 100, f"only {told} flips were noticed, {silent} hit unused bytes"


def test_a_bit_flipped_in_the_first_page_never_brings_a_traceback(tmp_path, whole):
    path, truth = whole
    data = (path / DB).read_bytes()
    for spot in range(0, 4096, 41):
        changed = bytearray(data)
        changed[spot] ^= 1 << spot % 8
        run = try_to_read(mutant(tmp_path, path, bytes(changed)))
        if run is not None:
            assert_nothing_made_up(run, truth)


@pytest.mark.parametrize("filler", [b"\0", b"\xff", None], ids=["zeros", "ones", "noise"])
def test_an_overwritten_stretch_costs_what_it_hit(tmp_path, whole, filler):
    path, truth = whole
    data = (path / DB).read_bytes()
    rng = random.Random(1)
    readable = 0
    for _ in range(60):
        start = rng.randrange(4096, len(data))
        size = rng.choice([1, 100, 4096, 20_000])
        hole = rng.randbytes(size) if filler is None else filler * size
        run = try_to_read(mutant(tmp_path, path, (data[:start] + hole + data[start + size :])[: len(data)]))
        if run is not None:
            readable += 1
            assert_nothing_made_up(run, truth)
    assert readable > 30


def test_a_damaged_reading_is_dropped_and_listed_and_the_others_stay(tmp_path, whole):
    path = tmp_path / "x.rec"
    shutil.copytree(whole[0], path)
    with sqlite3.connect(path / DB) as connection:
        connection.execute("UPDATE reading SET samples = samples + 1 WHERE id = 3")
    connection.close()
    run = read(path)
    assert len(run.readings) == len(whole[1]["readings"]) - 1
    assert [entry.why for entry in run.unseen] == [f"1 row of reading damaged or lost in {DB}"]


@pytest.mark.parametrize("row", ["1", "max(id)"])
def test_a_missing_row_is_noticed(tmp_path, whole, row):
    path = tmp_path / "x.rec"
    shutil.copytree(whole[0], path)
    with sqlite3.connect(path / DB) as connection:
        connection.execute(f"DELETE FROM reading WHERE id = (SELECT {row} FROM reading)")
    connection.close()
    assert [entry.why for entry in read(path).unseen] == [f"1 row of reading damaged or lost in {DB}"]


def test_a_damaged_log_of_a_killed_run_costs_its_newest_part(tmp_path):
    path = killed(tmp_path / "x.rec", steps=100, units=50)
    truth = facts_of(read(path))
    log = (path / f"{DB}-wal").read_bytes()
    rng = random.Random(2)
    for _ in range(80):
        changed = bytearray(log)
        changed[rng.randrange(len(log))] ^= 1 << rng.randrange(8)
        (path / f"{DB}-wal").write_bytes(changed[: rng.choice([len(log), rng.randrange(len(log))])])
        (path / f"{DB}-shm").unlink(missing_ok=True)
        run = try_to_read(path)
        if run is not None:
            assert_nothing_made_up(run, truth)


@pytest.mark.parametrize("data", [b"", b"\0" * 5000, b"garbage" * 1000, b"SQLite format 3\0" + b"x" * 5000])
def test_a_rank_file_that_is_none_is_damaged(tmp_path, whole, data):
    with pytest.raises(RecordDamaged):
        read(mutant(tmp_path, whole[0], data))
    assert try_to_read(tmp_path / "m.rec") is None


@pytest.mark.parametrize("data", [b"", b"garbage" * 1000, b"\x93NUMPY"])
def test_another_file_is_not_a_record(tmp_path, data):
    (tmp_path / "model.pt").write_bytes(data)
    with pytest.raises(NotARecord):
        read(tmp_path / "model.pt")


def test_somebody_elses_database_is_not_a_record(tmp_path):
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("CREATE TABLE runs (id INTEGER)")
    connection.close()
    with pytest.raises(NotARecord):
        read(tmp_path / "mlflow.db")


def test_a_folder_that_is_none_or_has_no_rank_file(tmp_path, whole):
    with pytest.raises(NotARecord):
        read(tmp_path)
    with pytest.raises(NotFound):
        read(tmp_path / "no.rec")
    shutil.copyfile(whole[0] / "meta.json", tmp_path / "meta.json")
    with pytest.raises(RecordDamaged):
        read(tmp_path)


@pytest.mark.parametrize("name", ["nul\0character", "n" * 5000, "line\nbreak", "\ud800"])
def test_an_impossible_path_is_one_clear_line(tmp_path, name):
    assert try_to_read(tmp_path / name) is None


def test_a_pipe_does_not_block_the_reader(tmp_path):
    os.mkfifo(tmp_path / DB)
    with pytest.raises(DefibError):
        read(tmp_path)
    with pytest.raises(DefibError):
        read(tmp_path / DB)


def test_a_newer_schema_asks_for_an_upgrade(tmp_path, whole):
    path = tmp_path / "x.rec"
    shutil.copytree(whole[0], path)
    with sqlite3.connect(path / DB) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.close()
    (path / "meta.json").unlink()
    for place in (path, path / DB):
        with pytest.raises(
            RecordTooNew, match=f"schema {SCHEMA_VERSION + 1}.*up to {SCHEMA_VERSION}; upgrade defib"
        ):
            read(place)


def test_a_folder_of_a_newer_schema_is_told_by_its_meta_data_alone(tmp_path):
    (tmp_path / "meta.json").write_text(json.dumps({"format": "defib-record", "schema": SCHEMA_VERSION + 3}))
    with pytest.raises(RecordTooNew, match="upgrade defib"):
        read(tmp_path)


def test_a_flipped_version_is_damage_and_not_a_newer_defib(tmp_path, whole):
    changed = bytearray((whole[0] / DB).read_bytes())
    changed[61] ^= 4
    with pytest.raises(RecordDamaged):
        read(mutant(tmp_path, whole[0], bytes(changed)))


def test_every_schema_version_has_a_history():
    assert sorted(HISTORY) == list(range(1, SCHEMA_VERSION + 1))


def test_a_reworded_comment_does_not_make_older_records_unreadable(tmp_path, whole):
    path = tmp_path / "x.rec"
    shutil.copytree(whole[0], path)
    with sqlite3.connect(path / DB) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, '-- from 1', '--   counted from 1')")
    connection.close()
    assert facts_of(read(path)) == whole[1]
    with sqlite3.connect(path / DB) as connection:
        connection.execute("ALTER TABLE event ADD COLUMN extra")
    connection.close()
    with pytest.raises(RecordDamaged):
        read(path)


def test_every_column_has_a_comment():
    for sql in TABLES.values():
        for line in sql.splitlines()[1:-1]:
            assert len(line.partition("-- ")[2]) >= 1, line


def test_lost_meta_data_does_not_cost_the_record(tmp_path, whole):
    path = tmp_path / "x.rec"
    shutil.copytree(whole[0], path)
    (path / "meta.json").write_bytes(b"\0\0")
    assert facts_of(read(path)) == whole[1]


def test_one_file_of_a_record_is_enough(whole):
    assert facts_of(read(whole[0] / DB)) == whole[1]


def test_a_bomb_is_refused_before_memory_is_taken(tmp_path, whole):
    path = tmp_path / "x.rec"
    shutil.copytree(whole[0], path)
    body = zlib.compress(bytes(1 << 24), 9)
    row = (81, 1, 0, 0, 1, 1 << 40, "d" * 10, body)
    low = (82, 1, 0, 0, 1, 10, "d" * 10, body)
    with sqlite3.connect(path / DB) as connection:
        for values in (row, low):
            crc = codec.seal("reading", *values)
            connection.execute("INSERT INTO reading VALUES (?,?,?,?,?,?,?,?,?)", (*values, crc))
    connection.close()
    run = read(path)
    assert len(run.readings) == len(whole[1]["readings"])
    assert run.unseen[0].why.startswith("2 rows of reading")


def test_a_table_that_is_really_a_view_is_not_run(tmp_path, whole):
    path = tmp_path / "x.rec"
    shutil.copytree(whole[0], path)
    with sqlite3.connect(path / DB) as connection:
        connection.execute("DROP TABLE event")
        connection.execute(
            "CREATE VIEW event AS WITH RECURSIVE c(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM c) "
            "SELECT id, 0 AS time, 0 AS step, 0 AS kind, 0 AS data, 0 AS crc FROM c"
        )
    connection.close()
    with pytest.raises(RecordDamaged):
        read(path)


def test_sealed_nonsense_is_listed_and_not_raised(tmp_path, whole):
    path = tmp_path / "x.rec"
    shutil.copytree(whole[0], path)
    nonsense = {
        "event": (2, 1.0, 3, b"\xff\xff", b"[]"),
        "liveness": (2, 0, b"fc9", b"[1]", 3, codec.deflate(bytes(36))),
        "place": (3, b"fc9", "zero", "no such signal"),
        "reading": (9, 77, 0, 0, 1, 1, "f" * 10, codec.deflate(bytes(40))),
        "series": (5, "norms", b"99", 1, 4, codec.deflate(bytes(24))),
    }
    with sqlite3.connect(path / DB) as connection:
        for table, values in nonsense.items():
            marks = ",".join("?" * (len(values) + 1))
            crc = codec.seal(table, *values)
            connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", (*values, crc))
    connection.close()
    run = read(path)
    assert len(run.unseen) == len(nonsense)
    assert_nothing_made_up(run, whole[1])


def test_states_of_another_type_are_listed_and_not_raised(tmp_path, whole):
    path = tmp_path / "x.rec"
    shutil.copytree(whole[0], path)
    with sqlite3.connect(path / DB) as connection:
        rows = connection.execute("SELECT id, kind, key FROM state WHERE kind != 'ident'").fetchall()
        for number, kind, key in rows:
            plain = b'[[{"path":3}],4,null]'
            values = (number, kind, key, len(plain), codec.deflate(plain))
            connection.execute(
                "INSERT OR REPLACE INTO state VALUES (?,?,?,?,?,?)", (*values, codec.seal("state", *values))
            )
    connection.close()
    run = read(path)
    assert run.layers == run.wirings == ()
    assert {entry.why for entry in run.unseen} >= {f"the list of layers is damaged in {DB}"}


AS_NOBODY = """
import os, sys
import defib.record.reader, encodings.ascii, encodings.idna, random  # while it may
os.setgid(65534); os.setuid(65534)
from defib.record.reader import read
from defib.core.errors import RecordError
try:
    print(read(sys.argv[1]).steps)
except RecordError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
@pytest.mark.parametrize("how", ["unreadable", "read-only folder"])
def test_another_user_reads_what_he_may(tmp_path, how):
    path = killed(tmp_path / "x.rec")
    private = [p for p in path.parents if p.is_relative_to(gettempdir()) and p != Path(gettempdir())]
    for folder in [path, *private]:
        folder.chmod(0o755)
    for file in path.iterdir():
        file.chmod(0o600 if how == "unreadable" else 0o644)
    (path / f"{DB}-shm").unlink()
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(path)], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.stderr == ""
    if how == "unreadable":
        assert "Permission denied; check its permissions" in done.stdout
    else:
        assert done.stdout == "40\n"


def test_torch_is_not_imported():
    code = "import sys, defib.record.reader, defib.record.writer; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_readings_are_in_order_of_time(whole):
    firsts = [reading.first for reading in read(whole[0]).at(FC1, ACTIVATION)]
    assert firsts == sorted(firsts)
    assert np.unique(firsts).size == len(firsts)
