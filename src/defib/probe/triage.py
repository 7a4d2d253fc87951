"""The gradient is small: why? Asked from cheap to expensive; the first answer that holds is given.

Structure comes before size: a cut, a layer that is off, saturation and underflow each explain a
small gradient whatever else holds. Then whether the gradient is small at all, and whether it is
noise. Only then curvature, and last the search for ways down that curvature does not show.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from defib.core.triage import Escape, Standstill, Triage
from defib.probe import stationary, structure
from defib.probe.answers import Notes, Said
from defib.probe.batch import Loss, pieces, prepared
from defib.probe.look import Look, frozen
from defib.probe.objective import Objective
from defib.probe.state import untouched
from defib.probe.zeros import output_layer

Question = Callable[[Look, Notes], Said | None]
QUESTIONS: tuple[Question, ...] = (
    structure.frozen_all,
    structure.non_finite,
    structure.cut,
    structure.done,
    structure.dead,
    structure.plateau,
    structure.underflow,
    stationary.moving,
    stationary.strict,
    stationary.degenerate,
    stationary.bottom,
)
"""In the order in which they are asked; the last one always has an answer."""


@dataclass(frozen=True, kw_only=True)
class Triaged:
    """The answer, and the way down as tensors.

    Attributes:
        report: Plain data.
        direction: Unit direction of ``report.escape``, one tensor a parameter; None if there is none.
            ``parameter + distance * direction`` is where the decrease was seen.
    """

    report: Triage
    direction: Mapping[str, Tensor] | None = None

    @property
    def verdict(self) -> Standstill:
        """Why the loss does not fall."""
        return self.report.verdict


def triage(
    model: nn.Module,
    data: object,
    loss: Loss | None = None,
    *,
    batches: int = 8,
    memory: float | None = None,
    seed: int = 0,
) -> Triaged:
    """Says why a gradient is small. Model, gradients and generators are left bit for bit as they were.

    Args:
        model: In the mode in which it is trained.
        data: A batch, or several (see :func:`defib.probe.objective.pieces`).
        loss: Called as ``loss(output, target)``; None as in ``defib check``.
        batches: How many batches of several are taken.
        memory: Bytes that curvature and single samples may use; None for half of what is free.
        seed: Of random directions and signs.

    Returns:
        Verdict, evidence, and the way down if there is one.

    Raises:
        UsageError: If the model or the loss raises, or the loss is not one number.
    """  # noqa: DOC502 - what is called here raises it
    model = prepared(model)
    roots = (model, loss) if isinstance(loss, nn.Module) else (model,)
    with untouched(*roots), torch.enable_grad():
        objective = Objective(model, pieces(data, batches), loss)
        look, notes = Look(objective, memory, seed), Notes()
        said = next(found for ask in QUESTIONS if (found := ask(look, notes)) is not None)
        return _answer(look, notes, said)


def _answer(look: Look, notes: Notes, said: Said) -> Triaged:
    broken = said.verdict is Standstill.NON_FINITE or not look.native.count
    escape: Escape | None = None if said.way is None else said.way.escape
    direction = None if said.way is None else look.work.by_name(said.way.direction)
    found = None if broken else look.__dict__.get("spectrum")  # only if the verdict needed it
    tensors = () if broken else look.tensors
    samples = look.native.samples
    report = Triage(
        facts={
            "model": type(look.native.model).__name__,
            "parameters": look.native.count,
            "frozen": frozen(look.native.model),
            "samples": samples,
            "batches": len(look.native.pieces),
            "mode": "training" if look.native.model.training else "evaluation",
            "precision": str(look.work.theta.dtype).removeprefix("torch."),
        },
        verdict=said.verdict,
        confidence=said.confidence,
        sentence=said.sentence,
        evidence=tuple(notes),
        loss=look.native_loss,
        tensors=tensors,
        output=None if broken else output_layer(look.census.head, tensors, samples),
        noise=None if broken else look.noise,
        curvature=None if found is None else found.curvature,
        escape=escape,
        unseen=tuple(look.unseen),
    )
    return Triaged(report=report, direction=direction)
