"""Who writes a record: one process on one machine, told apart from a later one of the same number."""

import os
import socket
from typing import Any


def identity() -> dict[str, Any]:
    """Number, start and machine of this process, JSON-able."""
    return {"pid": os.getpid(), "start": started(os.getpid()), "host": _host()}


def launcher() -> dict[str, Any]:
    """What the ranks of one job have in common: the launcher on this machine, and torchrun's variables."""
    names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
    return {
        "parent": [os.getppid(), started(os.getppid())],
        "host": _host(),
        "job": [os.environ.get(name, "") for name in names],
    }


def is_alive(who: dict[str, Any]) -> bool | None:
    """Whether the process of an :func:`identity` still runs; None if that cannot be told from here."""
    pid = who.get("pid")
    if not isinstance(pid, int) or who.get("host") != _host() or os.name != "posix":
        return None
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    now = started(pid)
    return now is None or now == who.get("start")


def started(pid: int) -> int | None:
    """Start of a process in clock ticks since boot: numbers come again, this does not.

    Returns:
        None where there is no /proc; -1 for a process that has ended but was not waited for.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            after_name = file.read().rpartition(b")")[2].split()
        return -1 if after_name[0] in {b"Z", b"X"} else int(after_name[19])
    except (OSError, ValueError, IndexError):
        return None


def _host() -> str:
    """This machine since its last start, and this container in it."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except (OSError, UnicodeDecodeError):
        return socket.gethostname()
