"""First code of a process started by ``defib run``: leave no trace, then hand over.

Not part of the package: python imports this file by itself, because its folder
stands first in PYTHONPATH.
"""

import json
import os
import sys


def _hand_over() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    carried = os.environ.pop("DEFIB_LAUNCH", None)
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    if carried is None:
        return
    options = json.loads(carried)
    if options["path"] is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = options["path"]
    try:
        from defib.api import launched

        launched(options)
    except Exception as error:
        print(f"defib: not watching: {type(error).__name__}: {error}", file=sys.stderr)


def _import_the_real_one() -> None:
    """The user's own sitecustomize, which this file stood in front of."""
    ours = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = ours  # the import system, which is just importing us, wants one


_hand_over()
_import_the_real_one()
