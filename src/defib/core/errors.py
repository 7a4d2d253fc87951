"""Every exception that defib raises on purpose, drawn as a tree.

::

    DefibError                 70  internal
     +-- UsageError            64  usage            the command or call cannot be understood
     +-- NotFound              66  not-found        no such script, record, rule or page
     +-- RecordError           65  record           the record cannot be read
     |    +-- NotARecord       65  not-a-record     the path holds something else
     |    +-- RecordDamaged    65  record-damaged   truncated or altered bytes
     |    +-- RecordTooNew     65  record-too-new   written by a newer defib
     +-- OutputError           73  output           the record cannot be created there
     +-- EnvironmentProblem    69  environment      python or a package here cannot do this
     +-- Refused               77  refused          a treatment cannot be done safely here

Each has a ``slug`` (its page in the docs) and an ``exit_code`` (after BSD's
``sysexits.h``). A script's own exit code is never one that defib chose.
"""


class DefibError(Exception):
    """Base of all: one line that says what is wrong, where, and the way out."""

    slug = "internal"
    exit_code = 70


class UsageError(DefibError):
    """The command or the call cannot be understood."""

    slug = "usage"
    exit_code = 64


class NotFound(DefibError):
    """There is no such script, record, rule or page."""

    slug = "not-found"
    exit_code = 66


class RecordError(DefibError):
    """The record cannot be read."""

    slug = "record"
    exit_code = 65


class NotARecord(RecordError):
    """The path exists and holds something else."""

    slug = "not-a-record"


class RecordDamaged(RecordError):
    """The record's bytes are truncated or altered."""

    slug = "record-damaged"


class RecordTooNew(RecordError):
    """The record was written by a newer defib."""

    slug = "record-too-new"


class OutputError(DefibError):
    """The record cannot be created at the place asked for."""

    slug = "output"
    exit_code = 73


class EnvironmentProblem(DefibError):
    """This python, or a package in it, cannot do what was asked."""

    slug = "environment"
    exit_code = 69


class Refused(DefibError):
    """A treatment cannot be done safely here; nothing was changed."""

    slug = "refused"
    exit_code = 77
