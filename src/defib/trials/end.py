"""Ends a script early, as a trial asks for."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from defib.core.run import RunView
from defib.trials.race import Mark, gain

Tell = Callable[[int, dict[str, Any]], None]
"""Writes a "trial" event into the record: the step, and what was decided."""


def end_after(steps: int) -> None:
    """Ends the script, as ``sys.exit()`` would, once one of its optimisers has taken so many steps.

    Args:
        steps: At least 1.
    """

    def stepped(taken: int) -> None:
        if taken >= steps:
            raise SystemExit(0)

    _on_steps(stepped)


def race(marks: tuple[Mark, ...], seen: Callable[[], RunView], tell: Tell) -> None:
    """Ends the script where a treatment was refused, or its loss is not clearly below its rival's.

    Args:
        marks: What the rival's losses were.
        seen: All that was recorded up to now; it takes some time.
        tell: Told of each decision, before the script is ended.
    """
    waiting = list(marks)

    def stepped(taken: int) -> None:
        why = _why_not(seen()) if taken == 1 else ""
        if why:  # without it this would be another arm: nothing, or a shorter course
            tell(taken, {"stage": "stopped", "why": f"a treatment could not be given: {why}"})
            raise SystemExit(0)
        if not waiting or taken < waiting[0].step:
            return
        mark = waiting.pop(0)
        found = gain(mark, seen().loss)
        words = {"gain": found.mean, "low": found.low, "of": mark.step}
        if found.is_clear:
            tell(taken, {"stage": "ahead", **words})
            return
        tell(taken, {"stage": "stopped", "why": "its loss is not clearly below its rival's", **words})
        raise SystemExit(0)

    _on_steps(stepped)


def _why_not(view: RunView) -> str:
    """Why a treatment could not be given; "" if all were, or are still to come at a later step."""
    events = [e.data for e in view.of_kind("treatment") if e.data.get("stage") not in {"planned", "done"}]
    return str(events[0].get("why", "")) if events else ""


def _on_steps(act: Callable[[int], None]) -> None:
    """Calls back after each step of the optimiser that has taken the most."""
    taken: dict[int, int] = {}

    def stepped(optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        taken[id(optimizer)] = taken.get(id(optimizer), 0) + 1
        if taken[id(optimizer)] > max((n for i, n in taken.items() if i != id(optimizer)), default=0):
            act(taken[id(optimizer)])

    register_optimizer_step_post_hook(stepped)
