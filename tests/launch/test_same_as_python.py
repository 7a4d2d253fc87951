"""`defib run script.py` is `python script.py`: exit code, stdout and stderr, byte for byte (R1, R3)."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launching import TRAIN, Script, both, environment, run
from scripts import FACES, PLAIN, TRAINING

import defib


@pytest.mark.parametrize("name", PLAIN)
def test_a_script_without_torch_cannot_tell_the_difference(name, folder):
    bare, watched = both(PLAIN[name], folder, "-q")
    assert watched == bare


def test_a_sitecustomize_that_breaks_breaks_as_it_did(folder):
    breaking = {"lib/sitecustomize.py": "raise ValueError('broken')"}
    bare, watched = both(Script(text=FACES, environment={"PYTHONPATH": "lib"}, files=breaking), folder, "-q")
    assert (watched.code, watched.out) == (bare.code, bare.out)
    assert "ValueError: broken" in bare.err
    assert watched.err == bare.err * 2  # once from the python that runs defib


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
    assert str(folder.parent / "watched.rec") in watched.err.replace("\n          ", "")  # lines are folded


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
    interpreter = Path(ours).read_text().splitlines()[0].removeprefix("#!")
    bare, watched = (
        run([*words, "script.py"], folder, {"PYTHONWARNINGS": "error"})
        for words in ([interpreter], [ours, "run", "-q"])
    )
    assert watched == bare
    assert watched.code == 0


def test_ctrl_c_at_the_terminal_reaches_the_script_alone(folder):
    text = (
        TRAIN
        + "try:\n    print('on', flush=True)\n    train(9**9)\n"
        + "except KeyboardInterrupt:\n    print('stopped')\n"
    )
    Script(text=text).write(folder)
    command = [sys.executable, "-m", "defib", "run", "-q", "script.py"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
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
