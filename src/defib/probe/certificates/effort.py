"""How much work a certificate may cost."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much may be done.

    Attributes:
        seconds: Time for linear bounds; when it is over, intervals have to do.
        exact: How many undecided units a solver may be asked about.
        exact_seconds: Time for each of them.
        paths: Follow the active paths of the batch.
    """

    seconds: float = 60.0
    exact: int = 0
    exact_seconds: float = 10.0
    paths: bool = True
