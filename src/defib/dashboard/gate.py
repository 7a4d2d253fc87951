"""The one gate before every route: who may ask, what may be asked, and in what size.

It stands before the routing, so that a new route cannot be forgotten. Refusals are short, the same
for everything that is not there or not allowed, and never repeat what was asked. Checks come in this
order: address (host), method, origin, size, body, spelling, key.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from defib.dashboard.keys import Keys, same

COOKIE = "defib"
LONGEST_TARGET = 512
"""Characters of path and query together; ours need under 120."""
LONGEST_HEADERS = 8192
"""Bytes of names and values of all headers."""
MOST_HEADERS = 64

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PATH = re.compile(rb"/[A-Za-z0-9_./-]*\Z")
_ENTRY = re.compile(rb"token=([A-Za-z0-9_-]{32,128})\Z")

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), usb=()"),
    (b"cache-control", b"no-store"),
    (b"connection", b"close"),
)
"""On every answer. One request a connection: nothing can be smuggled behind it."""
CLOSED_POLICY = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""The content security policy of answers that bring none of their own."""


class Gate:
    """Lets through what may pass to the application behind it.

    Args:
        app: The routes.
        keys: The server's token and what follows from it.
        port: Where it listens; part of the only hosts and origins that are ours.
        home: Path below the prefix that a browser is sent to when it comes in.
    """

    def __init__(self, app: App, keys: Keys, port: int, home: Callable[[], str]) -> None:
        self._app = app
        self._keys = keys
        self._hosts = {f"127.0.0.1:{port}".encode(), f"localhost:{port}".encode()}
        if port == 80:
            self._hosts |= {b"127.0.0.1", b"localhost"}
        self._home = home

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            return  # no websockets; the server never offers them
        refusal = self._refusal(scope)
        if refusal is not None:
            await _answer(send, *refusal)
        elif scope["path"] == "/":
            await self._enter(send)
        else:
            scope["path"] = scope["path"].removeprefix(f"/{self._keys.prefix}") or "/-"
            scope["raw_path"] = scope["path"].encode()
            await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> "tuple[int, str] | None":
        """Status and reason; None for a request that may pass."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        host = _all(headers, b"host")
        if len(host) != 1 or host[0].lower() not in self._hosts:
            return 421, "This server answers for 127.0.0.1 and localhost only."
        if scope["method"] not in {"GET", "HEAD"}:
            return 405, "Only GET and HEAD: nothing can be changed from here."
        raw, query = scope["raw_path"], scope["query_string"]
        entry = raw == b"/"
        if not _is_own(headers, host[0], entry):
            return 403, "Another site may not ask."
        return _too_much(headers, raw, query) or self._keyless(scope, headers, entry)

    def _keyless(
        self, scope: Scope, headers: list[tuple[bytes, bytes]], entry: bool
    ) -> "tuple[int, str] | None":
        """What is wrong with the spelling or the key."""
        raw, query = scope["raw_path"], scope["query_string"]
        if not _PATH.match(raw) or b"//" in raw or b"/." in raw:
            return 400, "There is no such address."
        if entry:
            offered = _ENTRY.match(query)
            known = offered is not None and self._keys.is_token(offered[1].decode())
            return None if known else (403, "Open the address with its token that `defib serve` printed.")
        if query:
            return 400, "There is no such address."
        cookies = [value for name, value in _cookies(headers) if name == COOKIE]
        # All are compared, and the prefix whatever they said: the time taken tells nothing.
        known = sum(same(each, self._keys.session) for each in cookies[:8]) > 0
        first = raw.split(b"/")[1].decode()
        if not same(first, self._keys.prefix) or not known:
            return 403, "Open the address with its token that `defib serve` printed."
        return None

    async def _enter(self, send: Send) -> None:
        """Gives the cookie and goes on to the page.

        A page that goes on by itself, not a redirection: after one, a browser that was sent here by a
        link on another page would not send a strict cookie.
        """
        there = f"/{self._keys.prefix}{self._home()}"
        cookie = f"{COOKIE}={self._keys.session}; Path=/{self._keys.prefix}/; HttpOnly; SameSite=Strict"
        text = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>defib</title>'
            f'<meta http-equiv="refresh" content="0;url={there}"><p><a href="{there}">defib</a></p></html>'
        )
        headers = ((b"set-cookie", cookie.encode()),)
        await _answer(send, 200, text, b"text/html; charset=utf-8", headers)


def _too_much(headers: list[tuple[bytes, bytes]], raw: bytes, query: bytes) -> "tuple[int, str] | None":
    """What is too long, or not to be there at all."""
    if len(raw) + len(query) > LONGEST_TARGET:
        return 414, "The address is too long."
    if len(headers) > MOST_HEADERS or sum(len(n) + len(v) for n, v in headers) > LONGEST_HEADERS:
        return 431, "Too many headers."
    if _all(headers, b"transfer-encoding") or any(
        v.strip() != b"0" for v in _all(headers, b"content-length")
    ):
        return 413, "A request has no body here."
    if _all(headers, b"upgrade") or _all(headers, b"expect"):
        return 400, "There is no such thing here."
    return None


def _is_own(headers: list[tuple[bytes, bytes]], host: bytes, entry: bool) -> bool:
    """Whether a request comes from our own page, from the address line, or (at the entrance) from a link."""
    origins = _all(headers, b"origin")
    if any(origin.lower() != b"http://" + host.lower() for origin in origins):
        return False
    sites = _all(headers, b"sec-fetch-site")
    navigates = all(mode == b"navigate" for mode in _all(headers, b"sec-fetch-mode"))
    linked = entry and navigates and not origins
    return all(site in {b"same-origin", b"none"} or linked for site in sites)


def _all(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for own, value in headers if own == name]


def _cookies(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Names and values of all cookies sent."""
    pairs = [pair for value in _all(headers, b"cookie") for pair in value.decode("latin-1").split(";")]
    return [(name.strip(), value.strip()) for name, _, value in (pair.partition("=") for pair in pairs)]


async def _answer(
    send: Send,
    status: int,
    text: str,
    kind: bytes = b"text/plain; charset=utf-8",
    more: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """A short answer of the gate's own."""
    body = text.encode()
    allow = ((b"allow", b"GET, HEAD"),) if status == 405 else ()
    size = (b"content-length", str(len(body)).encode())
    headers = [(b"content-type", kind), size, *allow, *more]
    outward = _with_headers(send)
    await outward({"type": "http.response.start", "status": status, "headers": headers})
    await outward({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    """The same, with the headers that every answer has."""

    async def outward(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [pair for pair in message["headers"] if pair[0] not in {name for name, _ in HEADERS}]
            policy = () if _all(own, b"content-security-policy") else (CLOSED_POLICY,)
            added = [(b"content-security-policy", each) for each in policy]
            message = {**message, "headers": [*own, *HEADERS, *added]}
        await send(message)

    return outward
