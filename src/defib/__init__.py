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
    from defib.api import LiveRun, Run, diagnose, open_run, watch
    from defib.checks import check

    __version__: str

_VERBS = ("LiveRun", "Run", "diagnose", "open_run", "watch")

__all__ = ["LiveRun", "Run", "__version__", "check", "diagnose", "open_run", "watch"]


def __getattr__(name: str) -> object:
    """Fetches a public name on first use.

    Returns:
        The verb, class or version.

    Raises:
        AttributeError: If defib has no such name.
    """
    value: object
    if name in _VERBS:
        import defib.api as verbs

        value = getattr(verbs, name)
    elif name == "check":
        from defib.checks import check as value
    elif name == "__version__":
        from importlib.metadata import version

        value = version("defib")
    else:
        raise AttributeError(f"module 'defib' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, fetched or not."""
    return sorted({*globals(), *__all__})
