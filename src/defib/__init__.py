"""defib finds out why a neural network stopped learning, and proves it.

::

    import defib

    with defib.watch(model, optimizer) as run:
        train(model, optimizer)
        print(run.diagnose().verdict)

Importing this package imports neither torch nor numpy: each public verb is
fetched when it is first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from defib import nn
    from defib.api import Run, diagnose, open_run, prescribe, prognose
    from defib.checks import check, triage
    from defib.comparisons import compare
    from defib.core.errors import DefibError
    from defib.coroner import autopsy
    from defib.exports import export
    from defib.live import LiveRun
    from defib.proofs import certify
    from defib.trials.verb import trial
    from defib.watcher import log, watch

    __version__: str

_HOMES = {
    "DefibError": "defib.core.errors",
    "LiveRun": "defib.live",
    "Run": "defib.api",
    "autopsy": "defib.coroner",
    "certify": "defib.proofs",
    "check": "defib.checks",
    "compare": "defib.comparisons",
    "diagnose": "defib.api",
    "export": "defib.exports",
    "log": "defib.watcher",
    "open_run": "defib.api",
    "prescribe": "defib.api",
    "prognose": "defib.api",
    "triage": "defib.checks",
    "trial": "defib.trials.verb",
    "watch": "defib.watcher",
}
"""The module that each public name comes from; a line here and one above make a verb public."""

__all__ = [
    "DefibError",
    "LiveRun",
    "Run",
    "__version__",
    "autopsy",
    "certify",
    "check",
    "compare",
    "diagnose",
    "export",
    "log",
    "nn",
    "open_run",
    "prescribe",
    "prognose",
    "triage",
    "trial",
    "watch",
]


def __getattr__(name: str) -> object:
    """Fetches a public name on first use.

    Returns:
        The verb, class, version, or the package ``nn``.

    Raises:
        AttributeError: If defib has no such name.
    """
    from importlib import import_module

    value: object
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name == "nn":
        value = import_module("defib.nn")
    elif name == "__version__":
        from importlib.metadata import version

        value = version("defib")
    else:
        raise AttributeError(f"module 'defib' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, fetched or not; not the modules that fetching them has imported."""
    return list(__all__)
