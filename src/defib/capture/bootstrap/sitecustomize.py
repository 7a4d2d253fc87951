"""First code of a process that ``defib run`` became: leave no trace, then hand over.

Not part of the package: python imports this file by itself, because its folder
stands first in PYTHONPATH. It imports nothing that python has not imported
already: a module loaded here would hide the user's own of that name (queue.py,
random.py beside the script). All else is loaded when torch has been.
"""

import atexit
import os
import sys


class _UntilTorch:
    """Stands in front of the real finders until torch has been imported; then it is gone.

    Looking torch up without importing it (``importlib.util.find_spec``, as
    transformers does) gives the real answer and changes nothing.
    """

    def __init__(self, begin):
        self._begin = begin

    def find_spec(self, fullname, path=None, target=None):
        """What python calls for every import.

        Returns:
            The real finders' answer for torch, with a loader that tells us when it is done.
        """
        if fullname != "torch":
            return None
        finders = [f.find_spec for f in sys.meta_path if f is not self and hasattr(f, "find_spec")]
        spec = next((found for find in finders if (found := find(fullname, path, target))), None)
        loader = getattr(spec, "loader", None)
        if hasattr(loader, "exec_module"):
            loader.exec_module = self._then_begin(loader)
        return spec

    def _then_begin(self, loader):
        execute = loader.exec_module

        def exec_module(module):
            del loader.exec_module  # the instance's own attribute: the class's shows again
            sys.meta_path.remove(self)
            try:
                execute(module)
            except BaseException:
                sys.meta_path.insert(0, self)  # the script may try again
                raise
            self._begin()

        return exec_module


class _Launch:
    """The watch of this process: begins with torch, ends with the script."""

    def __init__(self, carried, library):
        self._carried = carried
        self._library = library
        self._owner = os.getpid()
        self._live = None
        self._failed = False

    def begin(self):
        """Torch is there. A forked child is not watched."""
        if os.getpid() == self._owner and self._live is None:
            self._live = self._guarded("launched", self._carried)

    def end(self):
        """The script's own exit handlers have run: ours was the first to be registered."""
        if os.getpid() == self._owner and not self._failed:
            self._guarded("concluded", self._carried, self._live)
            _keep_interrupt()

    def _guarded(self, verb, *arguments):
        """Calls a function of defib.script; its imports never find the script's neighbours first.

        Returns:
            What that returned; None if it failed.
        """
        beside = sys.path[:]
        try:
            sys.path[:0] = self._library
            from defib import script

            return getattr(script, verb)(*arguments)
        except Exception as error:  # noqa: BLE001 - the script goes on whatever happens to us
            self._failed = True
            _complain(error)
            return None
        finally:
            if sys.path[len(self._library) :] == beside:
                del sys.path[: len(self._library)]


def _complain(error):
    """One line; the type is ours to know, unless the error is not one of ours."""
    kind = "" if type(error).__module__.startswith("defib.") else f"{type(error).__name__}: "
    try:
        print(f"defib: not watching: {kind}{error}", file=sys.stderr)
    except Exception:  # noqa: BLE001 - a closed stderr
        return


def _keep_interrupt():
    """Python ends a script that Ctrl-C ended by that signal, unless an exit handler ran exec or eval.

    Ours does (the standard library's dataclasses do), so what it forgot is said again.
    """
    interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    if interrupted and sys.modules["__main__"].__spec__ is None:  # with -m it never does so
        try:
            exec("raise KeyboardInterrupt")
        except KeyboardInterrupt:
            return


def _hand_over():
    here = os.path.dirname(__file__)
    carried = os.environ.pop("DEFIB_LAUNCH", None)
    before = os.environ.pop("DEFIB_LAUNCH_PATH", None)
    sys.path[:] = [entry for entry in sys.path if entry != here]
    sys.path_importer_cache.pop(here, None)
    if carried is None:
        return
    if before is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = before
    home = os.path.dirname(os.path.dirname(os.path.dirname(here)))
    launch = _Launch(carried, [*sys.path, *([] if home in sys.path else [home])])
    atexit.register(launch.end)
    if "torch" in sys.modules:  # a .pth file imported it
        launch.begin()
    else:
        sys.meta_path.insert(0, _UntilTorch(launch.begin))


def _import_the_real_one():
    """The user's own sitecustomize, which this file stood in front of.

    If there is none, the ImportError goes on to ``site``, which ignores it, and
    sys.modules is as it would have been without us.
    """
    del sys.modules["sitecustomize"]
    import sitecustomize  # noqa: F401


_hand_over()
_import_the_real_one()
