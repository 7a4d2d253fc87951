"""Put dead units back to what they were before they died.

What it does:
    The weights and biases that come into the units become those of the last healthy snapshot;
    everything else stays where training has brought it.

When it helps:
    One step killed units that had learnt something, and a snapshot from before it is there.

When it does not:
    The rest of the network has moved on far, or the same step comes again: lower the rate as well.

Dose:
    ``layer``: path of a linear layer or convolution. ``units``: their numbers. ``before``: optimiser
    step at which most of them died; the snapshot must be older.

Safety:
    Answers change on the samples on which the units fire again. Needs a snapshot:
    ``run.snapshot()`` while the run is healthy, or ``defib run --treat auto``, which keeps one
    whenever a check finds nothing. Without one it is refused.

References:
    science.md 3.5.
"""

from typing import ClassVar

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Prescription, Safety
from defib.core.run import RunView
from defib.therapy.snapshots import as_far_as_kept
from defib.therapy.steps import number_of
from defib.therapy.surgery import Surgery
from defib.therapy.treatment import Case, Indication
from defib.therapy.unit_cases import as_kept, half_dead, remembered
from defib.therapy.units import UnitTreatment, refresh, ward


class UndoKillingStep(UnitTreatment):
    """Takes units' own weights from a snapshot."""

    slug = "undo-killing-step"
    title = "Put dead units back to what they were before they died"
    safety = Safety.CHANGES
    indications = (
        Indication(
            rule="dead-unit",
            causes=(Cause.DIED_AT_STEP,),
            strength=0.55,
            why="the units get back the weights with which they fired",
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="one unit",
            build=remembered,
            dose={"layer": "0", "units": (2,), "before": 5},
            holds=lambda s: as_kept(s, "0.weight", 2) and not as_kept(s, "0.weight", 0),
        ),
        Case(name="no snapshot", build=half_dead, dose={"layer": "0", "units": (2,)}, refused=True),
        Case(
            name="a snapshot from after the death",
            build=remembered,
            dose={"layer": "0", "units": (2,), "before": 2},
            refused=True,
        ),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        found = super().dose(finding, run)
        worst = number_of(finding, "worst step")
        before = int(worst) if worst >= 0 else finding.since_step or 0
        return None if found is None else {**found, "before": before}

    def prescribe(self, finding: Finding, run: RunView) -> Prescription | None:
        return as_far_as_kept(super().prescribe(finding, run), run)

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        snapshot = surgery.state.snapshot
        if snapshot is None:
            raise Refused(
                "undo-killing-step: no snapshot was kept (run.snapshot(), or defib run --treat auto)"
            )
        before = dose.get("before")
        if isinstance(before, (int, float)) and snapshot.step > before:
            raise Refused(
                f"undo-killing-step: the snapshot is of step {snapshot.step}, after the death at {before}"
            )
        found = ward(surgery, dose, self.slug, readers=False)
        for name, parameter in found.layer.named_parameters(recurse=False):
            kept = snapshot.tensors.get(f"{found.path}.{name}")
            if kept is None or kept.shape != parameter.shape:
                raise Refused(f"undo-killing-step: the snapshot has no {found.path}.{name} of this shape")
            what = f"{found.path}.{name} of {len(found.units)} units"
            surgery.write(what, parameter, kept[found.index], found.index)
        refresh(surgery, found.path, found.layer, found.units)
