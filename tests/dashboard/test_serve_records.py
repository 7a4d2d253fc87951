"""What the stream says while records grow, end, vanish, are renewed or damaged."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from served import HOSTILE, Recording, Served, recorded, serving, start, stop

HERE = Path(__file__).parent
Notice = dict[str, Any]


OPEN: "list[Stream]" = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Streams are closed when a test ends, however it ends."""
    yield
    while OPEN:
        OPEN.pop().close()


class Stream:
    """A server-sent-events client that waits for what it is asked for."""

    def __init__(self, server: Served, rest: str, last: str | None = None) -> None:
        OPEN.append(self)
        self.line = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        more = f"Last-Event-ID: {last}\r\n" if last else ""
        head = f"GET {server.path(rest)} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{more}"
        self.line.sendall(f"{head}Cookie: {server.cookie}\r\n\r\n".encode())
        self.file = self.line.makefile("rb")

    def events(self) -> Iterator[tuple[str, str, str]]:
        """Kind, id and data of each event."""
        found: dict[str, str] = {}
        for raw in self.file:
            name, colon, value = raw.decode().rstrip("\r\n").partition(": ")
            if colon and name in {"event", "id", "data"}:
                found[name] = value
            elif not name and "event" in found:
                yield found["event"], found.get("id", ""), found["data"]
                found = {}

    def until(self, wanted: Callable[[Notice], bool], wait: float = 25.0) -> Notice:
        """The first notice that is as wanted."""
        self.line.settimeout(wait)
        seen = []
        for kind, _, data in self.events():
            if kind == "run":
                seen.append(json.loads(data))
                if wanted(seen[-1]):
                    return seen[-1]
        raise AssertionError(f"the stream ended after {seen[-3:]}")

    def close(self) -> None:
        """Hangs up."""
        self.file.close()
        self.line.close()


def state(server: Served) -> dict[str, Any]:
    """The portrait."""
    found: dict[str, Any] = json.loads(server.get(f"{server.home}state").body)
    return found


def test_a_growing_record_is_seen_growing_then_sick_then_ended(tmp_path: Path) -> None:
    run = Recording(tmp_path / "a.rec")
    run.go_on(50)
    with serving(run.path) as server:
        stream = Stream(server, f"{server.home}events")
        first = stream.until(lambda n: n["state"] == "live")
        assert (first["steps"], first["name"]) == (50, "a.rec")
        run.go_on(50)
        assert stream.until(lambda n: n["steps"] == 100)["state"] == "live"
        run.go_on(400, dead=8)
        sick = stream.until(lambda n: n["verdict"] == "sick")
        assert "silent" in sick["sentence"]
        assert state(server)["verdict"]["sentence"] == sick["sentence"]
        run.close()
        assert stream.until(lambda n: n["state"] == "ended")["note"] == "finished"


def test_one_reading_serves_all_viewers(tmp_path: Path) -> None:
    run = Recording(tmp_path / "a.rec")
    run.go_on(50)
    with serving(run.path) as server:
        streams = [Stream(server, f"{server.home}events") for _ in range(12)]
        for stream in streams:
            stream.until(lambda n: n["steps"] == 50)
        run.go_on(10)
        bodies = {stream.until(lambda n: n["steps"] == 60)["body"] for stream in streams}
        assert len(bodies) == 1  # one portrait, whoever asks
        children = subprocess.run(
            ["ps", "--ppid", str(server.process.pid), "-o", "pid="],
            capture_output=True,
            text=True,
            check=True,
        )
        assert len(children.stdout.split()) == 1
        run.close()


def test_a_viewer_that_comes_back_gets_what_is_new_and_not_what_it_has(tmp_path: Path) -> None:
    run = Recording(tmp_path / "a.rec")
    run.go_on(50)
    with serving(run.path) as server:
        stream = Stream(server, f"{server.home}events")
        had = stream.until(lambda n: n["steps"] == 50)
        stream.close()
        again = Stream(server, f"{server.home}events", last=had["id"])
        kind, _, _ = next(again.events())
        assert kind == "beat"  # ten seconds of nothing: it has the newest
        run.go_on(10)
        run.go_on(10)
        away = Stream(server, f"{server.home}events", last=had["id"])
        assert away.until(lambda n: n["steps"] == 70)["id"] != had["id"]
        run.close()


def test_a_killed_training_is_said_to_be_gone(tmp_path: Path) -> None:
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[2])\n"
        "from served import Recording; from pathlib import Path\n"
        "run = Recording(Path(sys.argv[1])); run.go_on(30)\nprint('ready', flush=True)\ntime.sleep(600)\n"
    )
    path = tmp_path / "killed.rec"
    child = subprocess.Popen([sys.executable, "-c", script, str(path), str(HERE)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    try:
        with serving(path) as server:
            stream = Stream(server, f"{server.home}events")
            assert stream.until(lambda n: n["steps"] == 30)["state"] == "live"
            child.kill()
            child.wait()
            assert "process is gone" in stream.until(lambda n: n["state"] == "ended", 10)["note"]
            assert state(server)["steps"] == 30
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_a_record_that_vanishes_is_said_to_be_gone_and_its_last_state_stays(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.rec")
    with serving(path) as server:
        stream = Stream(server, f"{server.home}events")
        stream.until(lambda n: n["state"] == "ended")
        shutil.rmtree(path)
        gone = stream.until(lambda n: n["state"] == "gone", 10)
        assert "no longer at its place" in gone["note"]
        assert gone["body"] is not None
        assert state(server)["steps"] == 200
        recorded(path)
        assert "another run" in stream.until(lambda n: n["state"] == "ended")["note"]


def test_a_renewed_record_is_said_to_be_another_run(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.rec")
    with serving(path) as server:
        stream = Stream(server, f"{server.home}events")
        before = stream.until(lambda n: n["state"] == "ended")
        run = Recording(path, force=True)
        run.go_on(20)
        after = stream.until(lambda n: n["steps"] == 20)
        assert after["run"] != before["run"]
        assert after["note"].startswith("another run is recorded here since")
        run.close()


def test_a_record_that_is_damaged_while_it_is_shown_costs_only_itself(tmp_path: Path) -> None:
    recorded(tmp_path / "a.rec")
    recorded(tmp_path / "b.rec")
    with serving(tmp_path) as server:
        stream = Stream(server, "events")
        feeds = {}
        while len(feeds) < 2:
            found = stream.until(lambda n: n["state"] == "ended")
            feeds[found["name"]] = found["feed"]
        (tmp_path / "a.rec" / "rank-00000.db").write_bytes(b"not a database" * 100)
        hurt = stream.until(lambda n: n["feed"] == feeds["a.rec"] and n["state"] == "unreadable")
        assert "damaged" in hurt["note"]
        assert server.get(f"run/{feeds['b.rec']}/state").status == 200
        assert server.get(f"run/{feeds['a.rec']}/state").status == 200  # as it was last seen


def test_a_reader_that_is_killed_costs_an_answer_and_not_the_server(tmp_path: Path) -> None:
    run = Recording(tmp_path / "a.rec")
    run.go_on(50)
    with serving(run.path) as server:
        stream = Stream(server, f"{server.home}events")
        stream.until(lambda n: n["steps"] == 50)
        children = subprocess.run(
            ["ps", "--ppid", str(server.process.pid), "-o", "pid="],
            capture_output=True,
            text=True,
            check=True,
        )
        reader = int(children.stdout)
        os.kill(reader, signal.SIGSTOP)  # so that it is asked and does not answer
        run.go_on(10)
        time.sleep(1.5)
        os.kill(reader, signal.SIGKILL)
        hurt = stream.until(lambda n: n["state"] == "unreadable")
        # asyncio is not always the first to hear of the end of a child.
        assert "killed by signal 9" in hurt["note"] or "killed, or ended" in hurt["note"]
        assert "shown is what was read at" in hurt["note"]
        assert stream.until(lambda n: n["steps"] == 60)["state"] == "live"
        run.close()


def test_a_folder_is_searched_for_new_records(tmp_path: Path) -> None:
    recorded(tmp_path / "first.rec")
    with serving(tmp_path) as server:
        assert server.home == ""
        stream = Stream(server, "events")
        assert stream.until(lambda n: n["state"] == "ended")["name"] == "first.rec"
        recorded(tmp_path / "later" / "second.rec")
        assert stream.until(lambda n: n["name"] == "later/second.rec" and n["verdict"])["steps"] == 200


def test_an_empty_folder_waits_for_its_first_record(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        stream = Stream(server, "events")
        recorded(tmp_path / "first.rec")
        assert stream.until(lambda n: n["state"] == "ended")["name"] == "first.rec"


def test_who_opens_a_run_need_not_wait_for_the_rest_that_listed_ones_take(tmp_path: Path) -> None:
    run = Recording(tmp_path / "a.rec")
    run.go_on(50)
    with serving(tmp_path) as server:
        listed = Stream(server, "events").until(lambda n: n["state"] == "live")
        run.go_on(50)
        began = time.monotonic()
        Stream(server, f"run/{listed['feed']}/events").until(lambda n: n["steps"] == 100)
        assert time.monotonic() - began < 2.5
        run.close()


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    recorded(tmp_path / "outside" / "private.rec")
    folder = tmp_path / "folder"
    recorded(folder / "a.rec")
    (folder / "link").symlink_to(tmp_path / "outside")
    with serving(folder) as server:
        stream = Stream(server, "events")
        stream.until(lambda n: n["state"] == "ended")
        recorded(folder / "b.rec")
        assert stream.until(lambda n: n["state"] == "ended" and n["name"] != "a.rec")["name"] == "b.rec"


def test_two_runs_are_compared_on_a_page(tmp_path: Path) -> None:
    recorded(tmp_path / "good.rec")
    recorded(tmp_path / "bad.rec", dead=8)
    with serving(tmp_path) as server:
        stream = Stream(server, "events")
        feeds: dict[str, str] = {}
        while len(feeds) < 2:
            found = stream.until(lambda n: n["state"] == "ended")
            feeds[found["name"]] = found["feed"]
        said = server.get(f"compare/{feeds['good.rec']}/{feeds['bad.rec']}", wait=30)
        assert said.status == 200
        assert b"good.rec" in said.body
        assert b'defib.el("a", { href: "../../" }, "All runs")' in said.body
        assert "script-src 'sha256-" in said.headers["content-security-policy"]
        assert server.get(f"compare/{feeds['good.rec']}/{feeds['good.rec']}").status == 404


def test_hostile_layer_names_arrive_as_json_and_nothing_breaks(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.rec", HOSTILE, dead=8)
    assert len(HOSTILE) >= 25
    with serving(path) as server:
        Stream(server, f"{server.home}events").until(lambda n: n["state"] == "ended")
        raw = server.get(f"{server.home}state").body
        names = {layer["path"] for layer in json.loads(raw)["layers"]}
        assert set(HOSTILE) <= names
        assert raw.isascii()


def test_the_server_ends_with_its_streams_open(tmp_path: Path) -> None:
    for how in (signal.SIGINT, signal.SIGTERM):
        path = recorded(tmp_path / f"{how}.rec")
        server = start(path)
        stream = Stream(server, f"{server.home}events")
        stream.until(lambda n: n["state"] == "ended")
        began = time.monotonic()
        code, complaints = stop(server, how)
        assert (code, complaints) == (0, "")
        assert time.monotonic() - began < 5
        assert [kind for kind, _, _ in stream.events()][-1] == "bye"


def test_the_reading_process_does_not_outlive_the_server(tmp_path: Path) -> None:
    server = start(recorded(tmp_path / "a.rec"))
    found = subprocess.run(
        ["ps", "--ppid", str(server.process.pid), "-o", "pid="], capture_output=True, text=True, check=True
    )
    server.process.kill()
    server.process.communicate()
    child = int(found.stdout)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("given", ["finished", "running"])
def test_serving_leaves_the_record_as_it_was(tmp_path: Path, given: str) -> None:
    run = Recording(tmp_path / "a.rec")
    run.go_on(50)
    if given == "finished":
        run.close()
    kept = {p.name: p.read_bytes() for p in run.path.iterdir() if p.suffix != ".db-shm"}
    with serving(run.path) as server:
        Stream(server, f"{server.home}events").until(lambda n: n["steps"] == 50)
    after = {p.name: p.read_bytes() for p in run.path.iterdir()}
    assert {name: after[name] for name in kept if not name.endswith("-shm")} == {
        name: data for name, data in kept.items() if not name.endswith("-shm")
    }
    if given == "running":
        run.close()
        assert sorted(p.name for p in run.path.iterdir()) == ["meta.json", "rank-00000.db"]
