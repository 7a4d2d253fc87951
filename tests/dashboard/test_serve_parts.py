"""The parts of the server, and how the command refuses."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import uvicorn
from served import Recording, recorded, serving, start, stop

from defib.core.errors import UsageError
from defib.dashboard import line, pages
from defib.dashboard.feed import Feed, State, Viewer, as_events
from defib.dashboard.keys import TOKEN_VARIABLE, Keys
from defib.record.glance import glance, trace


def defib(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "defib", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


# ------------------------------------------------------------ the command


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nothing.rec",), 66, "there is no record at"),
        (("file.txt",), 65, "is not a defib record"),
        ((".", "--port", "x"), 64, "a port is a whole number"),
        ((".", "--port", "70000"), 64, "a port is a whole number"),
        ((".", "--port", "-1"), 64, "port"),
        ((), 64, "RUN|DIR"),
    ],
)
def test_what_cannot_be_served_is_one_clear_line(
    tmp_path: Path, words: tuple[str, ...], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("hello")
    done = defib("serve", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = defib("serve", str(tmp_path), "--port", str(port))
    assert done.returncode == 69
    assert done.stderr.startswith(f"defib: port {port} of 127.0.0.1 cannot be had")
    assert len(done.stderr.splitlines()) == 1


def test_a_short_token_is_refused_and_not_repeated(tmp_path: Path) -> None:
    done = defib("serve", str(tmp_path), **{TOKEN_VARIABLE: "hunter2"})
    assert done.returncode == 64
    assert TOKEN_VARIABLE in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_an_address_that_cannot_be_told_ends_it_in_one_clear_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "defib", "serve", str(tmp_path)]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 73
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_extra_is_one_clear_line(tmp_path: Path, missing: str) -> None:
    script = (
        "import sys\n"
        f"sys.modules['{missing}'] = None\n"  # as python marks what cannot be imported
        "from defib.cli import main\n"
        f"sys.exit(main(['serve', {str(tmp_path)!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 69
    assert 'pip install "defib[serve]"' in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_neither_the_server_nor_its_reader_imports_torch(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.rec", dead=8)
    script = (
        "import sys, json\n"
        "import defib.dashboard.server, defib.dashboard.hall\n"
        "from defib.dashboard.worker import answer\n"
        f"head, body = answer(json.dumps({{'do': 'portray', 'path': {str(path)!r}}}).encode())\n"
        f"two, page = answer(json.dumps({{'do': 'compare', 'paths': [{str(path)!r}] * 2}}).encode())\n"
        "assert head['verdict'] == 'sick' and page, (head, two)\n"
        "before = 'torch' in sys.modules\n"
        "import torch\n"
        "print(before, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "True"], done.stderr


# ------------------------------------------------------------ keys


def test_names_follow_from_the_token_and_do_not_tell_it() -> None:
    keys, other = Keys.make(), Keys.make()
    assert keys.token != other.token
    assert len(keys.token) >= 43
    again = Keys.make(keys.token)
    assert (again.prefix, again.session) == (keys.prefix, keys.session)
    names = {keys.prefix, keys.session, keys.run_id(Path("/a")), keys.run_id(Path("/b")), other.session}
    assert len(names) == 5
    assert all(keys.token not in name for name in names)
    assert keys.is_token(keys.token)
    assert not keys.is_token(keys.token[:-1])
    assert not keys.is_token("é" * 43)
    for bad in ("", "x" * 31, "x" * 129, "x" * 40 + "\n", "x" * 40 + ";"):
        with pytest.raises(UsageError):
            Keys.make(bad)


# ------------------------------------------------------------ feeds and viewers


def test_a_slow_viewer_holds_the_newest_notice_and_no_other() -> None:
    async def away() -> None:
        viewer = Viewer("a")
        feed = Feed(id="a", path=Path("a"), name="a", epoch="e")
        other = Feed(id="b", path=Path("b"), name="b", epoch="e")
        for version in range(1000):
            feed.version = other.version = version
            viewer.give(feed.notice())
            viewer.give(other.notice())
        [notice] = await viewer.take(1)
        assert notice.id == "e.999"
        assert await viewer.take(0.01) == []
        assert list(as_events([notice], last="e.999")) == []
        assert len(list(as_events([notice], last="e.998"))) == 1

    asyncio.run(away())


def test_a_record_that_is_being_made_is_not_called_damaged_at_once(tmp_path: Path) -> None:
    from defib.dashboard.desk import Answer

    folder = tmp_path / "a.rec"
    recorded(folder)
    feed = Feed(id="a", path=folder, name="a", epoch="e")
    feed.look(trace(folder))
    failed = Answer(head={"error": "damaged", "slug": "record-damaged"})
    for _ in range(2):
        feed.take(failed, feed.seen)
        assert (feed.state, feed.is_stale) == (State.WAITING, True)
    feed.take(failed, feed.seen)
    assert (feed.state, feed.is_stale) == (State.UNREADABLE, False)


# ------------------------------------------------------------ records from outside


def test_a_trace_changes_with_every_flush_and_not_without(tmp_path: Path) -> None:
    run = Recording(tmp_path / "a.rec")
    seen = []
    for _ in range(3):
        run.go_on(5)
        time.sleep(0.05)
        seen.append(trace(run.path))
        assert trace(run.path) == seen[-1]
    assert len({found.files for found in seen if found is not None}) == 3
    assert trace(run.path / "rank-00000.db") is not None
    run.close()
    assert trace(tmp_path) is None
    assert trace(tmp_path / "none") is None


def test_a_glance_says_which_run_it_is_and_whether_its_writer_lives(tmp_path: Path) -> None:
    run = Recording(tmp_path / "a.rec")
    run.go_on(5)
    found = glance(run.path)
    assert found.status == "running"
    assert not found.has_lost_its_writer(time.time())
    run.close()
    assert (glance(run.path).status, glance(run.path).run) == ("finished", found.run)
    dead = type(found)(run="x", status="running", writers=({**found.writers[0], "start": 1},))
    assert dead.has_lost_its_writer(time.time())
    elsewhere = type(found)(run="x", status="running", writers=({**found.writers[0], "host": "other"},))
    assert not elsewhere.has_lost_its_writer(time.time() - 30)
    assert elsewhere.has_lost_its_writer(time.time() - 90)


# ------------------------------------------------------------ lines and pages


def test_an_answer_that_is_not_fetched_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "FETCHED_WITHIN", 0.5)
    sent = []

    async def endless(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})  # type: ignore[operator]
            sent.append(time.monotonic())
            await asyncio.sleep(0)

    async def slow() -> float:
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(endless, http=line.Line, ws="none", lifespan="off", log_config=None)  # type: ignore[arg-type]
        server = uvicorn.Server(config)
        serving_it = asyncio.create_task(server._serve([listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*listening.getsockname(), limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        began = time.monotonic()
        while server.server_state.connections or time.monotonic() < began + 0.2:
            await asyncio.sleep(0.01)
            assert time.monotonic() < began + 10
        taken = time.monotonic() - began
        writer.close()
        server.should_exit = server.force_exit = True
        for task in list(server.server_state.tasks):
            task.cancel()
        await serving_it
        del reader
        return taken

    assert 0.4 < asyncio.run(slow()) < 5
    assert sent


def test_pages_hold_no_data_and_name_their_scripts_by_hash() -> None:
    for page in (pages.run_page(True), pages.run_page(False), pages.list_page()):
        assert "unsafe" not in page.policy
        assert "frame-ancestors 'none'" in page.policy
        assert "connect-src 'self'" in page.policy
        assert page.policy.count("'sha256-") >= 2
        assert b"LISTED" not in page.body
        assert b" onclick=" not in page.body
        assert b" style=" not in page.body
    assert b"const LIST = true" in pages.run_page(True).body


def test_ctrl_c_at_once_ends_it_too(tmp_path: Path) -> None:
    server = start(recorded(tmp_path / "a.rec"))
    assert stop(server, signal.SIGINT) == (0, "")


def test_localhost_is_a_name_for_it(tmp_path: Path) -> None:
    with serving(recorded(tmp_path / "a.rec")) as server:
        entry = f"GET /?token={server.token} HTTP/1.1\r\nHost: localhost:{server.port}\r\n\r\n".encode()
        assert server.send(entry).status == 200
