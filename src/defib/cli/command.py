"""One subcommand: what its file in ``commands`` has to provide."""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar


class Command(ABC):
    """A subcommand. Its docstring is its help: one line, then the rest.

    Attributes:
        name: The word that is typed.
        order: Place in ``defib --help``.
        usage: The usage line where argparse cannot draw it; None to let it.
        kept: What Ctrl-C leaves of its work, and the way on; "" where there is nothing to say.
    """

    name: ClassVar[str]
    order: ClassVar[int]
    usage: ClassVar[str | None] = None
    kept: ClassVar[str] = ""

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Declares its options; none by default."""
        del parser

    @classmethod
    def divide(cls, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """Cuts its words into those that are options and those that are somebody else's."""
        return list(words), []

    @abstractmethod
    def run(self, options: argparse.Namespace) -> int:
        """Does the work and gives the exit code; words of somebody else are in ``options.rest``."""
