"""What comes together is written together, and what numpy says of it stops nothing."""

import sqlite3
import time
import warnings
from pathlib import Path

import numpy as np

import defib
from defib.core.objective import OBJECTIVE_COLUMNS
from defib.core.optimizer import PAIR_COLUMNS
from defib.core.series import Series
from defib.record import streams
from defib.record.batch import Batch, Happened, Points
from defib.record.clerk import Clerk
from defib.record.part import Part
from defib.record.pump import Pump
from defib.record.schema import TABLES
from defib.record.store import Store
from defib.record.writer import Writer


class Counting(Store):
    """Notes how many entries each transaction has."""

    def __init__(self, path):
        super().__init__(path, 1 << 20)
        self.transactions = []

    def write(self, batch: Batch) -> None:
        super().write(batch)
        self.transactions.append(len(batch.entries))


def transactions_of_one_flush(path) -> list[int]:
    """Two entries 5 ms apart, to a thread that sleeps."""
    store = Counting(path)
    store.create({})
    pump = Pump(store)
    pump.add(Happened(step=0, kind="first", data={}), urgent=True)
    assert pump.flush()
    time.sleep(0.6)  # by now the next transaction is due at once
    store.transactions.clear()
    for step in (1, 2):
        pump.add(Points(optimizer=0, name="loss", step=step, values=np.ones(1, np.float32)))
        time.sleep(0.005)
    until = time.monotonic() + 5
    while sum(store.transactions) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    pump.close("finished")
    return store.transactions


def test_the_rest_of_a_flush_does_not_wait_for_the_next_transaction(tmp_path):
    # On a machine that is busy 5 ms may become 50: once in five is enough.
    assert any(transactions_of_one_flush(tmp_path / f"{i}.sqlite") == [2] for i in range(5))


class Odd:
    """Numbers that numpy warns about."""

    nbytes = 8

    def __array__(self, dtype=None, copy=None):
        warnings.warn("odd", RuntimeWarning, stacklevel=2)
        return np.ones(1)

    def __len__(self):
        return 1


def test_an_entry_that_warns_where_warnings_are_errors_is_refused_alone():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for sql in TABLES.values():
        connection.execute(sql)
    clerk = Clerk(1 << 20)
    clerk.at(connection, 0)
    batch = Batch(limit=1 << 20)
    batch.entries += [
        Points(optimizer=0, name="odd", step=0, values=Odd()),
        Points(optimizer=0, name="loss", step=0, values=np.ones(1, np.float32)),
    ]
    clerk.write(batch)
    assert clerk.book.refused == 1
    assert connection.execute("SELECT count(*) FROM series").fetchone() == (1,)
    connection.close()


def test_an_objective_beyond_float32_is_large_and_not_infinite(tmp_path):
    writer = Writer.create(tmp_path / "run.rec")
    values = np.full(len(OBJECTIVE_COLUMNS), 1e39)
    values[1] = np.inf
    writer.objective(0, {"operation": "MseLossBackward0"}, values)
    writer.close("finished")
    assert writer.fault is None
    objective = defib.open_run(tmp_path / "run.rec").view.objective
    found = np.array([objective.columns[name][0] for name in OBJECTIVE_COLUMNS])
    assert found[0] == np.finfo(np.float32).max
    assert found[1] == np.inf


def columns(lengths: dict[str, list[int]]) -> Part:
    """A rank's part whose columns of compared steps have these steps; a value is 100 times its step."""
    found = {
        (0, f"pair.{name}"): Series(steps=np.array(steps), values=100.0 * np.array(steps))
        for name, steps in lengths.items()
    }
    return Part(file=Path("rank-0.sqlite"), rank=0, streams=found)


def test_a_kill_between_two_columns_costs_the_last_row_and_no_other():
    steps: dict[str, list[int]] = {name: [3, 8, 20] for name in PAIR_COLUMNS}
    steps[PAIR_COLUMNS[-1]] = [3, 8]
    found = streams.pairs([columns(steps)])[0]
    assert found.steps.tolist() == [3, 8]
    assert all(getattr(found, name).tolist() == [300, 800] for name in PAIR_COLUMNS)


def test_chunks_of_one_length_lost_at_different_places_are_not_put_beside_each_other():
    steps: dict[str, list[int]] = {name: [3, 8] for name in PAIR_COLUMNS}
    steps[PAIR_COLUMNS[0]] = [8, 20]
    found = streams.pairs([columns(steps)])[0]
    assert found.steps.tolist() == [8]
    assert all(getattr(found, name).tolist() == [800] for name in PAIR_COLUMNS)
