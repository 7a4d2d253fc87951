"""Hostile requests over raw sockets against a running server: none gets anything, and it lives on."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Said, Served, all_of, recorded, serving

SECRET = "secret-project"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served") / SECRET
    folder.mkdir()
    recorded(folder / f"{SECRET}.rec", (f"{SECRET}-layer", "fc2"), dead=3)
    (folder / "private.txt").write_text(SECRET)
    with serving(folder) as running:
        deadline = time.monotonic() + 30
        while SECRET.encode() not in first_notice(running):
            assert time.monotonic() < deadline
        yield running


def first_notice(server: Served) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=1) as line:
        head = f"GET {server.path('events')} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        line.sendall(f"{head}Cookie: {server.cookie}\r\n\r\n".encode())
        return all_of(line)


def request(
    server: Served,
    target: str = "",
    *,
    method: str = "GET",
    host: str | None = None,
    cookie: str | None = None,
    more: str = "",
    version: str = "HTTP/1.1",
) -> bytes:
    """A request that is right but for what is said; {P} is the prefix, {PORT} the port."""
    target = (target or "/{P}/").replace("{P}", server.prefix).replace("{TOKEN}", server.token)
    named = f"Host: {host}\r\n" if host else "" if host == "" else "Host: 127.0.0.1:{PORT}\r\n"
    kept = server.cookie if cookie is None else cookie
    text = f"{method} {target} {version}\r\n{named}" + (f"Cookie: {kept}\r\n" if kept else "") + more + "\r\n"
    return text.replace("{PORT}", str(server.port)).encode("latin-1", "surrogateescape")


def wrong(server: Served, kind: str) -> str:
    """A cookie or token that is nearly right."""
    session = server.cookie.partition("=")[2]
    nearly = {
        "none": "",
        "cut": f"defib={session[:-1]}",
        "longer": f"defib={session}0",
        "flipped": f"defib={'1' if session[0] == '0' else '0'}{session[1:]}",
        "upper": f"defib={session.upper()}",
        "empty": "defib=",
        "token": f"defib={server.token}",
        "other": f"session={session}",
        "latin": "defib=\xff\xfe",
    }
    return nearly[kind]


HOSTS = {
    "name that rebinds": "evil.example:{PORT}",
    "no port": "127.0.0.1",
    "other port": "127.0.0.1:1",
    "any address": "0.0.0.0:{PORT}",
    "sixth version": "[::1]:{PORT}",
    "name before": "127.0.0.1.evil.example:{PORT}",
    "name behind": "evil.example#127.0.0.1:{PORT}",
    "user": "127.0.0.1:{PORT}@evil.example",
    "decimal address": "2130706433:{PORT}",
    "short address": "127.1:{PORT}",
    "dot behind": "localhost.:{PORT}",
    "missing": "",
    "two in one": "127.0.0.1:{PORT}, evil.example",
}
PATHS = {
    "up": "/{P}/../../../etc/passwd",
    "up in code": "/{P}/%2e%2e/%2e%2e/etc/passwd",
    "up in double code": "/{P}/%252e%252e%252fetc%252fpasswd",
    "backslash": "/{P}/..\\..\\etc\\passwd",
    "run as path": "/{P}/run/../../private.txt/state",
    "run as coded path": "/{P}/run/%2Fetc%2Fpasswd/state",
    "two slashes": "//etc/passwd",
    "two slashes within": "/{P}//events",
    "hidden file": "/{P}/.git/config",
    "null": "/{P}/run/a%00b/state",
    "overlong": "/{P}/%c0%ae%c0%ae/etc/passwd",
    "semicolon": "/{P}/;/events",
    "query": "/{P}/events?path=/etc/passwd",
    "fragment": "/{P}/#x",
    "absolute": "http://evil.example/{P}/",
    "absolute own": "http://127.0.0.1:{PORT}/{P}/",
    "file": "file:///etc/passwd",
    "unc": "/{P}/\\\\evil.example\\share",
    "star": "*",
    "no slash": "{P}/",
    "name of a file that is there": "/{P}/private.txt",
    "unknown run": "/{P}/run/0123456789abcdef/state",
    "unknown comparison": "/{P}/compare/0123456789abcdef/0123456789abcdee",
    "static": "/{P}/static/../../keys.py",
    "letters of other scripts": "/{P}/run/\udce2\udc80\udcae/state",
}
ORIGINS = {
    "other site": "Origin: http://evil.example",
    "null": "Origin: null",
    "other port here": "Origin: http://127.0.0.1:1",
    "secure": "Origin: https://127.0.0.1:{PORT}",
    "other name for here": "Origin: http://localhost:{PORT}",
    "two": "Origin: http://127.0.0.1:{PORT}\r\nOrigin: http://evil.example",
    "fetched across sites": "Sec-Fetch-Site: cross-site",
    "fetched across ports": "Sec-Fetch-Site: same-site",
}
METHODS = ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X" * 40)
KEYS = ("none", "cut", "longer", "flipped", "upper", "empty", "token", "other", "latin")
ENTRIES = {
    "no token": "/",
    "empty token": "/?token=",
    "wrong token": "/?token=" + "A" * 43,
    "other word": "/?key={TOKEN}",
    "two tokens": "/?token=" + "A" * 43 + "&token={TOKEN}",
    "coded": "/?token=%41{TOKEN}",
    "behind": "/x?token={TOKEN}",
}
SIZES = {
    "long address": ("/{P}/" + "a" * 600, "", {414}),
    "very long address": ("/{P}/" + "a" * 100_000, "", {0, 400, 414}),
    "long query": ("/?token=" + "A" * 600, "", {414}),
    "many headers": ("", "".join(f"x{i}: 1\r\n" for i in range(100)), {431}),
    "long header": ("", f"x: {'a' * 9000}\r\n", {400, 431}),
    "endless header": ("", f"x: {'a' * 300_000}\r\n", {0, 400, 431}),
    "body": ("", "Content-Length: 5\r\n", {413}),
    "huge body": ("", "Content-Length: 99999999999\r\n", {413}),
    "negative body": ("", "Content-Length: -1\r\n", {400}),
    "two lengths": ("", "Content-Length: 0\r\nContent-Length: 9\r\n", {400}),
    "chunks": ("", "Transfer-Encoding: chunked\r\n", {413}),
    "both": ("", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", {400, 413}),
    "odd encoding": ("", "Transfer-Encoding: gzip, chunked\r\n", {400, 413, 501}),
    "upgrade": ("", "Connection: Upgrade\r\nUpgrade: websocket\r\n", {400}),
    "http/2 upgrade": ("", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", {400}),
    "expect": ("", "Expect: 100-continue\r\nContent-Length: 3\r\n", {413}),
}
GARBAGE = {
    "noise": b"\xff\xfe\x00\x01" * 64 + b"\r\n\r\n",
    "handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n",
    "second version": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "unknown version": b"GET / HTTP/9.9\r\n\r\n",
    "space in name": b"GET / HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
    "null in header": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\0\r\n\r\n",
    "line feeds": b"GET / HTTP/1.1\nHost: evil\n\n",
    "empty lines": b"\r\n" * 4000 + b"x\r\n\r\n",
}

PROBES: list[tuple[str, str, dict[str, str], set[int]]] = [
    *((f"host: {k}", "", {"host": v}, {400, 421}) for k, v in HOSTS.items()),
    *((f"path: {k}", v, {}, {400, 404, 405, 421}) for k, v in PATHS.items()),
    *((f"path without key: {k}", v, {"cookie": ""}, {400, 403, 405, 421}) for k, v in PATHS.items()),
    *((f"origin: {k}", "", {"more": f"{v}\r\n"}, {403}) for k, v in ORIGINS.items()),
    *((f"method: {m[:9]}", "", {"method": m}, {400, 405}) for m in METHODS),
    *((f"method at the entrance: {m[:9]}", "/?token={TOKEN}", {"method": m}, {400, 405}) for m in METHODS),
    *((f"entrance: {k}", v, {"cookie": ""}, {400, 403}) for k, v in ENTRIES.items()),
    *((f"size: {k}", target, {"more": more}, codes) for k, (target, more, codes) in SIZES.items()),
    ("version: none of a host", "", {"host": "", "version": "HTTP/1.0"}, {421}),
    (
        "entrance from another page's script",
        "/?token={TOKEN}",
        {"more": "Origin: http://evil.example\r\n"},
        {403},
    ),
    (
        "entrance as another page's image",
        "/?token={TOKEN}",
        {"more": "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n"},
        {403},
    ),
]


def refused(server: Served, said: Said, codes: set[int]) -> None:
    assert said.status in codes, said.raw[:300]
    for held in (SECRET, server.token, server.cookie.partition("=")[2]):
        assert held.encode() not in said.raw
    assert b"etc/passwd" not in said.raw  # nothing that was asked comes back
    assert b"evil" not in said.raw
    assert b"Traceback" not in said.raw
    assert server.get("").status == 200


@pytest.mark.parametrize(("target", "how", "codes"), [p[1:] for p in PROBES], ids=[p[0] for p in PROBES])
def test_a_hostile_request_is_refused(
    server: Served, target: str, how: dict[str, str], codes: set[int]
) -> None:
    refused(server, server.send(request(server, target, **how)), codes)


@pytest.mark.parametrize("kind", KEYS)
def test_a_cookie_that_is_nearly_right_is_refused(server: Served, kind: str) -> None:
    for rest in ("", "events", "run/0123456789abcdef/state"):
        refused(server, server.send(request(server, f"/{{P}}/{rest}", cookie=wrong(server, kind))), {403})


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_what_is_no_request_is_refused(server: Served, data: bytes) -> None:
    refused(server, server.send(data), {0, 400, 421, 505})


def test_the_right_cookie_under_a_wrong_prefix_is_refused(server: Served) -> None:
    nearly = ("0" if server.prefix[0] != "0" else "1") + server.prefix[1:]
    refused(server, server.send(request(server, f"/{nearly}/")), {403})
    refused(server, server.send(request(server, f"/{server.prefix}")), {404})


def test_a_second_request_behind_the_first_is_not_answered(server: Served) -> None:
    one = request(server)
    for first, second in ((one, one), (request(server, host="evil.example"), one)):
        raw = server.send(first + second).raw
        assert raw.count(b"HTTP/1.1 ") == 1
        assert b"\r\nconnection: close\r\n" in raw.lower()
    smuggled = request(server, more="Content-Length: 4\r\n") + b"GET " + one
    assert server.send(smuggled).raw.count(b"HTTP/1.1 ") == 1


def test_the_right_request_is_answered_so_that_the_refusals_mean_something(server: Served) -> None:
    assert server.send(request(server)).status == 200
    assert server.send(request(server, host="LOCALHOST:{PORT}")).status == 200
    assert server.send(request(server, "/?token={TOKEN}", cookie="")).status == 200
    linked = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n"
    assert server.send(request(server, "/?token={TOKEN}", cookie="", more=linked)).status == 200
    own = "Origin: http://127.0.0.1:{PORT}\r\nSec-Fetch-Site: same-origin\r\n"
    assert server.send(request(server, more=own)).status == 200
    assert server.send(request(server, method="HEAD")).body == b""
    assert server.send(request(server, "/{P}/events", method="HEAD")).status == 200


def test_every_answer_has_the_headers_that_close_it_off(server: Served) -> None:
    answers = [request(server), request(server, host="evil.example"), request(server, "/{P}/x")]
    for data in (*answers, request(server, "/?token={TOKEN}", cookie="")):
        said = server.send(data)
        assert "default-src 'none'" in said.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in said.headers["content-security-policy"]
        assert "unsafe" not in said.headers["content-security-policy"]
        assert said.headers["x-content-type-options"] == "nosniff"
        assert said.headers["referrer-policy"] == "no-referrer"
        assert said.headers["cache-control"] == "no-store"
        assert said.headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in said.headers
        assert not any(name.startswith("access-control") for name in said.headers)
    entry = server.send(request(server, "/?token={TOKEN}", cookie=""))
    assert entry.headers["set-cookie"].endswith(f"; Path=/{server.prefix}/; HttpOnly; SameSite=Strict")


def test_it_listens_on_this_machine_alone(server: Served) -> None:
    listening = {
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        if Path(table).exists()
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{server.port:04X}")
    }
    if not Path("/proc/net/tcp").exists():
        pytest.skip("no /proc/net here to ask")
    assert listening == {f"0100007F:{server.port:04X}"}


def test_slow_clients_are_cut_off_and_keep_nobody_out(server: Served) -> None:
    lines = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(60)]
    began = time.monotonic()
    for i, line in enumerate(lines):
        line.sendall(b"" if i % 3 == 0 else b"GET / HTTP/1.1\r\nHost: 127" if i % 3 == 1 else b"G")
    assert server.get("").status == 200
    for _ in range(3):  # a byte now and then does not win time
        time.sleep(1)
        for line in lines[1::3]:
            line.sendall(b".")
    for line in lines:
        assert all_of(line) == b""
        line.close()
    assert 4 < time.monotonic() - began < 12
    assert server.get("").status == 200


def test_connections_are_bounded_and_come_free_again(server: Served) -> None:
    lines = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(220)]
    time.sleep(0.5)
    lines[-1].settimeout(2)
    assert all_of(lines[-1]).startswith(b"HTTP/1.1 503 ")
    for line in lines:
        line.close()
    deadline = time.monotonic() + 10
    while server.get("").status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_viewers_are_bounded(server: Served) -> None:
    lines = []
    for _ in range(70):
        line = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        line.sendall(request(server, "/{P}/events"))
        lines.append(line)
    firsts = [line.recv(64) for line in lines]
    assert sum(first.startswith(b"HTTP/1.1 200") for first in firsts) == 64
    assert sum(first.startswith(b"HTTP/1.1 503") for first in firsts) == 6
    for line in lines:
        line.close()
    deadline = time.monotonic() + 10
    while True:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as line:
            line.sendall(request(server, "/{P}/events"))
            if line.recv(64).startswith(b"HTTP/1.1 200"):
                break
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_there_are_enough_probes() -> None:
    assert len(PROBES) + 3 * len(KEYS) + len(GARBAGE) >= 60
