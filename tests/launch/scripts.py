"""The scripts that are run both ways, by what is special about them."""

import os

from launching import TRAIN, Script

FACES = """
import json, os, signal, sys, threading
def handlers():
    return {s.name: repr(signal.getsignal(s)) for s in signal.valid_signals() if hasattr(s, "name")}
print(json.dumps({
    "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "flags": repr(sys.flags),
    "warnoptions": sys.warnoptions, "xoptions": sys._xoptions, "name": __name__, "spec": repr(__spec__),
    "file": __file__, "main": sys.modules["__main__"].__file__, "environ": dict(os.environ),
    "order": list(os.environ), "sitecustomize": repr(sys.modules.get("sitecustomize")),
    "hook": repr(sys.excepthook), "threads": repr(threading.enumerate()), "cwd": os.getcwd(),
    "limit": sys.getrecursionlimit(), "cache": sorted(sys.path_importer_cache), "handlers": handlers(),
    "mask": repr(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "package": repr(__package__),
    "globals": sorted(globals()), "hooks": [repr(sys.displayhook), repr(sys.unraisablehook)],
    "modules": sorted(sys.modules.keys() - {"atexit"}),
    "encoding": [sys.stdout.encoding, sys.stdout.line_buffering],
    "fds": sorted(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None,
}, indent=1))
"""

PLAIN = {
    "faces": Script(text=FACES, arguments=("a", "--b", "c d")),
    "own options": Script(text=FACES, arguments=("-o", "x", "-q", "-m", "y", "--every", "--", "--help")),
    "warnings are errors": Script(
        text=FACES + "import warnings; warnings.warn('x')", interpreter=("-W", "error")
    ),
    "optimised": Script(text=FACES + "assert False", interpreter=("-O",)),
    "unbuffered": Script(text=FACES, interpreter=("-u",)),
    "options in one word": Script(text=FACES, interpreter=("-uOX", "dev", "-Wdefault")),
    "safe path by option": Script(text=FACES, interpreter=("-P",)),
    "safe path by variable": Script(text=FACES, environment={"PYTHONSAFEPATH": "1"}),
    "warnings by variable": Script(text=FACES, environment={"PYTHONWARNINGS": "error::UserWarning"}),
    "own PYTHONPATH": Script(text=FACES, environment={"PYTHONPATH": "lib:/nowhere"}),
    "empty PYTHONPATH": Script(text=FACES, environment={"PYTHONPATH": ""}),
    "own sitecustomize": Script(
        text=FACES + "print(sys.modules['sitecustomize'].MINE)",
        environment={"PYTHONPATH": "lib"},
        files={"lib/sitecustomize.py": "MINE = 'mine'"},
    ),
    "module in a package": Script(
        target=("-m", "pkg.sub.train"),
        arguments=("-m", "x"),
        files={
            "pkg/__init__.py": "",
            "pkg/sub/__init__.py": "",
            "pkg/sub/train.py": FACES + "print(__package__)",
        },
    ),
    "package with a main": Script(
        target=("-m", "pkg"), files={"pkg/__init__.py": "", "pkg/__main__.py": FACES}
    ),
    "module that fails": Script(
        target=("-m", "pkg.train"),
        files={"pkg/__init__.py": "", "pkg/train.py": "import nothing_of_the_kind"},
    ),
    "folder with a main": Script(target=("app",), files={"app/__main__.py": FACES}),
    "script in a folder": Script(
        target=("app/train.py",),
        files={"app/train.py": FACES + "import beside", "app/beside.py": "print('beside')"},
    ),
    "neighbours that shadow the library": Script(
        text="import queue, record, difflib, code; print(queue.W, record.W, difflib.W, code.W)",
        files={
            f"{name}.py": "W = 'mine'\nprint(__name__)" for name in ("queue", "record", "difflib", "code")
        },
    ),
    "reads stdin": Script(text="import sys; print(sys.stdin.read()[::-1])", stdin="hello\n"),
    "exit 3": Script(text="import sys; print('x'); sys.exit(3)"),
    "exit with words": Script(text="import sys; sys.exit('bye')"),
    "uncaught": Script(text="def f():\n    return 1 / 0\n\nf()\n"),
    "chained": Script(text="try:\n    {}['a']\nexcept KeyError as e:\n    raise RuntimeError('b') from e\n"),
    "own excepthook": Script(text="import sys; sys.excepthook = lambda *a: print('hook', a[0]); 1 / 0"),
    "syntax error": Script(text="print('never')\nif True print(1)\n"),
    "interrupted": Script(
        text="import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(5)"
    ),
    "terminated": Script(
        text="import os, signal; os.kill(os.getpid(), signal.SIGTERM); import time; time.sleep(5)"
    ),
    "killed": Script(text="import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    "aborted": Script(text="import os; os.abort()"),
    "hard exit": Script(text="import os; print('x', flush=True); os._exit(7)"),
    "execs": Script(
        text="import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import sys; print(sys.path)'])"
    ),
    "exit handlers in order": Script(
        text="import atexit\nfor i in 'abc': atexit.register(print, i, flush=True)\nprint('end', flush=True)"
    ),
    "closes stdout": Script(text="import sys; print('x'); sys.stdout.close()"),
    "closes stderr": Script(text="import os, sys; print('x'); sys.stderr.close(); os.close(2)"),
    "no streams": Script(text="import sys; sys.stdout = sys.stderr = None"),
    "forks": Script(text="import os, sys\nif os.fork() == 0:\n    sys.exit(5)\nprint(os.wait()[1] >> 8)"),
    "child sees nothing": Script(
        text="import os, subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import os, sys;"
        " print(sys.path, sys.meta_path, sorted(os.environ.items()))'])"
    ),
    "many long arguments": Script(text="import sys; print(len(sys.argv))", arguments=("y" * 1000,) * 1000),
    "argument that is no text": Script(
        text="import sys; print(ascii(sys.argv))", arguments=(os.fsdecode(b"a\xff"),)
    ),
    "deep recursion": Script(text="import sys\ndef f(n):\n    return f(n + 1)\nf(0)\n"),
}


TRAINING = {
    "trains": Script(text=TRAIN + "train(30); print(model[0].weight.tolist())"),
    "lets torch be looked for first": Script(
        text="import importlib.util; assert importlib.util.find_spec('torch')" + TRAIN + "train(3)"
    ),
    "looks the same after torch": Script(
        text="import torch"
        + FACES.replace(
            '"modules"', '"meta": repr(sys.meta_path), "loader": repr(vars(torch.__loader__)), "none"'
        )
        .replace('"threads": repr(threading.enumerate()), ', "")
        .replace('sorted(sys.modules.keys() - {"atexit"})', "0")
        .replace('sorted(os.listdir("/proc/self/fd"))', "0")
        .replace("sorted(sys.path_importer_cache)", "0")
    ),
    "fails in training": Script(text=TRAIN + "train(2)\nclass Mine(Exception): ...\ntrain(Mine('x'))\n"),
    "fails in backward": Script(text=TRAIN + "model(torch.randn(2, 4)).backward()\n"),
    "exits in mid-training": Script(text=TRAIN + "train(3); sys.exit(3)"),
    "interrupted in training": Script(
        text=TRAIN + "train(3)\nimport signal\nos.kill(os.getpid(), signal.SIGINT)\ntrain(9)\n"
    ),
    "hard exit in training": Script(text=TRAIN + "train(3)\nos._exit(7)"),
    "terminated in training": Script(
        text=TRAIN + "train(3)\nimport signal\nos.kill(os.getpid(), signal.SIGTERM)\ntrain(9**9)"
    ),
    "aborted in training": Script(text=TRAIN + "train(3)\nos.abort()"),
    "trains without an optimizer": Script(
        text=TRAIN + "for _ in range(3):\n    model(torch.ones(2, 4)).sum().backward()\n"
        "    with torch.no_grad():\n        for p in model.parameters():\n            p -= 0.1 * p.grad\n"
        "print(model[0].bias.tolist())"
    ),
    "imports torch only": Script(text="import torch; print(torch.__name__)"),
    "warnings are errors": Script(text=TRAIN + "train(5); print('trained')", interpreter=("-W", "error")),
    "neighbours that shadow the library": Script(
        text=TRAIN + "train(3); import record, sqlite3; print(record.WHOSE, sqlite3.__name__)",
        files={
            f"{n}.py": "WHOSE = 'mine'\nprint('imported', __name__)"
            for n in ("record", "tomllib", "core", "capture")
        },
    ),
    "saves and copies": Script(
        text=TRAIN
        + "train(3)\nimport copy, io, pickle\npickle.dumps(model); copy.deepcopy((model, optimizer))\n"
        "torch.save(model, io.BytesIO()); torch.save(optimizer.state_dict(), io.BytesIO())\n"
        "print([len(vars(m)) for m in model.modules()], sorted(vars(optimizer)))"
    ),
}
