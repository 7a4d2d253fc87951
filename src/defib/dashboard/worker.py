"""The process that reads records for the server: ``python -m defib.dashboard.worker``.

A process of its own, so that a record that takes long, or takes all memory, or makes SQLite crash,
costs one answer and not the server; and so that judging is done at a low priority beside a training
that shares the machine. It reads questions as JSON lines from its standard input and ends with it. An
answer is two lengths of eight bytes, a JSON head and a body.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from defib.core.errors import DefibError

_SPARK = 120
"""Points of the loss that the list of runs shows."""

Head = dict[str, Any]
Question = dict[str, Any]


def portray(question: Question) -> tuple[Head, bytes]:
    """All that a page shows of the record at ``path``.

    Returns:
        What the list of runs and the scheduler need of it, and the portrait as JSON.
    """
    from defib import api, views
    from defib.record.glance import glance

    path = Path(question["path"])
    before = glance(path)  # first: of a record that is replaced meanwhile, nothing is called the new one
    with api.open_run(path) as run:
        # Which files and folders are whose is not for a page that is left open.
        portrait = views.portray(run, command=f"defib serve {path.name}")
    head = {
        "run": before.run,
        "status": before.status,
        "writers": before.writers,
        "verdict": portrait["verdict"]["word"],
        "sentence": portrait["verdict"]["sentence"],
        "steps": portrait["steps"],
        "loss": _spark(portrait["loss"]),
    }
    return head, _json(portrait)


def compare(question: Question) -> tuple[Head, bytes]:
    """What changed between the records at ``paths``.

    Returns:
        The policy that the page needs, and the page.
    """
    from defib import comparisons
    from defib.report.comparison_page import comparison_page

    before, after = (Path(path) for path in question["paths"])
    page = comparison_page(comparisons.compare(before, after), home="../../")
    return {}, page.encode("utf-8", "backslashreplace")


ANSWERS: dict[str, Callable[[Question], tuple[Head, bytes]]] = {"portray": portray, "compare": compare}


def answer(line: bytes) -> tuple[Head, bytes]:
    """Answers one question; what goes wrong is part of the answer.

    Args:
        line: JSON with ``do`` and what that takes.

    Returns:
        Head and body. The head has ``error`` and ``slug`` if there is no body.
    """
    started = time.perf_counter()
    try:
        question = json.loads(line)
        head, body = ANSWERS[question["do"]](question)
    except DefibError as error:
        head, body = {"error": str(error), "slug": error.slug}, b""
    except MemoryError:
        head, body = {"error": "not enough memory to read this record", "slug": "memory"}, b""
    except Exception as error:  # noqa: BLE001 - one bad record must not end the pages of the others
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        head, body = {"error": f"internal error: {said}", "slug": "internal"}, b""
    return {**head, "seconds": time.perf_counter() - started}, body


def _spark(series: list[Head]) -> list[list[Any]]:
    """Steps and values of the first loss, every n-th of them and the last."""
    if not series or not series[0]["steps"]:
        return [[], []]
    steps, values = series[0]["steps"], series[0]["values"]
    every = max(1, -(-len(steps) // _SPARK))
    picked = [*range(0, len(steps) - 1, every), len(steps) - 1]
    return [[steps[i] for i in picked], [values[i] for i in picked]]


def _json(data: object) -> bytes:
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode("ascii")


def _warm() -> None:
    """Imports what the first question would wait for."""
    try:
        from defib import views

        views.portray.__name__  # noqa: B018
    except Exception as error:  # noqa: BLE001 - the first question will say it
        print(f"defib serve: {error}", file=sys.stderr)


def main() -> int:
    """Answers until the questions end.

    Returns:
        The exit code.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if hasattr(os, "nice"):
        os.nice(5)
    # Whatever a rule prints must not come between the answers.
    out: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _warm()
    for line in sys.stdin.buffer:
        head, body = answer(line)
        top = _json(head)
        out.write(len(top).to_bytes(8, "big") + len(body).to_bytes(8, "big") + top + body)
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
