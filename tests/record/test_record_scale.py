"""Large records: readings stay packed until they are asked for, and windows make room for newer ones."""

import gc
import itertools
import pickle
import shutil
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
import pytest
from record_samples import ACTIVATION, FC1, GRADIENT, alive, fill, tally_of

from defib.core.reading import Reading
from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.diagnosis.engine import diagnose
from defib.record import codec
from defib.record.batch import Batch, Happened
from defib.record.reader import read
from defib.record.shelf import Shelf
from defib.record.thinning import Held, closest
from defib.record.writer import Writer
from defib.report.json import to_json

PLACES = [(Site(path=f"fc{n}"), signal) for n in range(4) for signal in (ACTIVATION, GRADIENT)]


def same(one: Tally, other: Tally) -> bool:
    """Bit for bit."""
    return one.samples == other.samples and one.to_array().tobytes() == other.to_array().tobytes()


@pytest.fixture
def ranks(tmp_path):
    """Two ranks of one run, with windows in common."""
    for rank in range(2):
        writer = Writer.create(tmp_path / "x.rec", rank=rank)
        fill(writer, seed=rank)
        for window in range(3):
            for site, signal in PLACES:
                entries = np.random.default_rng([rank, window]).normal(size=(8, 50))
                writer.reading(site, signal, 10 * window, 10 * window + 9, tally_of(entries))
        writer.close("finished")
    return tmp_path / "x.rec"


def test_a_run_that_stays_packed_is_the_same_run(ranks):
    whole, packed = read(ranks), read(ranks, at_once=0)
    assert len(whole.readings) == len(packed.readings) > 20
    for one, other in zip(whole.readings, packed.readings, strict=True):
        assert (one.site, one.signal, one.first, one.last) == (
            other.site,
            other.signal,
            other.first,
            other.last,
        )
        assert same(one.tally, other.tally)
        assert (one.samples, one.units) == (other.samples, other.units)
        assert (one.entries, one.norm) == (other.entries, other.norm)
    assert to_json(diagnose(whole)) == to_json(diagnose(packed))
    assert diagnose(packed).not_run == ()


def test_readings_are_found_by_place_in_order_of_time(ranks):
    run = read(ranks, at_once=0)
    for site, signal in PLACES:
        expected = tuple(r for r in run.readings if (r.site, r.signal) == (site, signal))
        assert run.at(site, signal) == expected
        assert [r.first for r in expected] == sorted(r.first for r in expected)
    assert run.at(Site(path="nowhere"), ACTIVATION) == ()


def test_a_packed_run_does_not_need_its_record_any_more(ranks):
    whole = read(ranks)
    packed = read(ranks, at_once=0)
    shutil.rmtree(ranks)
    assert all(same(a.tally, b.tally) for a, b in zip(whole.readings, packed.readings, strict=True))


def test_samples_and_units_are_told_without_unpacking(ranks):
    run = read(ranks, at_once=0)
    shelf = run.readings[0]._shelf  # type: ignore[attr-defined]
    assert {r.units for r in run.readings} == {6, 50}
    assert all(r.samples > 0 for r in run.readings)
    assert not shelf._unpacked
    assert run.readings[0].norm > 0
    assert shelf._unpacked


def test_packed_tallies_beyond_memory_go_to_a_file_that_goes_with_them(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shelf = Shelf(in_memory=2_000, unpacked=3_000)
    tallies = [tally_of(np.random.default_rng(i).normal(size=(3, 40))) for i in range(20)]
    packed = []
    for tally in tallies:
        layout, body = codec.pack_rows(tally.to_array())
        packed.append(shelf.put(layout, tally.samples, tally.units, body))
    for _ in range(2):
        assert all(same(shelf.take(at), tally) for at, tally in zip(packed, tallies, strict=True))
    assert 0 < shelf._held <= 3_000
    del shelf
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_packed_reading_takes_its_tally_along_into_another_process(ranks):
    reading = read(ranks, at_once=0).readings[0]
    copy = pickle.loads(pickle.dumps(reading))
    assert type(copy) is Reading
    assert same(copy.tally, reading.tally)


def test_sealed_nonsense_in_a_packed_run_costs_the_rule_that_asks_for_it(ranks):
    body = bytes(400)  # as long as it should be, and not compressed data
    row = (9_000, 1, 90, 99, 1, 50, "f" * 10, body)
    with sqlite3.connect(ranks / "rank-00000.db") as connection:
        [(row_id,)] = connection.execute("SELECT max(id) + 1 FROM reading")
        row = (row_id, *row[1:])
        marks = (*row, codec.seal("reading", *row))
        connection.execute("INSERT INTO reading VALUES (?,?,?,?,?,?,?,?,?)", marks)
    connection.close()
    assert any("1 row of reading" in entry.why for entry in read(ranks).unseen)
    run = read(ranks, at_once=0)
    with pytest.raises(ValueError, match="decompress"):
        _ = next(r for r in run.readings if r.first == 90).tally
    found = diagnose(run)
    assert found.not_run
    assert all("AlteredError" in entry.why for entry in found.not_run)


def geometric(count: int) -> list[tuple[int, int]]:
    """Windows as capture makes them."""
    windows, first = [], 0
    for _ in range(count):
        last = int(first * 1.25 + 4)
        windows.append((first, last))
        first = last + 1
    return windows


def filled(path: Path, windows: list[tuple[int, int]], cap: int) -> dict[tuple[Site, Signal], list[Tally]]:
    """A record of those windows at every place; and what was told to it."""
    writer = Writer.create(path, cap=cap)
    told: dict[tuple[Site, Signal], list[Tally]] = {place: [] for place in PLACES}
    for number, (first, last) in enumerate(windows):
        for index, (site, signal) in enumerate(PLACES):
            tally = tally_of(np.random.default_rng([number, index]).integers(-9, 9, size=(16, 1000)))
            told[site, signal].append(tally)
            writer.reading(site, signal, first, last, tally)
        assert writer.flush(60), writer.fault
    writer.liveness(0, "fc0", *alive(5, 1000))
    writer.close("finished")
    assert writer.fault is None
    return told


def test_where_room_is_scarce_older_windows_become_one_and_nothing_is_lost(tmp_path):
    cap, windows = 3 << 20, geometric(40)
    told = filled(tmp_path / "x.rec", windows, cap)
    assert sum(file.stat().st_size for file in (tmp_path / "x.rec").iterdir()) < cap
    run = read(tmp_path / "x.rec")
    assert run.unseen == ()
    assert run.facts["status"] == "finished"
    spans = {tuple((r.first, r.last) for r in run.at(*place)) for place in PLACES}
    assert len(spans) == 1, "every place has the same windows"
    [kept] = spans
    assert 3 < len(kept) < 30
    assert kept[0][0] == 0
    assert kept[-1] == windows[-1], "the newest window is whole"
    assert all(before[1] + 1 == after[0] for before, after in itertools.pairwise(kept))
    for place, tallies in told.items():
        total = tallies[0]
        for tally in tallies[1:]:
            total = total.merge(tally)
        found = run.tally(*place)
        assert found is not None
        assert same(found, total)
        assert same(run.at(*place)[-1].tally, tallies[-1])


def test_where_there_is_room_every_window_stays(tmp_path):
    windows = geometric(12)
    told = filled(tmp_path / "x.rec", windows, 64 << 20)
    run = read(tmp_path / "x.rec")
    for place, tallies in told.items():
        readings = run.at(*place)
        assert [(r.first, r.last) for r in readings] == windows
        assert all(same(r.tally, tally) for r, tally in zip(readings, tallies, strict=True))


def test_the_two_neighbours_closest_in_the_logarithm_of_time_become_one():
    windows = [
        Held(first=a, last=b, units=3, row=1, bytes=9) for a, b in [(0, 4), (5, 99), (100, 120), (121, 150)]
    ]
    assert closest(windows) == 2
    assert closest(windows[:3]) == 1
    assert closest(windows[:1]) is None
    other = Held(first=151, last=160, units=4, row=1, bytes=9)
    assert closest([windows[0], other]) is None, "of another shape"


def test_two_readings_of_each_place_wait_whatever_they_weigh():
    batch = Batch(limit=1_000)
    tally = tally_of(np.zeros((1, 1000)))
    for first in range(3):
        for site, signal in PLACES:
            batch.add(Reading(site=site, signal=signal, first=first, last=first, tally=tally))
    batch.add(Happened(step=0, kind="x", data={}))
    assert [e.first for e in batch.entries if isinstance(e, Reading)] == [0] * len(PLACES) + [1] * len(PLACES)
    assert batch.dropped == {"reading": len(PLACES)}
    assert isinstance(batch.entries[-1], Happened), "they leave the room of others alone"


def test_a_batch_goes_in_parts_that_together_are_the_batch():
    batch = Batch(limit=1 << 20)
    batch.states["fact", "x"] = b"1"
    tally = tally_of(np.zeros((1, 100)))
    for first in range(7):
        batch.add(Reading(site=FC1, signal=ACTIVATION, first=first, last=first, tally=tally))
        batch.add(Happened(step=first, kind="x", data={}))
    parts = batch.portions(20_000)
    assert [sum(isinstance(e, Reading) for e in part.entries) for part in parts] == [2, 2, 2, 1]
    assert [len(part.states) for part in parts] == [1, 0, 0, 0]
    assert sorted(map(id, batch.entries)) == sorted(id(e) for part in parts for e in part.entries)
    small = batch.portions(1 << 20)
    assert len(small) == 1
    assert len(small[0].entries) == len(batch.entries)


def test_the_end_is_waited_for_as_long_as_the_disk_takes_something(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    tally = tally_of(np.random.default_rng(0).normal(size=(4, 20_000)))
    for number in range(60):
        writer.reading(Site(path=f"fc{number}"), ACTIVATION, 0, 9, tally)
    writer._pump.close("finished", within=0.3)  # a fraction of what it takes
    assert writer.fault is None
    run = read(tmp_path / "x.rec")
    assert run.facts["status"] == "finished"
    assert len(run.readings) == 60
