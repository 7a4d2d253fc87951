"""A run as tidy tables: one row an observation, one column a variable, every column documented.

What is kept as evidence only is not in them: samples of the data, states of optimisers, matrices.
Times are optimiser steps from 0; a step of -1 is "never" or "before the first". Numbers can be NaN
(not read) or infinite (a real reading).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

from defib.core.diagnosis import Diagnosis
from defib.core.objective import OBJECTIVE_COLUMNS
from defib.core.optimizer import PAIR_COLUMNS
from defib.core.run import RunView
from defib.core.sharpness import SHARPNESS_COLUMNS
from defib.core.tally import Tally
from defib.report import rows
from defib.report.rows import ROWS, Columns, Row

TEXT, WHOLE, NUMBER, TRUTH = "text", "integer", "number", "truth"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One variable.

    Attributes:
        name: Its name.
        kind: "text", "integer", "number" (float64) or "truth".
        meaning: What it says, with its unit.
    """

    name: str
    kind: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """One kind of observation.

    Attributes:
        name: Its name.
        meaning: What a row is.
        columns: In order.
        rows: Makes the rows, each in the order of the columns; or else
        blocks: makes them many at a time, column by column.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    rows: Callable[[RunView, Diagnosis], Iterator[Row]] | None = None
    blocks: Callable[[RunView, Diagnosis], Iterator[Columns]] | None = None

    def batches(self, run: RunView, diagnosis: Diagnosis) -> Iterator[Columns]:
        """The rows of a run, some ten thousand at a time.

        Args:
            run: The run.
            diagnosis: What is wrong with it.

        Yields:
            The columns, all of one length; nothing at all for no rows.
        """
        if self.blocks is not None:
            yield from self.blocks(run, diagnosis)
            return
        assert self.rows is not None
        pending: list[Row] = []
        for row in self.rows(run, diagnosis):
            pending.append(row)
            if len(pending) >= ROWS:
                yield list(zip(*pending, strict=True))
                pending = []
        if pending:
            yield list(zip(*pending, strict=True))


def _columns(*given: tuple[str, str, str]) -> tuple[Column, ...]:
    return tuple(Column(name=name, kind=kind, meaning=meaning) for name, kind, meaning in given)


_PLACE = (
    ("path", TEXT, "layer, as the user knows it; empty for the root module"),
    ("call", WHOLE, "which use of it in one forward pass, from 0"),
)
_TALLY = {
    "count": "entries seen",
    "positive": "entries above 0",
    "zero": "entries exactly 0",
    "saturated": "entries whose activation derivative is below 1 % of its largest",
    "flat": "entries whose activation derivative is exactly 0",
    "nonfinite": "entries that are NaN or infinite",
    "total": "sum of the finite entries",
    "squares": "sum of their squares",
    "low": "smallest finite entry; +inf if none",
    "high": "largest finite entry; -inf if none",
}
assert tuple(_TALLY) == Tally.rows() == tuple(f.name for f in fields(Tally))[1:]

TABLES = (
    Table(
        name="facts", meaning="a fact about the run", rows=rows.facts,
        columns=_columns(("name", TEXT, "which"), ("value", TEXT, "as JSON")),
    ),
    Table(
        name="layers", meaning="a module that owns parameters", rows=rows.layers,
        columns=_columns(
            ("position", WHOLE, "place in the model's own listing"), _PLACE[0], ("kind", TEXT, "class name"),
            ("units", WHOLE, "length of its unit axis; 0 if it has none"),
            ("optimizer", WHOLE, "index of the optimiser that owns it; -1 if none does"),
            ("frozen", TRUTH, "none of its parameters requires a gradient"),
            ("parameters", TEXT, "JSON list of its parameters' names"),
            ("dtypes", TEXT, "JSON list of their formats"),
        ),
    ),
    Table(
        name="wirings", meaning="one use of an activation function", rows=rows.wirings,
        columns=_columns(
            ("order", WHOLE, "position in data flow"), *_PLACE, ("activation", TEXT, "name of the function"),
            ("operation", TEXT, "name of its autograd node"), ("units", WHOLE, "length of the unit axis"),
            ("normalised", TRUTH, "a normalisation stands before it"),
            ("output", TRUTH, "nothing with parameters comes after it"),
            ("dtype", TEXT, "floating-point format"), ("modules", TEXT, "JSON list: producer to activation"),
            ("inputs", TEXT, "JSON list: activations that feed the producer"),
            ("skips", TEXT, "JSON list: activations that come around it"),
            ("options", TEXT, "JSON object: constants of the activation"),
        ),
    ),
    Table(
        name="optimizers", meaning="one parameter group of an optimiser", rows=rows.optimizers,
        columns=_columns(
            ("optimizer", WHOLE, "order of first use"), ("kind", TEXT, "class name"),
            ("steps", WHOLE, "steps taken"), ("group", WHOLE, "number of the group"),
            ("settings", TEXT, "JSON object: its settings, and how many tensors it has"),
        ),
    ),
    Table(
        name="curves", meaning="one number on one step", rows=rows.curves,
        columns=_columns(
            ("name", TEXT, "loss, lr, scale (of a GradScaler), displacement (of the weights, relative); "
             "or the name given to defib.log"),
            ("optimizer", WHOLE, "index; -1 for what the script logged"), ("step", WHOLE, "optimiser step"),
            ("value", NUMBER, "the number"),
        ),
    ),
    Table(
        name="units", meaning="one unit of a layer, by its gradient on every step", rows=rows.units,
        columns=_columns(
            _PLACE[0], ("unit", WHOLE, "index"), ("source", TEXT, "parameter whose gradient was read"),
            ("steps", WHOLE, "steps on which it was read"), ("last_step", WHOLE, "last of them"),
            ("period", WHOLE, "steps between two reads"),
            ("first_alive", WHOLE, "step of its first gradient that was not 0; -1 never"),
            ("last_alive", WHOLE, "step of its last; -1 never"),
            ("alive_steps", WHOLE, "on how many steps it had one"),
            ("returns", WHOLE, "silences of 8 steps and more that it came back from; missing if unknown"),
            ("silent_before", WHOLE, "steps of those silences; missing if unknown"),
        ),
    ),
    Table(
        name="readings", meaning="one unit's statistics of one signal over a window of sampled steps",
        blocks=rows.readings,
        columns=_columns(
            *_PLACE, ("signal", TEXT, "preactivation, activation, or the loss's gradient by one of them"),
            ("first", WHOLE, "first sampled step of the window"), ("last", WHOLE, "last"),
            ("samples", WHOLE, "samples seen"), ("unit", WHOLE, "index"),
            *((name, NUMBER, meaning) for name, meaning in _TALLY.items()),
            ("mean", NUMBER, "mean of the finite entries"), ("std", NUMBER, "their standard deviation"),
        ),
    ),
    Table(
        name="flow", meaning="size of one signal on one sampled step", rows=rows.flow,
        columns=_columns(
            *_PLACE, ("signal", TEXT, "as in readings"), ("step", WHOLE, "optimiser step"),
            ("rms", NUMBER, "root mean square over all entries"),
        ),
    ),
    Table(
        name="norms", meaning="sizes of one parameter tensor on one sampled step", rows=rows.norms,
        columns=_columns(
            ("parameter", TEXT, "name"), ("step", WHOLE, "optimiser step"),
            ("gradient", NUMBER, "Euclidean norm of the gradient"),
            ("weight", NUMBER, "Euclidean norm of the parameter before the step"),
            ("update", NUMBER, "Euclidean norm of its change"),
            ("swallowed", NUMBER, "share of entries with a gradient that the step left bit-identical"),
        ),
    ),
    Table(
        name="objective", meaning="what the loss compared on one sampled step", rows=rows.objective,
        columns=_columns(
            ("step", WHOLE, "optimiser step"),
            *((name, NUMBER, "see Objective in the library reference") for name in OBJECTIVE_COLUMNS),
        ),
    ),
    Table(
        name="pairs", meaning="one step beside the next", rows=rows.pairs,
        columns=_columns(
            ("optimizer", WHOLE, "index"), ("step", WHOLE, "the first of the two steps"),
            *((name, NUMBER, meaning) for name, meaning in zip(PAIR_COLUMNS, (
                "norm of its gradient", "norm of the next one's", "norm of the update between",
                "cosine of gradient and update", "cosine of next gradient and update",
                "cosine of the two gradients"), strict=True)),
        ),
    ),
    Table(
        name="curvature", meaning="the largest curvature of one step's loss, where it was measured",
        rows=rows.curvature,
        columns=_columns(
            ("optimizer", WHOLE, "index"), ("step", WHOLE, "optimiser step"),
            *((name, NUMBER, meaning) for name, meaning in zip(SHARPNESS_COLUMNS, (
                "largest eigenvalue of the Hessian of the batch's loss",
                "an eigenvalue lies within that of it",
                "rate x largest curvature, in the optimiser's own geometry", "its bound likewise",
                "the same along a direction fixed on the measurement before",
                "the most that the optimiser can follow",
                "share of the gradient that the optimiser was given", "products with the Hessian made",
            ), strict=True)),
        ),
    ),
    Table(
        name="events", meaning="something that happened once", rows=rows.events,
        columns=_columns(
            ("step", WHOLE, "optimiser step; -1 before the first"), ("kind", TEXT, "what"),
            ("data", TEXT, "JSON object: its details"),
        ),
    ),
    Table(
        name="findings", meaning="one finding of the diagnosis, consequences too", rows=rows.findings,
        columns=_columns(
            ("finding", WHOLE, "number"), ("explained_by", WHOLE, "number of its cause; -1 if none"),
            ("rule", TEXT, "rule that found it"), ("fault", TEXT, "kind of fault"),
            ("severity", TEXT, "error, warning, info"), ("confidence", TEXT, "what it rests on"),
            ("layer", TEXT, "layer; empty for the whole model"), ("call", WHOLE, "which use of it"),
            ("cause", TEXT, "why"), ("since_step", WHOLE, "first step at which it held; missing if unknown"),
            ("units", WHOLE, "units that it names"), ("units_total", WHOLE, "of how many"),
            ("message", TEXT, "one sentence"), ("indices", TEXT, "JSON list of those units"),
            ("evidence", TEXT, "JSON list of its numbers"),
        ),
    ),
    Table(
        name="unseen", meaning="something that was not observed", rows=rows.unseen,
        columns=_columns(("what", TEXT, "layer, parameter or run"), ("why", TEXT, "reason")),
    ),
)  # fmt: skip
"""Every table, in the order in which it is written."""
