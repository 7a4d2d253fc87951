"""The rows of each table of an export, in the order of its columns; see ``tables``.

Letters: ``U`` units of a layer.
"""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defib.core.diagnosis import Diagnosis
from defib.core.finding import Finding
from defib.core.objective import OBJECTIVE_COLUMNS
from defib.core.optimizer import PAIR_COLUMNS
from defib.core.reading import Reading
from defib.core.run import RunView
from defib.core.sharpness import SHARPNESS_COLUMNS
from defib.report.json import to_plain

Row = tuple[Any, ...]
"""One row."""

Columns = Sequence[Sequence[Any] | NDArray[Any]]
"""Several rows, column by column."""

ROWS = 1 << 16
"""Rows that are gathered before they are handed on."""


def _json(value: Any) -> str:
    return json.dumps(to_plain(value), allow_nan=False)


def facts(run: RunView, diagnosis: Diagnosis) -> Iterator[Row]:
    """Facts of the run."""
    for name, value in run.facts.items():
        yield name, _json(value)
    yield "verdict", _json(diagnosis.verdict)
    yield "overhead", _json(run.overhead)
    yield "loss_operations", _json(run.loss_operations)


def layers(run: RunView, _diagnosis: Diagnosis) -> Iterator[Row]:
    """Layers, in the model's own order."""
    for position, layer in enumerate(run.layers):
        yield (
            position, layer.path, layer.kind, layer.units, layer.optimizer, layer.frozen,
            _json(layer.parameters), _json(layer.dtypes),
        )  # fmt: skip


def wirings(run: RunView, _diagnosis: Diagnosis) -> Iterator[Row]:
    """Uses of activation functions."""
    for w in run.wirings:
        inputs, skips = _json([str(s) for s in w.inputs]), _json([str(s) for s in w.skips])
        yield (
            w.order, w.site.path, w.site.call, w.activation, w.operation, w.units, w.normalised, w.output,
            w.dtype, _json(w.modules), inputs, skips, _json(w.options),
        )  # fmt: skip


def optimizers(run: RunView, _diagnosis: Diagnosis) -> Iterator[Row]:
    """Parameter groups."""
    for optimizer in run.optimizers:
        for number, group in enumerate(optimizer.groups or ({},)):
            yield optimizer.index, optimizer.kind, optimizer.steps, number, _json(group)


def curves(run: RunView, _diagnosis: Diagnosis) -> Iterator[Row]:
    """Numbers that there are for every step."""
    for optimizer in run.optimizers:
        for name in ("loss", "lr", "scale", "displacement"):
            series = getattr(optimizer, name)
            for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
                yield name, optimizer.index, step, value
    for name, series in run.logged.items():
        for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
            yield name, -1, step, value


def units(run: RunView, _diagnosis: Diagnosis) -> Iterator[Row]:
    """Liveness of each unit."""
    for path, live in run.liveness.items():
        nothing = [None] * len(live.last_alive)
        returns = nothing if live.returns is None else live.returns.tolist()
        silent = nothing if live.silent_before is None else live.silent_before.tolist()
        per_unit = (live.first_alive.tolist(), live.last_alive.tolist(), live.alive_steps.tolist())
        for unit, row in enumerate(zip(*per_unit, returns, silent, strict=True)):
            yield path, unit, live.source, live.steps, live.last_step, live.period, *row


def readings(run: RunView, _diagnosis: Diagnosis) -> Iterator[Columns]:
    """Each unit's statistics in each window: columns in the order of the table, many rows at a time."""
    pending: list[list[NDArray[Any]]] = []
    for reading in run.readings:
        pending.append(_reading(reading))
        if sum(len(columns[0]) for columns in pending) >= ROWS:
            yield [np.concatenate(column) for column in zip(*pending, strict=True)]
            pending = []
    if pending:
        yield [np.concatenate(column) for column in zip(*pending, strict=True)]


def _reading(reading: Reading) -> list[NDArray[Any]]:
    site, tally = reading.site, reading.tally
    units = tally.units
    words = (site.path, site.call, reading.signal.value, reading.first, reading.last, tally.samples)
    where = [np.full(units, word, dtype=object if isinstance(word, str) else np.int64) for word in words]
    return [*where, np.arange(units), *tally.to_array(), tally.mean, tally.std]


def flow(run: RunView, _diagnosis: Diagnosis) -> Iterator[Row]:
    """Sizes of signals."""
    steps = run.flow_steps.tolist()
    for (site, signal), values in run.flow.items():
        for step, value in zip(steps, values.tolist(), strict=True):
            if not math.isnan(value):  # NaN: not read on that step
                yield site.path, site.call, signal.value, step, value


def norms(run: RunView, _diagnosis: Diagnosis) -> Iterator[Row]:
    """Sizes of tensors."""
    norms = run.norms
    if norms is None:
        return
    for row, step in enumerate(norms.steps.tolist()):
        for column, name in enumerate(norms.parameters):
            every = (norms.gradient, norms.weight, norms.update, norms.swallowed)
            yield name, step, *(float(values[row, column]) for values in every)


def objective(run: RunView, _diagnosis: Diagnosis) -> Iterator[Row]:
    """What the loss compared."""
    if run.objective is None:
        return
    every = [run.objective.columns.get(name) for name in OBJECTIVE_COLUMNS]
    for row, step in enumerate(run.objective.steps.tolist()):
        yield step, *(float("nan") if values is None else float(values[row]) for values in every)


def pairs(run: RunView, _diagnosis: Diagnosis) -> Iterator[Row]:
    """Steps beside the next."""
    for index, pairs in run.pairs.items():
        for row, step in enumerate(pairs.steps.tolist()):
            yield index, step, *(float(getattr(pairs, name)[row]) for name in PAIR_COLUMNS)


def curvature(run: RunView, _diagnosis: Diagnosis) -> Iterator[Row]:
    """Measurements of curvature."""
    for index, measured in run.sharpness.items():
        for row, step in enumerate(measured.steps.tolist()):
            yield index, step, *(float(getattr(measured, name)[row]) for name in SHARPNESS_COLUMNS)


def events(run: RunView, _diagnosis: Diagnosis) -> Iterator[Row]:
    """Events, in order of time."""
    for event in run.events:
        yield event.step, event.kind, _json(event.data)


def unseen(_run: RunView, diagnosis: Diagnosis) -> Iterator[Row]:
    """What was not observed."""
    for each in diagnosis.coverage.not_observed:
        yield each.what, each.why


def findings(_run: RunView, diagnosis: Diagnosis) -> Iterator[Row]:
    """Findings, each before those that it explains."""
    rows: list[tuple[Finding, int]] = []

    def put(finding: Finding, cause: int) -> None:
        rows.append((finding, cause))
        own = len(rows) - 1
        for inner in finding.explains:
            put(inner, own)

    for finding in diagnosis.findings:
        put(finding, -1)
    for number, (f, cause) in enumerate(rows):
        yield (
            number, cause, f.rule, f.fault.value, f.severity.value, f.confidence.value, f.layer, f.call,
            f.cause.value, f.since_step, len(f.units), f.units_total, f.message, _json(f.units),
            _json(f.evidence),
        )  # fmt: skip
