"""Finds the entries of a catalogue: our own folder and other people's entry points.

An entry is a file. Adding one means adding that file; nothing else changes.
"""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What an entry's file says about itself.

    Attributes:
        slug: The class attribute of that name.
        title: Likewise.
        text: The module's docstring.
        bases: Names of the classes that it is derived from, as they are written.
    """

    slug: str
    title: str
    text: str
    bases: tuple[str, ...] = ()


def outlines(package: str) -> tuple[Outline, ...]:
    """Slug, title and page of each entry of a folder, read from its source.

    Nothing of it is run: entries may import what takes seconds.

    Args:
        package: Import name of our folder of entries.

    Returns:
        In order of file name; files without a class with a slug are left out.
    """
    folder = importlib.import_module(package)
    files = sorted(path for place in folder.__path__ for path in Path(place).glob("[a-z]*.py"))
    found = []
    for path in files:
        module = ast.parse(path.read_text(encoding="utf-8"))
        for cls in (node for node in module.body if isinstance(node, ast.ClassDef)):
            said = dict(_constants(cls))
            if "slug" in said:
                text = ast.get_docstring(module) or ""
                bases = tuple(ast.unparse(base) for base in cls.bases)
                found.append(Outline(slug=said["slug"], title=said.get("title", ""), text=text, bases=bases))
    return tuple(found)


def _constants(cls: ast.ClassDef) -> list[tuple[str, str]]:
    """Class attributes that are plain texts."""
    pairs = [(n.targets[0], n.value) for n in cls.body if isinstance(n, ast.Assign)]
    return [
        (name.id, value.value)
        for name, value in pairs
        if isinstance(name, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str)
    ]


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
