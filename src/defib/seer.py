"""Where a live model's dead units meet the judgement of their future."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from defib.core.prognosis import Forecast

if TYPE_CHECKING:
    import torch


def forecast_of_model(
    model: "torch.nn.Module",
    optimizers: "Sequence[torch.optim.Optimizer]",
    data: object,
    *,
    scheduler: Any = None,
    every: int = 1,
    horizon: int | None = None,
    step: int = 0,
) -> Forecast:
    """Finds the units of a live model that fire for no sample, and foretells them.

    Args:
        model: In the mode in which it trains.
        optimizers: Its optimisers, as they stand.
        data: All samples.
        scheduler: Sets the learning rate; None if it stays.
        every: Optimiser steps between two steps of the scheduler.
        horizon: Steps to look ahead; None for as far as is worth its time.
        step: Optimiser steps taken so far.

    Returns:
        The answers, layer by layer.

    Raises:
        UsageError: If the model raises, there is no data, or the scheduler cannot be looked ahead.
    """  # noqa: DOC502 - the probe raises it
    from defib.diagnosis.prognosis.foresight import foresee
    from defib.probe.rates import MOST, Rates
    from defib.probe.remains import gather

    driven = _driven(optimizers, scheduler)
    rates = None if driven is None else Rates(driven, scheduler, every, horizon or MOST)
    gathered = gather(model, tuple(optimizers), data, rates=rates, step=step)
    answers = [
        (remains, rehearsal.confirmed(prognosis))
        for remains, rehearsal in zip(gathered.remains, gathered.rehearsals, strict=True)
        for prognosis in foresee(remains, horizon)
    ]
    mode = "training" if model.training else "evaluation"
    return Forecast(
        facts={
            "model": type(model).__name__,
            "mode": mode,
            "samples": gathered.samples,
            "units": gathered.units,
            "dead_units": sum(len(remains.units) for remains in gathered.remains),
            "step": step,
        },
        prognoses=tuple(replace(p, samples=len(remains.features)) for remains, p in answers),
        assumed=_assumed(rates, mode),
        unseen=gathered.unseen,
    )


def _driven(optimizers: "Sequence[torch.optim.Optimizer]", scheduler: Any) -> "torch.optim.Optimizer | None":
    """The optimiser that the scheduler drives."""
    from defib.core.errors import UsageError

    if scheduler is None:
        return None
    driven = getattr(scheduler, "optimizer", None)
    found: torch.optim.Optimizer | None = next((one for one in optimizers if one is driven), None)
    if found is None:
        raise UsageError(
            "the scheduler drives none of the optimizers given; give torch's own kind of scheduler"
        )
    return found


def _assumed(rates: Any, mode: str) -> tuple[str, ...]:
    """What the answers take for granted."""
    said = ["the samples given are all there are"]
    if rates is None:
        said.append("the learning rate stays as it is")
    else:
        said += [f"the scheduler also moves {name}, which was taken to stay" for name in rates.moved]
        if rates.ends is not None:
            said.append(f"the learning rate stays after step {rates.ends} of the scheduler, its last")
    if mode == "training":
        said.append("dropout and batch statistics, where there are any, did as they did on this pass")
    return tuple(said)
