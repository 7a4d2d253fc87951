"""What ``defib doctor`` looks at: can this python, and this place, be used for watching?"""

import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version

TORCH_FROM, TORCH_BELOW = (2, 6), (3, 0)
"""Supported versions; the same as in pyproject.toml, which a test holds it to."""


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    LIMITED = "limited"
    """Works, but something will not be observed or has to be done differently."""
    MISSING = "missing"
    """defib cannot watch here."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the doctor's answer.

    Attributes:
        name: What was looked at.
        state: How it came out.
        found: What was found, and the way out if it is not enough.
    """

    name: str
    state: State
    found: str


def examine() -> Iterator[Check]:
    """Every check, cheap ones first.

    Yields:
        One check at a time, so that a slow one (importing torch) keeps nobody waiting.
    """
    yield _python()
    for package in ("defib", "numpy", "scipy"):
        yield _package(package)
    yield _sqlite()
    torch = _torch()
    yield torch
    if torch.state != State.MISSING:
        yield from _torch_abilities()


def _python() -> Check:
    """The interpreter."""
    state = State.OK if sys.version_info >= (3, 11) else State.MISSING
    return Check(name="python", state=state, found=f"{platform.python_version()} (needs 3.11 or newer)")


def _package(name: str) -> Check:
    """A package that defib is built on."""
    try:
        return Check(name=name, state=State.OK, found=version(name))
    except PackageNotFoundError:
        return Check(name=name, state=State.MISSING, found=f"not installed: pip install {name}")


def _sqlite() -> Check:
    """Whether a record can be written in the current folder, and how."""
    known = f"sqlite {sqlite3.sqlite_version}"
    try:
        with tempfile.TemporaryDirectory(prefix=".defib-doctor-", dir=os.getcwd()) as folder:
            path = os.path.join(folder, "probe.db")
            with closing(sqlite3.connect(path)) as database:
                mode = database.execute("PRAGMA journal_mode=wal").fetchone()[0]
                database.execute("CREATE TABLE probe (x)")
                database.commit()
    except (OSError, sqlite3.Error) as error:
        why = f"no record can be written in this folder ({error}): choose another with -o"
        return Check(name="record", state=State.LIMITED, found=f"{known}; {why}")
    journal = "write-ahead log" if mode == "wal" else f"journal mode {mode}, slower flushes"
    return Check(name="record", state=State.OK, found=f"{known}; {journal} in this folder")


def _torch() -> Check:
    """PyTorch's version, told without importing it."""
    needs = f"needs {TORCH_FROM[0]}.{TORCH_FROM[1]} or newer, below {TORCH_BELOW[0]}"
    try:
        found = version("torch")
    except PackageNotFoundError:
        return Check(name="torch", state=State.MISSING, found=f"not installed ({needs})")
    fits = supported(found)
    return Check(name="torch", state=State.OK if fits else State.MISSING, found=f"{found} ({needs})")


def supported(torch_version: str) -> bool:
    """Whether a torch version such as "2.13.0+cpu" is one that defib supports."""
    parts = torch_version.partition("+")[0].split(".")[:2]
    if len(parts) < 2 or not all(part.isdecimal() for part in parts):
        return False
    return TORCH_FROM <= (int(parts[0]), int(parts[1])) < TORCH_BELOW


def _torch_abilities() -> Iterator[Check]:
    """What can be observed with the torch that is here."""
    try:
        import torch
    except Exception as error:  # noqa: BLE001 - a broken install breaks in many ways
        found = f"installed but cannot be imported: {type(error).__name__}: {error}"
        yield Check(name="torch import", state=State.MISSING, found=found)
        return
    yield _hooks()
    yield _saved_tensors()
    yield _accelerator()
    yield _compile()
    yield Check(name="threads", state=State.OK, found=f"{torch.get_num_threads()} for torch")


def _hooks() -> Check:
    """The three places of torch on which watching rests."""
    import torch.optim.optimizer as optimizers
    from torch import autograd

    wanted = (
        (autograd, "backward"),
        (optimizers, "register_optimizer_step_pre_hook"),
        (optimizers, "register_optimizer_step_post_hook"),
    )
    missing = [name for home, name in wanted if not hasattr(home, name)]
    found = f"missing: {', '.join(missing)}" if missing else "backward; optimiser step before and after"
    return Check(name="hooks", state=State.MISSING if missing else State.OK, found=found)


def _saved_tensors() -> Check:
    """Whether activations can be read from the autograd graph without touching the model."""
    import torch

    z = torch.tensor([-1.0, 2.0], requires_grad=True)
    node = torch.relu(z).grad_fn
    saved = getattr(node, "_raw_saved_result", None)
    if getattr(node, "_saved_result", None) is None:
        found = "activations cannot be read from the graph; liveness of units still can"
        return Check(name="activations", state=State.LIMITED, found=found)
    if not hasattr(saved, "unpack_hook"):
        found = "readable; tensors that the user's own hooks packed cannot be told apart"
        return Check(name="activations", state=State.LIMITED, found=found)
    return Check(name="activations", state=State.OK, found="readable from the graph")


def _accelerator() -> Check:
    """What torch computes on here."""
    import torch

    names = []
    if torch.cuda.is_available():
        names += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("Apple MPS")
    found = ", ".join(names) or "none; CPU only"
    return Check(name="accelerator", state=State.OK, found=found)


def _compile() -> Check:
    """Whether models can be compiled here, and what is then seen of them."""
    from torch._dynamo import is_dynamo_supported  # type: ignore[attr-defined]

    found = (
        "available; inside a compiled region only liveness and norms are seen"
        if is_dynamo_supported()
        else "not available here; nothing is hidden by it"
    )
    return Check(name="torch.compile", state=State.OK, found=found)
