"""Let dropout take less.

What it does:
    ``p`` of every dropout module that drops more than ``share`` is set to it.

When it helps:
    The signal drowns in the chance of which units were left: the loss in training stays at the constant's.

When it does not:
    Where dropout was called as a function its probability stands in the source. A network that is too
    narrow for a half may bear a tenth only.

Dose:
    ``share``: the most that is dropped from now on, 0 to below 1; 0.5.

Safety:
    Weights and moments stay; nothing changes in evaluation. Refused where no module drops more.

References:
    Srivastava et al. 2014, section 7.3.
"""

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from torch import nn

from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Safety
from defib.core.run import RunView
from defib.therapy.steps import stepping
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState
from defib.therapy.treatment import Case, Indication, Treatment

_KINDS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def _dropping() -> TrainState:
    """A network that drops nine tenths."""
    state = stepping()
    state.bare.add_module("drop", nn.Dropout(0.9))
    return state


class LowerDropout(Treatment):
    """Limits what dropout modules drop."""

    slug = "lower-dropout"
    title = "Let dropout take less"
    safety = Safety.SETTINGS
    indications = (
        Indication(rule="drowned-signal", strength=0.95, why="more of the signal is left on every step"),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="a half at most",
            build=_dropping,
            dose={"share": 0.5},
            holds=lambda s: [m.p for m in s.bare.modules() if isinstance(m, nn.Dropout)] == [0.5],
        ),
        Case(name="nothing is dropped", build=stepping, dose={"share": 0.5}, refused=True),
        Case(name="a share above 1", build=_dropping, dose={"share": 1.5}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        del finding, run
        return {"share": 0.5}

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del layers
        return {"share": draw.choice([0.1, 0.3, 0.5])}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        share = dose.get("share")
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
            raise Refused(f"lower-dropout needs a share from 0 to below 1, not {share!r}")
        modules = [m for m in surgery.state.bare.modules() if isinstance(m, _KINDS)]
        strong = [m for m in modules if m.p > share]
        if not strong:
            raise Refused(f"lower-dropout: no dropout module drops more than {share:g}")
        for module in strong:
            surgery.attribute(f"{type(module).__name__}.p", module, "p", float(share))
