"""A disk that is full, gone, locked, slow or limited stops the recording, never the run."""

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from record_samples import ACTIVATION, FC1, alive, fill, record, tally_of

from defib.core.errors import OutputError
from defib.record import pump
from defib.record.batch import Batch, Points
from defib.record.reader import read
from defib.record.writer import SMALLEST_CAP, Writer


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 512 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def noise(step, size=2000):
    return {"loss": np.random.default_rng(step).normal(size=size).astype("f4")}


def fill_up(place, leave=0):
    free = shutil.disk_usage(place).free - leave
    (place / "ballast").write_bytes(bytes(free))


def test_a_full_disk_stops_the_recording_and_not_the_run(small_disk):
    writer = Writer.create(small_disk / "x.rec")
    fill(writer)
    assert writer.flush()
    fill_up(small_disk)
    for step in range(100, 40_000, 2000):
        writer.stream(0, step, noise(step))
    assert not writer.flush()
    assert writer.fault is not None
    assert "full" in writer.fault or "disk" in writer.fault
    writer.close("finished")
    run = read(small_disk / "x.rec")
    assert run.steps == 40
    assert len(run.readings) == 8


def test_when_space_returns_so_does_the_recording_and_the_gap_is_told(small_disk, monkeypatch):
    monkeypatch.setattr(pump, "QUEUE_BYTES", 100_000)
    writer = Writer.create(small_disk / "x.rec")
    writer._pump._limit = writer._pump._batch.limit = 60_000
    fill(writer)
    assert writer.flush()
    fill_up(small_disk)
    for step in range(100, 40_100, 2000):
        writer.stream(0, step, noise(step))
        writer.flush(0.5)
    assert writer.fault is not None
    (small_disk / "ballast").unlink()
    writer.stream(0, 50_000, noise(1, 10))
    assert writer.flush()
    writer.close("finished")
    run = read(small_disk / "x.rec")
    assert run.facts["status"] == "finished"
    kept = set(run.loss.steps.tolist())
    [gap] = run.of_kind("gap")
    missing = {first for first in range(100, 40_100, 2000) if first not in kept}
    assert gap.data["dropped"]["stream"] == len(missing) + (50_000 not in kept)
    assert gap.data["first_step"] == min(missing)
    assert any("not recorded" in entry.why for entry in run.unseen)


def test_on_a_full_disk_no_record_is_made_and_nothing_is_left_behind(small_disk):
    fill_up(small_disk)
    with pytest.raises(OutputError, match=r"cannot make a record at .*; choose another"):
        Writer.create(small_disk / "x.rec")
    assert not (small_disk / "x.rec").exists()


def test_a_file_size_limit_is_kept_clear_of(tmp_path):
    code = """
        import resource, signal, sys
        import numpy as np
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # to reach the limit is to die
        from defib.record.writer import Writer
        writer = Writer.create(sys.argv[1])
        for step in range(0, 1_200_000, 10_000):
            writer.stream(0, step, {"loss": np.random.default_rng(step).normal(size=10_000).astype("f4")})
            writer.flush()
        writer.close("finished")
        print(writer.fault)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "x.rec")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr
    run = read(tmp_path / "x.rec")
    assert run.facts["status"] == "finished"
    assert len(run.loss) > 10_000
    assert any("size limit" in entry.why for entry in run.unseen)


def test_a_removed_folder_stops_the_recording_for_good(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    fill(writer)
    assert writer.flush()
    shutil.rmtree(tmp_path / "x.rec")
    fill(writer, seed=1)
    assert not writer.flush()
    assert writer.fault is not None
    assert "removed" in writer.fault
    writer.close("finished")
    assert not (tmp_path / "x.rec").exists()


def test_a_record_replaced_by_another_run_is_left_alone(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    fill(writer)
    assert writer.flush()
    shutil.rmtree(tmp_path / "x.rec")
    record(tmp_path / "x.rec", steps=7)
    before = (tmp_path / "x.rec" / "rank-00000.db").read_bytes()
    fill(writer, seed=1)
    assert not writer.flush()
    writer.close("finished")
    assert (tmp_path / "x.rec" / "rank-00000.db").read_bytes() == before


def test_a_locked_file_is_waited_for_and_nothing_is_lost(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    fill(writer, steps=20)
    assert writer.flush()
    other = sqlite3.connect(writer.file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    fill(writer)
    assert not writer.flush(3.0)
    assert writer.fault == "database is locked"
    other.execute("COMMIT")
    other.close()
    assert writer.flush()
    writer.close("finished")
    run = read(tmp_path / "x.rec")
    assert run.steps == 40
    assert run.unseen == ()


def test_a_reader_that_holds_the_file_does_not_hinder_the_end(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    fill(writer)
    assert writer.flush()
    other = sqlite3.connect(writer.file, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM state").fetchall()
    fill(writer, steps=60, seed=1)
    began = time.monotonic()
    writer.close("finished")
    assert time.monotonic() - began < 5.5
    other.close()
    assert read(tmp_path / "x.rec").facts["status"] == "finished"
    assert read(tmp_path / "x.rec").steps == 60


def test_a_disk_that_hangs_delays_neither_training_nor_the_end(tmp_path):
    script = Path(__file__).with_name("stalled.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "x.rec")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    told = json.loads(done.stdout)
    assert told["longest"] < 0.5
    assert not told["flushed"]
    assert told["flush"] < 1.5
    assert told["child"] == 0
    assert told["fork"] < 3.5
    assert 4.0 < told["close"] < 6.5
    assert "did not answer within 5 s" in told["fault"]
    assert done.stderr == ""


def test_without_threads_it_is_written_at_once(tmp_path):
    code = """
        import resource, sys, threading
        from record_samples import fill
        from defib.record.writer import Writer
        threading.stack_size(64 << 20)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        limit = int(open("/proc/self/statm").read().split()[0]) * 4096 + (40 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            threading.Thread(target=print).start()
        except RuntimeError:
            print("no threads", end=" ")
        writer = Writer.create(sys.argv[1])
        fill(writer)
        print(threading.active_count(), writer.flush(), end=" ")
        writer.event(50, "late", {})
        writer.close("finished")
        print(writer.fault)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "x.rec")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.path.dirname(__file__)},
    )
    assert done.stdout == "no threads 1 True None\n", done.stderr
    run = read(tmp_path / "x.rec")
    assert run.steps == 40
    assert [event.kind for event in run.events] == ["compiled", "late"]
    assert run.facts["status"] == "finished"


def size_of(path):
    return sum(file.stat().st_size for file in path.iterdir() if not file.name.endswith("-shm"))


def test_r4_the_file_never_grows_beyond_its_cap_and_says_what_it_left_out(tmp_path):
    cap = 2 << 20
    path = tmp_path / "x.rec"
    writer = Writer.create(path, cap=cap)
    rng = np.random.default_rng(0)
    largest = 0
    for window in range(120):
        writer.reading(FC1, ACTIVATION, window, window, tally_of(rng.normal(size=(2, 1000))))
        writer.stream(0, window * 3000, noise(window, 3000))
        writer.norms(window, ("a",) * 3, rng.normal(size=(4, 3)).astype("f4"))
        writer.liveness(0, "fc1", *alive(window + 1, 1000))
        assert writer.flush()
        largest = max(largest, size_of(path))
    writer.event(9, "non-finite", {})
    writer.close("finished")
    assert writer.fault is None
    assert largest <= cap
    assert size_of(path) <= cap
    run = read(path)
    assert run.facts["status"] == "finished"
    assert 5 < len(run.readings) < 100
    assert run.liveness["fc1"].steps == 120
    assert run.unseen[0].why.startswith("per-unit readings stopped at the record's size limit")
    steps = run.loss.steps
    assert steps[-1] > 100_000, "streams go on, coarser"
    assert (np.diff(steps[-100:]) == 16).all()


def test_past_the_cap_the_ending_is_still_told(tmp_path):
    writer = Writer.create(tmp_path / "x.rec", cap=1)
    for step in range(0, 750_000, 5_000):
        writer.stream(0, step, noise(step, 5_000))
        assert writer.flush()
    writer.facts({"late": True})
    writer.close("finished")
    run = read(tmp_path / "x.rec")
    assert run.facts["late"]
    assert run.facts["status"] == "finished"
    assert size_of(tmp_path / "x.rec") <= SMALLEST_CAP
    assert [event.data["stopped"] for event in run.of_kind("capped")] == ["readings", "all"]


def test_the_queue_is_bounded_and_counts_what_it_drops():
    batch = Batch(limit=10_000)
    for step in range(100):
        batch.add(Points(optimizer=0, name="loss", step=step, values=np.zeros(100, "f4")))
    assert batch.weight <= 10_000
    assert len(batch.entries) + batch.dropped["stream"] == 100
    gap = batch.gap("slow")
    assert gap is not None
    assert gap.data["last_step"] == 99 + 99
    assert gap.data["first_step"] == len(batch.entries)


def test_a_batch_that_failed_comes_before_what_followed_it():
    batches = [Batch(limit=10_000) for _ in range(2)]
    for number, batch in enumerate(batches):
        batch.add(Points(optimizer=0, name="loss", step=number, values=np.zeros(1, "f4")))
        batch.states["fact", "n"] = number
    both = batches[0].then(batches[1])
    assert [entry.step for entry in both.entries if isinstance(entry, Points)] == [0, 1]
    assert both.states["fact", "n"] == 1


def test_the_limits_of_this_process_are_what_they_were(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    record(tmp_path / "x.rec")
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before
