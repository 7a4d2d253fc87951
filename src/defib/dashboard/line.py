"""One connection: what it may take in time and in number. The parsing is h11's, by way of uvicorn.

uvicorn limits neither the time that a request's head takes to arrive nor the time that an answer
takes to be fetched; a few hundred sockets that do neither would keep everybody else out.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_WITHIN = 5.0
"""Seconds from the connection to the end of a request's head."""
FETCHED_WITHIN = 15.0
"""Seconds that a full send buffer may stay full."""
MOST_CONNECTIONS = 160
"""Connections at one time, viewers' streams among them."""

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"connection: close\r\ncontent-length: 23\r\n\r\nToo many are connected."
)


class Line(H11Protocol):
    """A connection that is given up when it is too slow, and refused when there are too many."""

    _head: asyncio.TimerHandle | None = None
    _fetch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes the connection, or sends it away."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.write(_FULL)
            transport.close()
        else:
            self._head = self.loop.call_later(HEAD_WITHIN, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Lets go of it."""
        self._stop("_head")
        self._stop("_fetch")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads on; what follows the one request of a connection is not looked at."""
        if self.transport.is_closing():
            return
        if not self._has_request():
            super().data_received(data)
            if self._has_request():
                self._stop("_head")

    def pause_writing(self) -> None:
        """The other side does not fetch what it asked for."""
        super().pause_writing()
        self._fetch = self.loop.call_later(FETCHED_WITHIN, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        self._stop("_fetch")
        super().resume_writing()

    def _has_request(self) -> bool:
        cycle: object = self.cycle
        return cycle is not None

    def _too_slow(self) -> None:
        self.transport.abort()

    def _stop(self, name: str) -> None:
        timer: Any = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)
