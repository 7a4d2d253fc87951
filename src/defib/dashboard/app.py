"""The routes: a fixed table. What stands in an address is looked up, never made into a path."""

import asyncio
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from defib.dashboard import pages
from defib.dashboard.feed import Feed, Viewer, as_events
from defib.dashboard.hall import Hall

BEAT = 10.0
"""Seconds after which a stream without news says that it still lives."""
_SLICE = 64 << 10
"""Bytes of an answer that are handed over at once: a slow reader holds no more than that in memory."""


class App:
    """What the server answers, from one hall of records."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._compared: dict[tuple[str, str], pages.Page] = {}
        self._comparing = asyncio.Semaphore(1)

    def home(self) -> str:
        """Where a browser is sent that comes in: to the run, if there is only one by design."""
        feeds = list(self._hall.feeds)
        return f"/run/{feeds[0]}/" if self._hall.single else "/"

    def routes(self) -> Starlette:
        """The application."""
        table = {
            "/": self._list,
            "/events": self._events,
            "/run/{run}/": self._run,
            "/run/{run}/state": self._state,
            "/run/{run}/events": self._events,
            "/compare/{first}/{second}": self._compare,
        }
        routes = [Route(path, endpoint, methods=["GET"]) for path, endpoint in table.items()]
        app = Starlette(routes=routes)
        app.router.redirect_slashes = False
        return app

    def _feed(self, name: str) -> Feed | None:
        return self._hall.feeds.get(name)

    async def _list(self, _request: Request) -> Response:
        return _page(pages.list_page())

    async def _run(self, request: Request) -> Response:
        if self._feed(request.path_params["run"]) is None:
            return _missing()
        return _page(pages.run_page(not self._hall.single))

    async def _state(self, request: Request) -> Response:
        feed = self._feed(request.path_params["run"])
        if feed is None or feed.body is None or feed.glance is None:
            return _missing()
        headers = {"x-defib-body": feed.body_id, "x-defib-run": feed.glance.run}
        headers["content-length"] = str(len(feed.body))
        return StreamingResponse(_sliced(feed.body), headers=headers, media_type="application/json")

    async def _events(self, request: Request) -> Response:
        only = request.path_params.get("run")
        if only is not None and self._feed(only) is None:
            return _missing()
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        viewer = self._hall.come(only)
        if viewer is None:
            return PlainTextResponse("Too many pages are open.", 503)
        last = request.headers.get("last-event-id")
        return StreamingResponse(self._stream(viewer, last), media_type="text/event-stream")

    async def _stream(self, viewer: Viewer, last: str | None) -> AsyncIterator[bytes]:
        """Notices as they come. A viewer who was away gets the newest, not what was missed."""
        try:
            yield b"retry: 1000\n\n"
            if viewer.only is None:
                yield f"event: left-out\ndata: {self._hall.left_out}\n\n".encode()
            while not viewer.closing:
                notices = await viewer.take(BEAT)
                for event in as_events(notices, last):
                    yield event
                if not notices:
                    yield b"event: beat\ndata: {}\n\n"
            yield b"event: bye\ndata: {}\n\n"
        finally:
            self._hall.leave(viewer)

    async def _compare(self, request: Request) -> Response:
        names = request.path_params["first"], request.path_params["second"]
        first, second = (self._feed(name) for name in names)
        if first is None or second is None or first is second:
            return _missing()
        key = (f"{first.id}.{first.body_id}", f"{second.id}.{second.body_id}")
        async with self._comparing:
            if key not in self._compared:
                answer = await self._hall.compare(first, second)
                if answer.error is not None:
                    return PlainTextResponse(f"These two cannot be compared: {answer.error}\n", 409)
                self._compared = {key: pages.sealed(answer.body.decode())}
        return _page(self._compared[key])


async def _sliced(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), _SLICE):
        yield body[at : at + _SLICE]


def _page(page: pages.Page) -> Response:
    headers = {"content-security-policy": page.policy}
    return Response(page.body, media_type="text/html", headers=headers)


def _missing() -> Response:
    return PlainTextResponse("There is no such address.", 404)
