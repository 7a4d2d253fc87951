"""`defib run script.py` is `python script.py`: same exit code, same stdout, same stderr, byte for byte (R1, R3)."""

import os
import signal
import subprocess
import sys

import pytest
from launching import TRAIN, Script, both, environment

import defib

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
    "modules": sorted(sys.modules.keys() - {"atexit"}), "encoding": [sys.stdout.encoding, sys.stdout.line_buffering],
    "fds": sorted(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None,
}, indent=1))
"""

PLAIN = {
    "faces": Script(text=FACES, arguments=("a", "--b", "c d")),
    "own options": Script(text=FACES, arguments=("-o", "x", "-q", "-m", "y", "--every", "--", "--help")),
    "warnings are errors": Script(text=FACES + "import warnings; warnings.warn('x')", interpreter=("-W", "error")),
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
        files={"lib/sitecustomize.py": "MINE = 'mine'; print('customised')"},
    ),
    "own sitecustomize that breaks": Script(
        text=FACES,
        environment={"PYTHONPATH": "lib"},
        files={"lib/sitecustomize.py": "raise ValueError('broken')"},
    ),
    "module in a package": Script(
        target=("-m", "pkg.sub.train"),
        arguments=("-m", "x"),
        files={"pkg/__init__.py": "", "pkg/sub/__init__.py": "", "pkg/sub/train.py": FACES + "print(__package__)"},
    ),
    "package with a main": Script(
        target=("-m", "pkg"), files={"pkg/__init__.py": "", "pkg/__main__.py": FACES}
    ),
    "module that fails": Script(
        target=("-m", "pkg.train"), files={"pkg/__init__.py": "", "pkg/train.py": "import nothing_of_the_kind"}
    ),
    "folder with a main": Script(target=("app",), files={"app/__main__.py": FACES}),
    "script in a folder": Script(
        target=("app/train.py",), files={"app/train.py": FACES + "import beside", "app/beside.py": "print('beside')"}
    ),
    "neighbours that shadow the library": Script(
        text="import queue, json, record, difflib, typing; print(queue.WHOSE, json.WHOSE, record.WHOSE, difflib.WHOSE)",
        files={f"{name}.py": "WHOSE = 'mine'" for name in ("queue", "json", "record", "difflib")},
    ),
    "reads stdin": Script(text="import sys; print(sys.stdin.read()[::-1])", stdin="hello\n"),
    "exit 3": Script(text="import sys; print('x'); sys.exit(3)"),
    "exit with words": Script(text="import sys; sys.exit('bye')"),
    "uncaught": Script(text="def f():\n    return 1 / 0\n\nf()\n"),
    "chained": Script(text="try:\n    {}['a']\nexcept KeyError as e:\n    raise RuntimeError('b') from e\n"),
    "own excepthook": Script(text="import sys; sys.excepthook = lambda *a: print('hook', a[0]); 1 / 0"),
    "syntax error": Script(text="print('never')\nif True print(1)\n"),
    "interrupted": Script(text="import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(5)"),
    "terminated": Script(text="import os, signal; os.kill(os.getpid(), signal.SIGTERM); import time; time.sleep(5)"),
    "killed": Script(text="import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    "aborted": Script(text="import os; os.abort()"),
    "hard exit": Script(text="import os; print('x', flush=True); os._exit(7)"),
    "execs": Script(text="import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import sys; print(sys.path)'])"),
    "exit handlers in order": Script(
        text="import atexit\nfor i in range(3): atexit.register(print, i, flush=True)\nprint('end', flush=True)"
    ),
    "closes stdout": Script(text="import sys; print('x'); sys.stdout.close()"),
    "closes stderr": Script(text="import os, sys; print('x'); sys.stderr.close(); os.close(2)"),
    "no streams": Script(text="import sys; sys.stdout = sys.stderr = None"),
    "forks": Script(
        text="import os, sys\nif os.fork() == 0:\n    sys.exit(5)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))"
    ),
    "child sees nothing": Script(
        text="import os, subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import os, sys; print(sys.path,"
        " sys.meta_path, sorted(os.environ.items()))'])"
    ),
    "many long arguments": Script(text="import sys; print(len(sys.argv))", arguments=("y" * 1000,) * 1000),
    "argument that is no text": Script(text="import sys; print(ascii(sys.argv))", arguments=(os.fsdecode(b"a\xff"),)),
    "deep recursion": Script(text="import sys\ndef f(n):\n    return f(n + 1)\nf(0)\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_a_script_without_torch_cannot_tell_the_difference(name, folder):
    bare, watched = both(PLAIN[name], folder, "-q")
    assert watched == bare


TRAINING = {
    "trains": Script(text=TRAIN + "train(30); print(model[0].weight.tolist())"),
    "lets torch be looked for first": Script(
        text="import importlib.util; assert importlib.util.find_spec('torch')" + TRAIN + "train(3)"
    ),
    "looks the same after torch": Script(
        text="import torch" + FACES.replace('"modules"', '"meta": repr(sys.meta_path), "loader": repr(vars(torch.__loader__)), "none"')
        .replace('"threads": repr(threading.enumerate()), ', "").replace("sorted(sys.modules.keys() - {\"atexit\"})", "0")
        .replace('sorted(os.listdir("/proc/self/fd"))', "0")
    ),
    "fails in training": Script(text=TRAIN + "train(2)\nclass Mine(Exception): ...\ntrain(Mine('x'))\n"),
    "fails in backward": Script(text=TRAIN + "model(torch.randn(2, 4)).backward()\n"),
    "exits in mid-training": Script(text=TRAIN + "train(3); sys.exit(3)"),
    "interrupted in training": Script(text=TRAIN + "train(3)\nimport signal\nos.kill(os.getpid(), signal.SIGINT)\ntrain(9)\n"),
    "hard exit in training": Script(text=TRAIN + "train(3)\nos._exit(7)"),
    "terminated in training": Script(text=TRAIN + "train(3)\nimport signal\nos.kill(os.getpid(), signal.SIGTERM)\ntrain(9**9)"),
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
        files={f"{n}.py": "WHOSE = 'mine'\nprint('imported', __name__)" for n in ("record", "tomllib", "core", "capture")},
    ),
    "saves and copies": Script(
        text=TRAIN + "train(3)\nimport copy, io, pickle\npickle.dumps(model); copy.deepcopy((model, optimizer))\n"
        "torch.save(model, io.BytesIO()); torch.save(optimizer.state_dict(), io.BytesIO())\n"
        "print([len(vars(m)) for m in model.modules()], sorted(vars(optimizer)))"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINING)
def test_a_script_with_torch_cannot_tell_the_difference(name, folder):
    bare, watched = both(TRAINING[name], folder, "-q")
    assert watched == bare
    assert defib.open_run(folder.parent / "watched.rec").view is not None


def test_the_training_under_test_is_seen_at_all(folder):
    both(TRAINING["lets torch be looked for first"], folder, "-q")
    view = defib.open_run(folder.parent / "watched.rec").view
    assert sum(optimizer.steps for optimizer in view.optimizers) == 3


def test_what_we_say_comes_after_all_that_the_script_says(folder):
    text = TRAIN + "import atexit\natexit.register(print, 'last words', file=sys.stderr)\ntrain(3)\n1 / 0\n"
    bare, watched = both(Script(text=text), folder)
    assert watched.code == bare.code == 1
    assert watched.out == bare.out
    assert watched.err.startswith(bare.err + "\ndefib: ")
    assert "ZeroDivisionError" in bare.err
    assert str(folder.parent / "watched.rec") in watched.err


def test_training_in_an_exit_handler_is_watched_too(folder):
    text = "import atexit\natexit.register(lambda: train(4))" + TRAIN + "train(3)"
    both(Script(text=text), folder, "-q")
    view = defib.open_run(folder.parent / "watched.rec").view
    assert sum(optimizer.steps for optimizer in view.optimizers) == 7


@pytest.mark.parametrize(
    ("ending", "status"),
    [("", "finished"), ("sys.exit(3)", "finished"), ("1 / 0", "failed: ZeroDivisionError"),
     ("raise KeyboardInterrupt", "interrupted"), ("os._exit(0)", "interrupted")],
)  # fmt: skip
def test_the_record_tells_how_the_script_ended(ending, status, folder):
    script = Script(text=TRAIN + f"train(3)\n{ending}\n")
    script.write(folder)
    both(script, folder, "-q")
    assert defib.open_run(folder.parent / "watched.rec").view.facts["status"] == status


def test_the_record_stays_where_it_was_asked_for_when_the_script_goes_elsewhere(folder):
    text = TRAIN + "os.makedirs('outputs/today'); os.chdir('outputs/today'); train(3)"
    Script(text=text).write(folder)
    command = [sys.executable, "-m", "defib", "run", "-q", "-o", "here.rec", "script.py"]
    assert subprocess.run(command, cwd=folder, env=environment(), check=False).returncode == 0
    assert (folder / "here.rec" / "meta.json").exists()
    assert os.listdir(folder / "outputs" / "today") == []


def test_a_double_dash_ends_our_options(folder):
    Script(text="import sys; print(sys.argv)").write(folder)
    command = [sys.executable, "-m", "defib", "run", "-q", "--", "script.py", "--", "-o"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, check=False)
    assert done.stdout == b"['script.py', '--', '-o']\n"


def test_the_installed_command_passes_no_option_on_that_was_not_given(folder):
    Script(text=FACES).write(folder)
    ours = os.path.join(os.path.dirname(sys.executable), "defib")
    extra = environment({"PYTHONWARNINGS": "error"})
    bare, watched = (
        subprocess.run([*words, "script.py"], cwd=folder, env=extra, capture_output=True, check=False)
        for words in ([sys.executable], [ours, "run", "-q"])
    )
    assert (watched.returncode, watched.stdout, watched.stderr) == (0, bare.stdout, b"")


def test_ctrl_c_at_the_terminal_reaches_the_script_alone(folder):
    text = TRAIN + "print('on', flush=True)\ntry:\n    train(9**9)\nexcept KeyboardInterrupt:\n    print('stopped')\n"
    Script(text=text).write(folder)
    command = [sys.executable, "-m", "defib", "run", "-q", "script.py"]
    process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, b"stopped\n", b"")


def test_the_only_thing_to_be_seen_is_one_daemon_thread(folder):
    text = TRAIN + "train(3)\nimport threading\nprint([(t.name, t.daemon) for t in threading.enumerate()])"
    bare, watched = both(Script(text=text), folder, "-q")
    assert bare.out == "[('MainThread', False)]\n"
    assert watched.out in {bare.out, "[('MainThread', False), ('defib-record', True)]\n"}
