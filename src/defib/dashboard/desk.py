"""Where the server asks: one question at a time, put to a process that may die of it."""

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

PATIENCE = 300.0
"""Seconds after which an answer is given up and the process ended."""
_MOST_HEAD = 16 << 20
_MOST_BODY = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back.

    Attributes:
        head: ``error`` and ``slug`` if there is nothing else.
        body: A portrait as JSON, or a page.
    """

    head: dict[str, Any]
    body: bytes = b""

    @property
    def error(self) -> str | None:
        """Why there is no body; None if there is one."""
        error = self.head.get("error")
        return None if error is None else str(error)


class Desk:
    """Puts questions to the reading process, which is started when it is needed and anew if it died."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._one = asyncio.Lock()

    async def ask(self, question: dict[str, Any]) -> Answer:
        """Puts a question; whatever happens to the process, there is an answer.

        Args:
            question: ``do`` and what that takes, JSON-able.

        Returns:
            The answer, which may be an error.
        """
        async with self._one:
            try:
                return await asyncio.wait_for(self._put(question), PATIENCE)
            except TimeoutError:
                await self._end()
                return _failed("reading took too long and was given up", "slow")
            except (OSError, EOFError, ValueError, asyncio.IncompleteReadError):
                code = await self._end()
                return _failed(f"the process that reads the record ended ({_said(code)})", "reader")

    async def start(self) -> None:
        """Starts the process before the first question, so that nobody waits for its imports."""
        async with self._one:
            with contextlib.suppress(OSError):  # the first question will say it
                await self._running()

    async def close(self) -> None:
        """Ends the process."""
        await self._end()

    async def _put(self, question: dict[str, Any]) -> Answer:
        process = await self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        await process.stdin.drain()
        sizes = await process.stdout.readexactly(16)
        head, body = int.from_bytes(sizes[:8], "big"), int.from_bytes(sizes[8:], "big")
        if head > _MOST_HEAD or body > _MOST_BODY:
            raise ValueError("an answer of that size")
        top = json.loads(await process.stdout.readexactly(head))
        return Answer(head=top, body=await process.stdout.readexactly(body))

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            # -P: the current folder's queue.py is not ours to import. A session of its own: Ctrl-C in
            # the terminal is for the server, which then ends this one.
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "defib.dashboard.worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,
            )
        return self._process

    async def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await process.wait()


_REAPED = 255
"""What asyncio says of a child whose end somebody else was told first: our own ``kill`` looks, too."""


def _failed(why: str, slug: str) -> Answer:
    return Answer(head={"error": why, "slug": slug, "seconds": 0.0})


def _said(code: int | None) -> str:
    """How a process ended, for a sentence."""
    if code is None:
        return "it could not be started"
    if code == _REAPED:
        return "killed, or ended by itself: how is not known"
    return f"killed by signal {-code}; out of memory?" if code < 0 else f"exit code {code}"
