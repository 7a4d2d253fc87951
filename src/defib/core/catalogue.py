"""Finds the entries of a catalogue: our own folder and other people's entry points.

An entry is a file. Adding one means adding that file; nothing else changes.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TypeVar

T = TypeVar("T")


def entries(
    base: type[T],
    package: str,
    group: str | None = None,
    on_broken: Callable[[str, Exception], None] | None = None,
) -> tuple[type[T], ...]:
    """Concrete subclasses of ``base`` defined in the modules of ``package``.

    Args:
        base: The class that authors subclass.
        package: Import name of our folder of entries.
        group: Entry-point group in which other distributions offer theirs.
        on_broken: Told of another distribution's entry that cannot be loaded, which is left
            out; None to let its error through.

    Returns:
        The classes, sorted by module name, ours first.
    """
    folder = importlib.import_module(package)
    modules = sorted(info.name for info in pkgutil.iter_modules(folder.__path__))
    found = [cls for name in modules for cls in _defined_in(f"{package}.{name}", base)]
    if group is not None:
        for point in sorted(entry_points(group=group), key=lambda point: point.name):
            try:
                cls = point.load()
            except Exception as error:
                if on_broken is None:
                    raise
                on_broken(point.name, error)
                continue
            if inspect.isclass(cls) and issubclass(cls, base):
                found.append(cls)
    return tuple(found)


def _defined_in(module_name: str, base: type[T]) -> list[type[T]]:
    """Concrete subclasses of ``base`` whose home is that module, in order of name."""
    module = importlib.import_module(module_name)
    members = (cls for _, cls in inspect.getmembers(module, inspect.isclass))
    return [
        cls
        for cls in members
        if issubclass(cls, base) and cls.__module__ == module_name and not inspect.isabstract(cls)
    ]
