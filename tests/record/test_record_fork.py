"""A forked child writes nothing, disturbs nothing, and the parent goes on."""

import ctypes
import gc
import multiprocessing
import os
import threading
import time

import numpy as np
import pytest
from record_samples import fill

from defib.record.reader import read
from defib.record.writer import Writer


def in_child(work):
    """Runs ``work`` in a forked child; its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_writes_nothing_and_the_parent_goes_on(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    fill(writer, steps=20)
    assert writer.flush()
    writer.stream(0, 20, {"loss": np.ones(1, "f4")})

    def child():
        writer.stream(0, 500, {"loss": np.ones(1, "f4")})
        writer.event(500, "from-the-child", {})
        assert not writer.flush()
        writer.close("child")
        gc.collect()

    assert in_child(child) == 0
    writer.stream(0, 21, {"loss": np.ones(1, "f4")})
    writer.event(21, "from-the-parent", {})
    writer.close("finished")
    assert writer.fault is None
    run = read(tmp_path / "x.rec")
    assert run.loss.steps.tolist() == list(range(22))
    assert [event.kind for event in run.events] == ["compiled", "from-the-parent"]
    assert run.facts["status"] == "finished"
    assert run.unseen == ()


def test_a_child_that_ends_like_any_python_program_does_no_harm(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    fill(writer)
    assert writer.flush()
    worker = multiprocessing.get_context("fork").Process(target=gc.collect)
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    writer.event(1, "after", {})
    assert writer.flush()
    assert [event.kind for event in read(tmp_path / "x.rec").events] == ["compiled", "after"]
    writer.close("finished")


def test_forks_at_random_moments_under_load_neither_hang_nor_lose_anything(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    stop = threading.Event()
    said = [0]

    def train():
        while not stop.is_set():
            writer.stream(0, said[0], {"loss": np.ones(1, "f4")})
            said[0] += 1
            if said[0] % 10 == 0:
                writer.event(said[0], "mark", {})
            time.sleep(0.0005)

    trainer = threading.Thread(target=train)
    trainer.start()
    codes = [in_child(lambda: writer.event(0, "from-the-child", {})) for _ in range(30)]
    stop.set()
    trainer.join()
    writer.close("finished")
    assert codes == [0] * 30
    run = read(tmp_path / "x.rec")
    assert run.loss.steps.tolist() == list(range(said[0]))
    assert {event.kind for event in run.events} == {"mark"}
    assert len(run.events) == said[0] // 10


def test_what_waits_at_a_fork_is_written_though_nothing_follows(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    fill(writer)
    assert in_child(lambda: None) == 0
    until = time.monotonic() + 4
    while read(tmp_path / "x.rec").steps < 40:
        assert time.monotonic() < until
        time.sleep(0.05)
    writer.close("finished")


def test_a_fork_that_python_does_not_know_of_leaves_the_child_inert(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    fill(writer)
    assert writer.flush()
    child = ctypes.PyDLL(None).fork()
    if child == 0:
        began = time.monotonic()
        writer.event(9, "from-the-child", {})
        writer.close("child")
        os._exit(0 if time.monotonic() - began < 0.5 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    writer.close("finished")
    run = read(tmp_path / "x.rec")
    assert (run.facts["status"], len(run.events)) == ("finished", 1)


def test_a_fork_with_nothing_open_costs_no_thread(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    before = threading.active_count()
    assert in_child(lambda: None) == 0
    assert threading.active_count() == before
    writer.close("finished")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_the_child_has_no_open_file_of_the_record(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    fill(writer)
    assert writer.flush()

    open_here = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_link(fd)]
    assert [link for link in open_here if "x.rec" in link], (
        "the parent has it open: there is something to inherit"
    )
    assert in_child(_no_record_open) == 0
    writer.close("finished")


def _is_link(fd):
    return os.path.islink(f"/proc/self/fd/{fd}")


def _no_record_open():
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_link(fd)]
    assert not [link for link in links if "x.rec" in link]
