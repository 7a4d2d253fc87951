"""`defib run`: the user's unmodified script under watch.

The process *becomes* ``python script.py args...`` (same process id, signals, exit
code, standard streams), with one folder put in front of ``PYTHONPATH`` whose
``sitecustomize`` undoes that, hands over to the real ``sitecustomize``, and asks
to be called back when torch has been imported. Child processes see nothing of it.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from defib.core.errors import EnvironmentProblem, OutputError
from defib.core.launch_options import LaunchOptions, default_record

OPTIONS = "DEFIB_LAUNCH"
"""Environment variable that carries the options over the exec; removed before the script starts."""

BOOTSTRAP = Path(__file__).parent / "bootstrap"


def exec_script(options: LaunchOptions) -> NoReturn:
    """Become the user's script, under watch.

    Raises:
        OutputError: If no record can be made at the place asked for.
        EnvironmentProblem: If this python ignores its environment (-I, -E or -S).
    """
    if sys.flags.ignore_environment or sys.flags.no_site:
        raise EnvironmentProblem("python was started with -I, -E or -S: run defib without them")
    output = Path(os.path.abspath(options.output or default_record(options.target)))
    if "DEFIB_RANK_CHECKED" not in os.environ and os.environ.get("RANK", "0") == "0":
        _check_place(output, options.force)
    carried = {**asdict(options), "output": str(output), "path": os.environ.get("PYTHONPATH")}
    environment = {
        **os.environ,
        OPTIONS: json.dumps(carried),
        "PYTHONPATH": os.pathsep.join([str(BOOTSTRAP), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    target = ["-m", options.target] if options.is_module else [options.target]
    command = [sys.executable, *_interpreter_options(sys.orig_argv), *target, *options.arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, environment)


def _interpreter_options(command: Sequence[str]) -> list[str]:
    """What stood between ``python`` and ``-m defib`` or the script: -u, -W, -X and so on."""
    found: list[str] = []
    words = iter(command[1:])
    for word in words:
        if not word.startswith("-") or word in {"-m", "-c", "-"}:
            break
        found.append(word)
        if word in {"-W", "-X"}:
            found.append(next(words, ""))
    return found or subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined,no-any-return]


def _check_place(output: Path, force: bool) -> None:
    """Refuse before the script starts if a record cannot be made there; leaves nothing behind."""
    if os.path.lexists(output) and not force:
        raise OutputError(f"{output} exists already: choose another place with -o, or replace a record with -f")
    trial = output.with_name(f"{output.name}.{os.getpid()}.try")
    try:
        made = [p for p in (output.parent, *output.parent.parents) if not p.exists()]
        trial.mkdir(parents=True)
        trial.rmdir()
        for parent in made:
            parent.rmdir()
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot make a record at {output}: {reason}; choose another place with -o") from None


def when_imported(name: str, action: Callable[[], None]) -> None:
    """Call ``action`` right after module ``name`` has been imported for the first time."""
    if name in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _Finder(name, action))


class _Finder(importlib.abc.MetaPathFinder):
    """Stands in front of the real finders until one module has been found; then it is gone."""

    def __init__(self, name: str, action: Callable[[], None]) -> None:
        self._name = name
        self._action = action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        loader = spec.loader if spec is not None else None
        if loader is None:
            return spec
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # the instance's own attribute: the class's shows again
            execute(module)
            self._action()

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
