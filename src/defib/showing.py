"""How a run shows itself: in a notebook, and as plots."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from defib.core.errors import DefibError

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from defib.core.diagnosis import Diagnosis
    from defib.core.run import RunView


class Plots:
    """``run.plot``: figures of matplotlib, each made anew from what is recorded by then.

    Args:
        run: What is drawn.
    """

    def __init__(self, run: "Shown") -> None:
        self._run = run

    def loss(self) -> "Figure":
        """The loss of each optimiser step by step, with treatments marked."""
        from defib.report import plots

        return plots.loss(self._run.view)

    def liveness(self) -> "Figure":
        """Layer by step: the share of units that had not fallen silent for good."""
        from defib.report import plots

        return plots.liveness(self._run.view)

    def ledger(self) -> "Figure":
        """A bar a layer: where the gradient is lost, medians over the run."""
        import numpy as np

        from defib.diagnosis.measures.ledger import backward_ledger, main_path
        from defib.diagnosis.measures.wires import Wires
        from defib.report import plots

        view = self._run.view
        account = backward_ledger(view, main_path(view, Wires(view)))
        if account is None:
            return plots.ledger((), (), ())
        names = [str(wiring.site) for wiring in account.path]
        derivative = [float(np.median(part)) for part in account.derivatives]
        between = [0.0, *(float(np.median(link.decades)) for link in account.links)]
        return plots.ledger(names, derivative, between)

    def activations(self) -> "Figure":
        """Mean, standard deviation and range of each layer's activation, last window read."""
        from defib.report import plots

        return plots.activations(self._run.view)

    def gradient_flow(self) -> "Figure":
        """Norm of each weight's gradient over the sampled steps."""
        from defib.report import plots

        return plots.gradient_flow(self._run.view)

    def updates(self) -> "Figure":
        """Size of each weight's update over that weight's size."""
        from defib.report import plots

        return plots.updates(self._run.view)

    def __repr__(self) -> str:
        names = [name for name in vars(type(self)) if not name.startswith("_")]
        return f"run.plot: {', '.join(names)}"


class Shown(ABC):
    """What recorded and live runs have in common: they show themselves.

    Attributes:
        path: The record's folder, or one of its files.
    """

    path: "Path"

    @property
    @abstractmethod
    def view(self) -> "RunView":
        """All that was recorded."""

    @abstractmethod
    def diagnose(self) -> "Diagnosis":
        """What is wrong with it."""

    @property
    def plot(self) -> Plots:
        """Figures of matplotlib: ``run.plot.loss()``, ``liveness()``, ``ledger()`` and so on."""
        return Plots(self)

    def _repr_html_(self) -> str:
        """What a notebook shows; a record that cannot be read is one line in it, not a traceback."""
        from defib.report.notebook import failed_html, run_html

        try:
            return run_html(self.view, self.diagnose())
        except DefibError as error:
            return failed_html(str(self.path), str(error))
