"""Which models are under watch in this process, and by what."""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar, cast

R = TypeVar("R")
T = TypeVar("T")


class Register(Generic[R]):
    """Open runs, each with the models that it watches (none: whatever trains in this process)."""

    def __init__(self) -> None:
        self._open: list[tuple[tuple[object, ...], R]] = []

    def add(self, models: tuple[object, ...], run: R) -> None:
        """Enters a run."""
        self._open.append((models, run))

    def remove(self, run: R) -> None:
        """Strikes it out; no harm if it was not there."""
        self._open[:] = [(of, known) for of, known in self._open if known is not run]

    def runs(self) -> tuple[R, ...]:
        """All of them, the oldest first."""
        return tuple(run for _, run in self._open)

    def models_of(self, run: R) -> tuple[object, ...]:
        """The models that it watches; none if it watches everything."""
        return next((of for of, known in self._open if known is run), ())

    def watching(self, models: tuple[object, ...]) -> R | None:
        """The run that watches everything, or one of those models; None if none does."""
        return self._first(lambda of: not of or any(one is other for one in of for other in models))

    def watching_by_name(self, model: object) -> R | None:
        """The run that was given that very model; None if none was."""
        return self._first(lambda of: any(one is model for one in of))

    def _first(self, fits: Callable[[tuple[object, ...]], bool]) -> R | None:
        return next((run for of, run in self._open if fits(of)), None)


def several(given: "T | Iterable[T] | None") -> "tuple[T, ...]":
    """What was given as a tuple, whether it was nothing, one thing or several."""
    if given is None:
        return ()
    # Not "iterable": an nn.Sequential is, and is still one model.
    is_several = isinstance(given, (list, tuple, set, Iterator))
    return tuple(cast("Iterable[T]", given)) if is_several else (cast("T", given),)
