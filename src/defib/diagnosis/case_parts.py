"""Parts of made-up runs that concern the loss, the data and the steps; see ``cases``."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from defib.core.objective import OBJECTIVE_COLUMNS, Objective
from defib.core.optimizer import Norms, Pairs
from defib.core.reading import Reading
from defib.core.run import Exhibit, RunView
from defib.core.series import Series
from defib.core.site import Signal

Array = NDArray[np.float64]

CLASSES = {
    "samples": 64.0, "output_low": -2.0, "output_high": 2.0, "output_mean": 0.0, "output_rms": 1.0,
    "output_spread": 1.0, "prediction_low": -4.0, "prediction_high": -0.01, "prediction_mean": -2.0,
    "prediction_rms": 2.5, "prediction_spread": 1.0, "constant_loss": 2.23, "classes": 10.0,
    "outputs": 10.0, "ignored": 0.0, "input_low": -2.0, "input_high": 2.0, "input_mean": 0.1,
    "input_std": 1.0, "input_std_high": 1.2, "input_std_low": 0.8, "input_constant": 0.0,
    "input_nonfinite": 0.0, "input_features": 64.0,
}  # fmt: skip
"""What a healthy classifier of ten classes with data of unit scale reads."""

REGRESSION = {
    **{k: v for k, v in CLASSES.items() if k not in {"classes", "outputs", "ignored"}},
    "prediction_low": -2.0, "prediction_high": 2.0, "prediction_mean": 0.0, "prediction_rms": 1.0,
    "prediction_spread": 1.0, "target_low": -2.0, "target_high": 2.0, "target_mean": 0.0,
    "target_rms": 1.0, "target_spread": 1.0, "constant_loss": 1.0, "broadcast": 0.0,
}  # fmt: skip
"""What a healthy regression on targets of unit scale reads."""


def objective_of(
    columns: Mapping[str, float],
    operation: str = "NllLossBackward0",
    *,
    output: str = "head",
    first: str = "fc1",
    readings: int = 10,
    every: int = 10,
    **changed: float,
) -> Objective:
    """What the loss compared, the same on every reading.

    Args:
        columns: ``CLASSES`` or ``REGRESSION``, with what is different.
        operation: The loss function's node.
        output: Path of the last layer.
        first: Path of the first layer.
        readings: How many.
        every: Steps between them.
        **changed: Columns that are different.

    Returns:
        The objective, R readings.
    """
    values = {"loss": 0.5, **columns, **changed}
    return Objective(
        operation=operation,
        output_layer=output,
        input_layer=first,
        steps=np.arange(readings, dtype=np.int64) * every,
        columns={name: np.full(readings, values.get(name, np.nan)) for name in OBJECTIVE_COLUMNS},
    )


def sizes_of(
    tensors: Mapping[str, tuple[float, float]],
    *,
    gradient: float = 1.0,
    end: Mapping[str, float] | None = None,
    every: int = 10,
    readings: int = 20,
    swallowed: float = 0.0,
) -> Norms:
    """Sizes that stay as they are.

    Args:
        tensors: Norm of the weights and of the update, by name.
        gradient: Norm of every tensor's gradient.
        end: Norm of the weights at the last reading, where it is another.
        every: Steps between readings.
        readings: How many.
        swallowed: Share of the entries that the step left as they were.

    Returns:
        The norms, R readings by P parameters.
    """
    shape = (readings, len(tensors))
    weight = np.tile([w for w, _ in tensors.values()], (readings, 1)).astype(np.float64)
    for i, name in enumerate(tensors):
        if end is not None and name in end:
            weight[:, i] = np.linspace(weight[0, i], end[name], readings)
    return Norms(
        parameters=tuple(tensors),
        steps=np.arange(readings, dtype=np.int64) * every,
        gradient=np.full(shape, gradient),
        weight=weight,
        update=np.tile([u for _, u in tensors.values()], (readings, 1)).astype(np.float64),
        swallowed=np.full(shape, swallowed),
    )


def pairs_of(after: float, again: float | None = None, *, readings: int = 20, every: int = 10) -> Pairs:
    """Consecutive steps of plain gradient descent, with a wobble of 0.05 that is not chance.

    Args:
        after: Cosine of the next gradient and the step.
        again: Cosine of the two gradients; None for the one that plain gradient descent has.
        readings: How many.
        every: Steps between them.

    Returns:
        The pairs, all gradients of size 1.
    """
    wobble = 0.05 * np.sin(2.4 * np.arange(readings))
    ones = np.ones(readings)
    return Pairs(
        steps=np.arange(readings, dtype=np.int64) * every,
        gradient=ones,
        next_gradient=ones,
        update=0.1 * ones,
        before=-ones,
        after=after + wobble,
        again=-after - wobble if again is None else again + wobble,
    )


def confusion_of(
    matrix: Sequence[Sequence[int]], *, windows: int = 4, every: int = 50, repeated: bool = False
) -> tuple[Exhibit, ...]:
    """The same table of labels and answers in several windows, each of one batch.

    Args:
        matrix: Counts, shape (C, C): true class by answered class.
        windows: How many.
        every: Steps between their beginnings.
        repeated: Each batch has the same labels; otherwise they differ a little.

    Returns:
        The exhibits.
    """
    table = np.array(matrix, dtype=np.int64)
    more = np.zeros_like(table)
    more[0, 0] = not repeated
    return tuple(
        Exhibit(
            kind="confusion",
            path="head",
            step=i * every,
            facts={"last": i * every, "batches": 1},
            arrays={"matrix": table + i * more},
        )
        for i in range(windows)
    )


def stepped(run: RunView, kind: str = "SGD", lr: float | Sequence[float] = 0.1, **settings: float) -> RunView:
    """The same run under another optimiser.

    Args:
        run: The run.
        kind: Its class name.
        lr: Its learning rate, or one for each step.
        **settings: Settings of its first group.

    Returns:
        The run.
    """
    (optimizer,) = run.optimizers
    rates = np.broadcast_to(np.asarray(lr, dtype=np.float64), (run.steps,)).copy()
    group = {"lr": float(rates[0]), **settings}
    series = Series(steps=np.arange(run.steps), values=rates)
    return replace(run, optimizers=(replace(optimizer, kind=kind, groups=(group,), lr=series),))


def shaped(run: RunView) -> RunView:
    """The same run, its last activation marked as the model's output."""
    *hidden, last = run.wirings
    return replace(run, wirings=(*hidden, replace(last, output=True)))


def scaled(run: RunView, path: str, sizes: Mapping[int, float]) -> RunView:
    """The same run, some units' activations multiplied.

    Args:
        run: The run.
        path: The layer.
        sizes: Factors by unit.

    Returns:
        The run; activations are made all positive, with a mean of 1 before.
    """
    factor = np.ones(max(w.units for w in run.wirings))
    for unit, size in sizes.items():
        factor[unit] = size
    return replace(run, readings=tuple(_scaled(r, path, factor) for r in run.readings))


def _scaled(reading: Reading, path: str, factor: Array) -> Reading:
    """One reading of that run."""
    if reading.site.path != path or reading.signal is not Signal.ACTIVATION:
        return reading
    tally = reading.tally
    tally = replace(
        tally,
        total=tally.count * factor,
        squares=tally.count * factor**2,
        low=0.0 * factor,
        high=2.0 * factor,
        zero=np.where(factor > 0, tally.zero, tally.count),
    )
    return replace(reading, tally=tally)


def related(run: RunView, strength: float, cut: float = 0.0) -> RunView:
    """The same run, of whose inputs and targets that distance correlation was read.

    Args:
        run: The run.
        strength: Of the samples as they are.
        cut: Of samples that are cut along the second axis.

    Returns:
        The run; its batches of 64 differ.
    """
    assert run.objective is not None
    count = len(run.objective.steps)
    columns = {
        "relation": np.full(count, strength),
        "relation_samples": np.full(count, 64.0),
        "relation_second_first": np.full(count, cut),
        "label_mean": np.linspace(4.0, 5.0, count),
    }
    return replace(run, objective=replace(run.objective, columns={**run.objective.columns, **columns}))
