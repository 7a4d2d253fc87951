"""The server's life: a port of this machine alone, until Ctrl-C."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from defib.core.errors import EnvironmentProblem
from defib.dashboard.app import App
from defib.dashboard.gate import LONGEST_HEADERS, LONGEST_TARGET, Gate
from defib.dashboard.hall import Hall
from defib.dashboard.keys import Keys
from defib.dashboard.line import Line

ADDRESS = "127.0.0.1"
_GRACE = 2
"""Seconds that open streams have to say goodbye."""


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to us: it would raise them again once it is done."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bound(port: int) -> socket.socket:
    """A socket on this machine's own address.

    Args:
        port: 0 for one that is free.

    Returns:
        The socket, not yet listening.

    Raises:
        EnvironmentProblem: If that port cannot be had.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((ADDRESS, port))
    except OSError as error:
        made.close()
        raise EnvironmentProblem(
            f"port {port} of {ADDRESS} cannot be had: {error.strerror}; choose another with --port, or none"
        ) from None
    return made


def serve(root: Path, keys: Keys, port: int, ready: Callable[[str], None]) -> None:
    """Serves until it is interrupted.

    Args:
        root: A record, or a folder of records; see ``hall.checked``.
        keys: The server's token.
        port: 0 for one that is free.
        ready: Called with the address once it can be opened.
    """
    listening = bound(port)
    try:
        asyncio.run(_serve(root, keys, listening, ready))
    finally:
        listening.close()


async def _serve(root: Path, keys: Keys, listening: socket.socket, ready: Callable[[str], None]) -> None:
    port = listening.getsockname()[1]
    hall = Hall(root, keys)
    app = App(hall)
    gate = Gate(app.routes(), keys, port, app.home)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what strangers send is no news
    config = uvicorn.Config(
        gate,
        http=Line,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=LONGEST_HEADERS + 2 * LONGEST_TARGET,
        timeout_graceful_shutdown=_GRACE,
        backlog=128,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if server.should_exit:
            server.force_exit = True
        server.should_exit = True
        work.cancel()  # ends the streams, so that the server need not wait for them

    work = asyncio.create_task(hall.run())
    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt there
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, stop)
    told = asyncio.create_task(_tell(server, lambda: ready(f"http://{ADDRESS}:{port}/?token={keys.token}")))
    for task in (work, told):
        task.add_done_callback(lambda done: _ended(done, server))
    try:
        await server.serve(sockets=[listening])
    finally:
        for task in (told, work):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task  # what went wrong in it is told now


async def _tell(server: uvicorn.Server, ready: Callable[[], None]) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(ready)  # a browser in a terminal keeps its caller waiting


def _ended(task: "asyncio.Task[None]", server: uvicorn.Server) -> None:
    """Without those who read, or where its address could not be told, there is nothing to serve."""
    if task.cancelled() or task.exception() is not None:
        server.should_exit = True
