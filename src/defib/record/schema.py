"""The record's layout on disk: names of the files, tables of a rank's file, and their history.

A run is a folder::

    X.rec/
      meta.json        small, written once at the start: format, schema, run, created, job
      rank-00000.db    SQLite, one file a rank (with -wal and -shm while it is written)

Every row carries a checksum over its table's name and all its other columns
(:func:`defib.record.codec.seal`), because SQLite has none of its own: a flipped
bit loses that row and is told, it never becomes a number. Ids count from 1
without gaps, so that a lost row is noticed as well.

There is no pickle. Numbers are little-endian arrays under zlib level 1; all
else is JSON in UTF-8 (lone surrogates kept), non-finite numbers tagged.
"""

import re

FORMAT = "defib-record"
SCHEMA_VERSION = 2
APPLICATION_ID = 0x64656669
"""SQLite's ``application_id`` of our files: "defi" in ASCII."""

HISTORY = {
    1: "0.1.0: tables state, liveness, place, reading, series and event.",
    2: "0.2.0: table exhibit; five rows in liveness.body, where facts say so; rows of reading without a "
    "layout. A record of schema 1 is one without exhibits, with three rows, and has no such rows.",
}
"""What each schema version brought. The reader reads all of them."""

META = "meta.json"
RANK_FILE = re.compile(r"rank-(\d{5})\.db\Z")
OWN_FILE = re.compile(r"(meta\.json|rank-\d{5}\.db(-wal|-shm|-journal)?)\Z")
"""Names that defib itself puts into a record; --force deletes no other."""

TABLES: dict[str, str] = {
    "state": """CREATE TABLE state (
  id INTEGER PRIMARY KEY, -- from 1, without gaps
  kind TEXT NOT NULL,     -- ident (who writes), fact, layers, wirings, optimizer, parameters, ending
  key BLOB NOT NULL,      -- which one of its kind, JSON: fact name, [optimizer, name], number of a list; null
  size INTEGER NOT NULL,  -- bytes of body before compression
  body BLOB NOT NULL,     -- latest value, JSON under zlib
  crc INTEGER NOT NULL    -- checksum of the table's name and the columns above
)""",
    "liveness": """CREATE TABLE liveness (
  id INTEGER PRIMARY KEY, -- from 1, without gaps; one row for each optimizer and path, replaced in place
  optimizer INTEGER NOT NULL, -- whose steps are counted
  path BLOB NOT NULL,     -- the layer's module path, UTF-8
  facts BLOB NOT NULL,    -- JSON: source, steps, last_step, period, batch; since schema 2 rows, lengths
  units INTEGER NOT NULL, -- U
  body BLOB NOT NULL,     -- int32 (rows, U) under zlib: first_alive, last_alive, alive_steps, returns, silent
  crc INTEGER NOT NULL    -- checksum of the table's name and the columns above
)""",
    "place": """CREATE TABLE place (
  id INTEGER PRIMARY KEY, -- from 1, without gaps; what reading.place and a flow's second column refer to
  path BLOB NOT NULL,     -- the site's module path, UTF-8
  call INTEGER NOT NULL,  -- which call of that module within one forward pass, from 0
  signal TEXT NOT NULL,   -- a core.site.Signal
  crc INTEGER NOT NULL    -- checksum of the table's name and the columns above
)""",
    "reading": """CREATE TABLE reading (
  id INTEGER PRIMARY KEY, -- from 1, without gaps; one row for each place and first, replaced as it grows
  place INTEGER NOT NULL, -- place.id
  first INTEGER NOT NULL, -- first sampled step of the window
  last INTEGER NOT NULL,  -- last sampled step of the window
  samples INTEGER NOT NULL, -- Tally.samples
  units INTEGER NOT NULL, -- U
  layout TEXT NOT NULL,   -- exact type of each of Tally.rows(): f float32, u uint32, d float64; "": joined
  body BLOB NOT NULL,     -- those rows one after the other, each (U,), under zlib
  crc INTEGER NOT NULL    -- checksum of the table's name and the columns above
)""",
    "series": """CREATE TABLE series (
  id INTEGER PRIMARY KEY, -- from 1, without gaps; the newest chunk of a series is replaced until it is full
  kind TEXT NOT NULL,     -- stream, norms, objective: step, float32; flow: step, place int32, RMS float64
  key BLOB NOT NULL,      -- JSON: stream [optimizer, name]; flow, objective null; norms key of 'parameters'
  rows INTEGER NOT NULL,  -- entries in this chunk
  width INTEGER NOT NULL, -- numbers an entry: 1, 4 P for norms, OBJECTIVE_COLUMNS for objective
  body BLOB NOT NULL,     -- columns one after the other under zlib; steps as int64 differences
  crc INTEGER NOT NULL    -- checksum of the table's name and the columns above
)""",
    "event": """CREATE TABLE event (
  id INTEGER PRIMARY KEY, -- from 1, without gaps
  time REAL NOT NULL,     -- seconds since 1970, the writer's clock
  step INTEGER NOT NULL,  -- optimiser step at or before which it happened; -1 before the first
  kind TEXT NOT NULL,     -- core.run.Event.kind
  data BLOB NOT NULL,     -- JSON
  crc INTEGER NOT NULL    -- checksum of the table's name and the columns above
)""",
    "exhibit": """CREATE TABLE exhibit (
  id INTEGER PRIMARY KEY, -- from 1, without gaps; one row for each kind, path and step, replaced in place
  kind TEXT NOT NULL,     -- core.run.Exhibit.kind; empty for one that gave way to newer ones
  path BLOB NOT NULL,     -- the layer's module path, UTF-8
  step INTEGER NOT NULL,  -- optimiser step that it belongs to; -1 before the first
  facts BLOB NOT NULL,    -- JSON
  layout BLOB NOT NULL,   -- JSON: name, type (numpy's, f4) and shape of each array
  size INTEGER NOT NULL,  -- bytes of body before compression
  body BLOB NOT NULL,     -- the arrays one after the other, little-endian, under zlib
  crc INTEGER NOT NULL    -- checksum of the table's name and the columns above
)""",
}
"""The tables' definitions, comments included: that is how they stand in ``sqlite_master``."""

SINCE = {"exhibit": 2}
"""Schema version that brought a table; those not named here were there from the first."""

COLUMNS: dict[str, tuple[str, ...]] = {
    table: tuple(line.split()[0] for line in sql.splitlines()[1:-1]) for table, sql in TABLES.items()
}
"""Column names of each table, the checksum last."""


def columns_of(sql: str) -> str:
    """A table's definition without comments and spacing: those may be improved, the columns may not."""
    return "".join(re.sub(r"--.*", "", sql).split())


def rank_file(rank: int) -> str:
    """File name of a rank's part of the record."""
    return f"rank-{rank:05d}.db"
