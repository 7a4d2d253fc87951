"""Files that are there whole or not at all: written beside their place, then put there in one step."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from defib.core.errors import OutputError
from defib.report.wording import shown


def write_text(path: Path, text: str, *, force: bool = False) -> None:
    """Writes a text file, whole or not at all.

    Args:
        path: Where; folders above it are made.
        text: What.
        force: Replace a file that is already there.

    Raises:
        OutputError: If something is there already, or it cannot be written.
    """  # noqa: DOC502 - the functions below raise it
    with fresh_file(path, force=force) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def fresh_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A name beside a file's place; what is written there becomes the file when all went well.

    Args:
        path: The file's place; folders above it are made.
        force: Replace a file that is already there.

    Yields:
        The temporary name. After an error, and after a kill at the next try, nothing is left of it.

    Raises:
        OutputError: If something is there already, or it cannot be written.
    """  # noqa: DOC502 - the functions below raise it
    _check(path, force, folder=False)
    with _told(path):
        _clear(path)
        part = _beside(path)
        try:
            yield part
            _to_disk(part)
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """A folder beside a folder's place, which becomes that folder when all went well.

    Args:
        path: The place, where nothing may be; folders above it are made.

    Yields:
        The temporary folder, empty. After an error nothing is left of it.

    Raises:
        OutputError: If something is there already, or it cannot be written.
    """  # noqa: DOC502 - the functions below raise it
    _check(path, force=False, folder=True)
    with _told(path):
        _clear(path)
        part = _beside(path)
        try:
            part.mkdir()
            yield part
            for file in part.iterdir():
                _to_disk(file)
            if path.is_dir():
                path.rmdir()  # empty, or it would have been refused
            os.rename(part, path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def _beside(path: Path) -> Path:
    """A hidden name in the same folder, so that renaming is one step."""
    return path.parent / f".{path.name[:80]}.{os.getpid()}.part"


def _clear(path: Path) -> None:
    """Makes the folder above, and removes what a killed export of the same name left there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = f".{path.name[:80]}."
    for other in path.parent.iterdir():
        owner = other.name.removeprefix(start).removesuffix(".part")
        ours = other.name.startswith(start) and other.name.endswith(".part") and owner.isdecimal()
        if ours and not _is_alive(int(owner)):
            if other.is_dir() and not other.is_symlink():
                shutil.rmtree(other, ignore_errors=True)
            else:
                other.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's: it is there
        return True
    return process != os.getpid()


def _to_disk(file: Path) -> None:
    """A renamed file whose contents a crash of the machine could still lose would not be whole."""
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())


def _check(path: Path, force: bool, *, folder: bool) -> None:
    """Refuses a place that is taken."""
    if "\0" in str(path) or not path.name:
        raise OutputError(f"{shown(str(path), 160)} is no name for a {'folder' if folder else 'file'}")
    if not os.path.lexists(path):
        return
    if folder:
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            return
        raise OutputError(f"{shown(str(path), 160)} exists already and is not empty: name another folder")
    if path.is_dir():
        raise OutputError(f"{shown(str(path), 160)} is a folder: name a file in it")
    if not force:
        raise OutputError(f"{shown(str(path), 160)} exists already: name another file, or replace it with -f")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """An error of the disk in one line."""
    try:
        yield
    except OSError as error:
        why = error.strerror or " ".join(str(error).split())
        raise OutputError(f"cannot write {shown(str(path), 160)}: {why}; name another place") from None
