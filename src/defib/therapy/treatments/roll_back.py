"""Go back to the last healthy snapshot.

What it does:
    Parameters, buffers and the optimiser's memory become those of the snapshot, bit for bit. Settings
    (the learning rate) and the data's order stay as they are now.

When it helps:
    The network was fine and is not any more: NaN in the weights, a loss that ran away, units that one
    step killed, a validation loss that rises.

When it does not:
    What broke it comes again: give `scale-lr` or `clip-norm` as well.

Dose:
    None. Prescribed for a run that is under way and has kept a snapshot; of any other run it is
    advice: how to keep one the next time.

Safety:
    All that was learnt since the snapshot is lost. Needs a snapshot: ``run.snapshot()`` while the
    run is healthy, or ``defib run --treat auto``, which keeps one of the start and one whenever a check
    finds nothing.
    Without one it is refused. A snapshot takes as much memory as the model and its optimiser.

References:
    Chowdhery et al. 2022, PaLM (arXiv 2204.02311), section 5.1: restarting from before a loss spike.
"""

from collections.abc import Sequence
from random import Random
from typing import ClassVar

import torch

from defib.core.cause import Cause
from defib.core.errors import Refused
from defib.core.finding import Finding
from defib.core.prescription import Dose, Prescription, Safety
from defib.core.run import RunView
from defib.therapy.snapshots import as_far_as_kept, is_kept
from defib.therapy.steps import before_updates
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState
from defib.therapy.treatment import Case, Indication, Treatment
from defib.therapy.unit_cases import as_kept, half_dead, remembered, remembered_early

_BROKEN = (
    Cause.NON_FINITE_FORWARD, Cause.NON_FINITE_LOSS, Cause.NON_FINITE_BACKWARD, Cause.NON_FINITE_UPDATE,
)  # fmt: skip


def _memory_as_kept(state: TrainState) -> bool:
    """Whether every number that the optimiser keeps is the snapshot's."""
    snapshot = state.snapshot
    held = state.optimizers[0].state
    return snapshot is not None and all(
        torch.equal(torch.as_tensor(value), torch.as_tensor(held[p][key]))
        for name, p in state.bare.named_parameters()
        for key, value in snapshot.memories[name].items()
    )


class RollBack(Treatment):
    """Restores a snapshot."""

    slug = "roll-back"
    title = "Go back to the last healthy snapshot"
    safety = Safety.RESTART
    indications = (
        Indication(
            rule="non-finite",
            causes=_BROKEN,
            strength=0.6,
            why="weights that are no numbers are finite again",
        ),
        Indication(rule="overfit", strength=0.6, why="the best point of the run lies behind it"),
        Indication(
            rule="lr-too-high",
            causes=(Cause.LOSS_RUNS_AWAY, Cause.STEP_LARGER_THAN_WEIGHTS),
            strength=0.4,
            why="what the steps destroyed is there again",
        ),
        Indication(
            rule="dead-unit", causes=(Cause.DIED_AT_STEP,), strength=0.4, why="the units are alive again"
        ),
    )
    CASES: ClassVar[tuple[Case, ...]] = (
        Case(
            name="weights and moments",
            build=remembered,
            dose={},
            holds=lambda s: as_kept(s, "0.weight") and as_kept(s, "4.bias") and _memory_as_kept(s),
        ),
        Case(
            name="to before the first step",
            build=remembered_early,
            dose={},
            holds=lambda s: as_kept(s, "0.weight") and not s.optimizers[0].state,
        ),
        Case(name="no snapshot", build=half_dead, dose={}, refused=True),
    )

    def dose(self, finding: Finding, run: RunView) -> Dose | None:
        # What is no number before any update is none again after going back; the weights are, though.
        return None if before_updates(finding) and not is_kept(run) else {}

    def prescribe(self, finding: Finding, run: RunView) -> Prescription | None:
        return as_far_as_kept(super().prescribe(finding, run), run)

    def drawn(self, draw: Random, layers: Sequence[str]) -> Dose:
        del draw, layers
        return {}

    def operate(self, surgery: Surgery, dose: Dose) -> None:
        del dose
        state, snapshot = surgery.state, surgery.state.snapshot
        if snapshot is None:
            raise Refused("roll-back: no snapshot was kept (run.snapshot(), or defib run --treat auto)")
        live = {**dict(state.bare.named_parameters()), **dict(state.bare.named_buffers())}
        shapes = {n: t.shape for n, t in live.items()}
        if shapes != {n: t.shape for n, t in snapshot.tensors.items()}:
            raise Refused("roll-back: the model has other parameters than when the snapshot was taken")
        for name, tensor in live.items():
            surgery.write(name, tensor, snapshot.tensors[name])
        for name, parameter in state.bare.named_parameters():
            if state.owner(parameter) is not None:
                _recall(surgery, name, parameter, snapshot.memories.get(name, {}))


def _recall(surgery: Surgery, name: str, parameter: torch.Tensor, kept: object) -> None:
    """What the optimiser kept of one parameter."""
    memory = dict(kept) if isinstance(kept, dict) else {}
    if not memory:
        surgery.forget(f"optimiser state of {name}", parameter)
        return
    owned = surgery.state.owner(parameter)
    held = owned.optimizer.state.get(parameter, {}) if owned is not None else {}
    for key, value in memory.items():
        now = held.get(key)
        if torch.is_tensor(value) and torch.is_tensor(now) and now.shape == value.shape:
            surgery.write(f"{key} of {name}", now, value)
        else:
            copied = value.clone() if torch.is_tensor(value) else value
            surgery.remember(f"{key} of {name}", parameter, key, copied)
