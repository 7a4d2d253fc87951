"""Made-up runs whose steps are too long, each in another way; see ``cases``."""

from dataclasses import replace

import numpy as np

from defib.core.cause import Cause
from defib.core.finding import Severity
from defib.core.run import RunView
from defib.core.sharpness import Sharpness
from defib.diagnosis.case_parts import CLASSES, objective_of, pairs_of, sizes_of
from defib.diagnosis.cases import Plan, broken_loss, falling_loss, flat_loss, run_of
from defib.diagnosis.rule import Case, Expected


def measured(
    loss: np.ndarray[tuple[int], np.dtype[np.float64]],
    product: float,
    *,
    wobble: float = 0.0,
    along: float = 1.0,
) -> RunView:
    """A run whose curvature was measured on ten steps; plain gradient descent, which can follow 2.

    Args:
        loss: Its losses.
        product: Rate x largest curvature of a batch.
        wobble: By which share that differs from batch to batch.
        along: Rate x curvature along an earlier direction over ``product``.

    Returns:
        The run.
    """
    run = run_of(Plan(path="fc1"), loss=loss)
    ones = np.ones(10)
    products = product * (1 + wobble * np.sin(2.4 * np.arange(10)))
    sharpness = Sharpness(
        steps=np.arange(1, 11, dtype=np.int64),
        largest=10 * products,
        largest_error=0.01 * ones,
        product=products,
        product_error=0.001 * ones,
        along=along * products,
        bound=2 * ones,
        reached=ones,
        products=6 * ones,
    )
    objective = objective_of(CLASSES)
    if wobble:
        turns = np.asarray(np.arange(len(objective.steps)) % 2, dtype=np.float64)
        objective = replace(objective, columns={**objective.columns, "input_mean": turns})
    return replace(run, sharpness={0: sharpness}, objective=objective)


def restless(ratio: float) -> RunView:
    """A classifier that walks at that pace, and whose loss, still falling, is at a constant's level."""
    run = stepping(np.linspace(2.6, 2.2, 400), ratio)
    return replace(run, objective=objective_of(CLASSES, loss=2.2))


def bouncing(
    loss: np.ndarray[tuple[int], np.dtype[np.float64]], after: float, taking_turns: bool = False
) -> RunView:
    """A run whose gradients point back along the last step with that cosine."""
    run = replace(run_of(Plan(path="fc1"), loss=loss), pairs={0: pairs_of(after)})
    objective = objective_of(CLASSES)
    if taking_turns:
        turns = np.asarray(np.arange(len(objective.steps)) % 2, dtype=np.float64)
        objective = replace(objective, columns={**objective.columns, "input_mean": turns})
    return replace(run, objective=objective)


def stepping(loss: np.ndarray[tuple[int], np.dtype[np.float64]], ratio: float) -> RunView:
    """A run whose updates are that large against the weights."""
    sizes = {"fc1.weight": (1.0, ratio), "head.weight": (1.0, ratio)}
    return replace(run_of(Plan(path="fc1"), loss=loss), norms=sizes_of(sizes))


def growing() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A loss that doubles from step to step and is NaN from step 100 on."""
    loss = broken_loss(200, at=100)
    loss[:100] = 2.0 ** np.arange(100)
    return loss


CASES: tuple[Case, ...] = (
    Case(
        name="the first step replaces the weights and nothing is learned",
        build=lambda: stepping(flat_loss(), 5.0),
        expect=(Expected(cause=Cause.STEP_LARGER_THAN_WEIGHTS, severity=Severity.ERROR, since_step=0),),
    ),
    Case(
        name="every step moves the weights by a fifth",
        build=lambda: stepping(flat_loss(), 0.2),
        expect=(Expected(cause=Cause.STEP_LARGER_THAN_WEIGHTS, severity=Severity.ERROR),),
    ),
    Case(
        name="the loss grows until it is infinite",
        build=lambda: run_of(Plan(path="fc1"), loss=growing(), readings=False),
        expect=(Expected(cause=Cause.LOSS_RUNS_AWAY, severity=Severity.ERROR),),
    ),
    Case(
        name="the loss ends twice as high as it began",
        build=lambda: run_of(Plan(path="fc1"), loss=np.linspace(1.0, 2.0, 200), readings=False),
        expect=(Expected(cause=Cause.LOSS_RUNS_AWAY, severity=Severity.ERROR),),
    ),
    Case(
        name="steps from one side of the valley to the other",
        build=lambda: bouncing(flat_loss(), after=0.9),
        expect=(Expected(cause=Cause.STEPS_OVERSHOOT, severity=Severity.ERROR),),
    ),
    Case(name="the same while the loss falls", build=lambda: bouncing(falling_loss(), after=0.9)),
    Case(
        name="half of the gradient is noise of its own",
        build=lambda: bouncing(flat_loss(level=2.0), after=0.45),
    ),
    Case(
        name="batches that take turns point against each other",
        build=lambda: bouncing(flat_loss(level=2.0), after=0.9, taking_turns=True),
    ),
    Case(
        name="weights replaced ten times over, and a loss that falls to the best constant's",
        build=lambda: restless(0.07),
        expect=(Expected(cause=Cause.STEP_LARGER_THAN_WEIGHTS, severity=Severity.WARNING),),
    ),
    Case(name="small steps on the same way down", build=lambda: restless(0.002)),
    Case(
        name="rate x curvature of 2.1 where 2 can be followed, and the loss grows",
        build=lambda: measured(growing(), 2.1),
        expect=(Expected(cause=Cause.STEPS_BEYOND_STABILITY, severity=Severity.ERROR, since_step=1),),
    ),
    Case(
        name="2.6, and the loss stays",
        build=lambda: measured(flat_loss(), 2.6),
        expect=(Expected(cause=Cause.STEPS_BEYOND_STABILITY, severity=Severity.ERROR),),
    ),
    Case(
        name="2.2, and the loss stays: the edge of stability",
        build=lambda: measured(flat_loss(level=2.0), 2.2),
    ),
    Case(name="2.6 in a run that learns", build=lambda: measured(falling_loss(), 2.6)),
    Case(
        name="batches of 2.6, and 1.3 along directions fixed beforehand",
        build=lambda: measured(flat_loss(level=2.0), 2.6, wobble=0.1, along=0.5),
    ),
    Case(
        name="batches of 5, and 4 along directions fixed beforehand",
        build=lambda: measured(flat_loss(), 5.0, wobble=0.1, along=0.8),
        expect=(Expected(cause=Cause.STEPS_BEYOND_STABILITY, severity=Severity.ERROR),),
    ),
    Case(name="a large step in a network that learns", build=lambda: stepping(falling_loss(), 5.0)),
    Case(
        name="small steps in a network that learns",
        build=lambda: stepping(falling_loss(), 0.001),
    ),
)
"""The examples of the rule ``lr-too-high``."""
