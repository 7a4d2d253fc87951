"""The socket between capture and record: what capture may say, and to whom it says it."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.core.wiring import Layer, Wiring


class Sink(Protocol):
    """Takes what capture saw. Calls never block on a disk, never raise into training."""

    @property
    def seconds(self) -> float:
        """CPU time that the sink's own thread has taken so far, in seconds."""

    def facts(self, values: dict[str, Any]) -> None:
        """Facts about the run; later values replace earlier ones of the same name."""

    def layers(self, layers: tuple[Layer, ...]) -> None:
        """The layers; a later call replaces the list."""

    def wirings(self, wirings: tuple[Wiring, ...], loss_operations: tuple[str, ...]) -> None:
        """What feeds what; a later call replaces the list."""

    def optimizer(self, index: int, facts: dict[str, Any]) -> None:
        """Facts about one optimiser ("kind", "groups", "parameters", "steps"); merged by name."""

    def stream(self, optimizer: int, step: int, columns: dict[str, NDArray[np.float32]]) -> None:
        """Per-step numbers from ``step`` on, each of shape (T,).

        Names are "loss", "lr" and "scale"; "displacement" and, for ``PAIR_COLUMNS``, "pair.NAME", which
        only some steps have, as do "sharp.NAME" for ``SHARPNESS_COLUMNS``; and, for the optimiser -1,
        "log.NAME" for what the user logged.
        """

    def liveness(
        self,
        optimizer: int,
        path: str,
        facts: dict[str, Any],
        units: NDArray[np.int32],
    ) -> None:
        """The whole state of one layer's liveness; replaces the last.

        Args:
            optimizer: Whose steps are counted.
            path: The layer.
            facts: "source", "steps", "last_step", "period", "batch", "lengths" (of silences).
            units: first_alive, last_alive, alive_steps, and where known returns and the steps of silence
                before them, shape (3, U) or (5, U).
        """

    def reading(self, site: Site, signal: Signal, first: int, last: int, tally: Tally) -> None:
        """A tally merged over the sampled steps ``first`` to ``last``.

        A later call with the same site, signal and ``first`` replaces the earlier: the window has grown.
        """

    def flow(self, step: int, values: dict[tuple[Site, Signal], float]) -> None:
        """RMS of each signal on one sampled step."""

    def norms(self, step: int, parameters: tuple[str, ...], values: NDArray[np.float32]) -> None:
        """Gradient, weight, update norm and swallowed share, shape (4, P)."""

    def objective(self, step: int, facts: dict[str, str], values: NDArray[np.float64]) -> None:
        """What the loss compared on one sampled step.

        Args:
            step: The step.
            facts: "operation", "output_layer", "input_layer".
            values: In the order of ``core.objective.OBJECTIVE_COLUMNS``, NaN where unknown.
        """

    def event(self, step: int, kind: str, data: dict[str, Any]) -> None:
        """Something that happened once; written at once."""

    def exhibit(
        self,
        kind: str,
        path: str,
        step: int,
        facts: dict[str, Any],
        arrays: dict[str, NDArray[np.generic]],
    ) -> None:
        """Arrays kept as evidence, see :class:`defib.core.run.Exhibit`.

        A later call with the same kind, path and step replaces the earlier.
        """

    def close(self, status: str) -> None:
        """Everything is written; ``status`` says how the run ended."""
