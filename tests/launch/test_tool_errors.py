"""What defib cannot do it says in one line with its own exit code, before the script has started (R1)."""

import os
import shutil
import subprocess
import sys

import pytest
from launching import TRAIN, Script, defib, environment, run


@pytest.fixture
def script(folder):
    Script(text="open('started', 'w').close()\nimport sys\nsys.exit(3)").write(folder)
    return folder


def refused(ran, code, *words):
    assert ran.code == code, ran
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("defib: ")
    for word in words:
        assert word in ran.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run"], 64, "no script given"),
        (["run", "nowhere.py"], 66, "nowhere.py"),
        (["run", "-m", "no_such_module"], 66, "no_such_module"),
        (["run", "."], 66, "__main__"),
        (["run", "--budget", "2", "script.py"], 64, "2"),
        (["run", "--every", "0", "script.py"], 64, "0"),
        (["run", "--wrong", "script.py"], 64, "--wrong"),
        (["run", "-o", "", "script.py"], 64, "-o"),
    ],
)
def test_a_command_that_cannot_be_understood(words, code, said, script):
    refused(defib(*words, folder=script), code, said)
    assert not (script / "started").exists()


def test_a_script_that_runs_into_none_of_this_does_start(script):
    assert defib("run", "-q", "script.py", folder=script).code == 3
    assert (script / "started").exists()


@pytest.mark.parametrize("what", ["record", "file", "folder", "link to nothing"])
def test_an_output_that_exists_is_left_alone(what, script):
    output = script / "out.rec"
    if what == "record":
        assert defib("run", "-q", "-o", "out.rec", "script.py", folder=script).code == 3
        (script / "started").unlink()
    elif what == "file":
        output.write_text("mine")
    elif what == "folder":
        output.mkdir()
        (output / "mine").touch()
    else:
        output.symlink_to("nowhere")
    before = sorted(os.listdir(output)) if output.is_dir() else os.lstat(output).st_mtime_ns
    refused(defib("run", "-o", "out.rec", "script.py", folder=script), 73, "out.rec", "-o")
    assert before == (sorted(os.listdir(output)) if output.is_dir() else os.lstat(output).st_mtime_ns)
    assert not (script / "started").exists()


def test_force_replaces_a_record(script):
    for _ in range(2):
        assert defib("run", "-q", "-f", "-o", "out.rec", "script.py", folder=script).code == 3


@pytest.mark.parametrize("what", ["file", "folder"])
def test_force_does_not_replace_what_is_no_record(what, script):
    if what == "file":
        (script / "out.rec").write_text("mine")
    else:
        (script / "out.rec").mkdir()
        (script / "out.rec" / "mine").touch()
    refused(defib("run", "-f", "-o", "out.rec", "script.py", folder=script), 73, "out.rec", "-o")
    assert (script / "out.rec").is_file() or os.listdir(script / "out.rec") == ["mine"]
    assert not (script / "started").exists()


def test_a_parent_that_is_a_file(script):
    (script / "file").touch()
    refused(defib("run", "-o", "file/out.rec", "script.py", folder=script), 73, "file/out.rec")
    assert not (script / "started").exists()


def test_a_name_that_is_too_long(script):
    refused(defib("run", "-o", "x" * 300, "script.py", folder=script), 73, "-o")
    assert not (script / "started").exists()


def test_a_folder_that_nobody_may_write_to(script):
    if os.geteuid() == 0:
        place = "/proc/defib"  # root may write everywhere else
    else:
        (script / "locked").mkdir(mode=0o500)
        place = "locked/out.rec"
    refused(defib("run", "-o", place, "script.py", folder=script), 73, place)
    assert not (script / "started").exists()


def test_python_that_ignores_its_environment(script):
    ran = run([sys.executable, "-E", "-m", "defib", "run", "script.py"], script)
    refused(ran, 69, "-E")
    assert not (script / "started").exists()


def test_a_current_folder_that_is_gone(script):
    gone = script / "gone"
    gone.mkdir()
    there = f"cd {gone} && rmdir {gone} && exec {sys.executable} -P -m defib run {script}/script.py"
    ran = run(["sh", "-c", there], script)
    refused(ran, 69, "folder")


def fill(path):
    """Writes until the disk takes not a byte more."""
    with open(path, "wb", buffering=0) as file:
        size = 65536
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB, where one can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=256k", "defib-test", str(place)]
    if (
        mount is None
        or umount is None
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run([umount, "-l", str(place)], check=True)


def test_a_disk_that_is_full_from_the_start(script, small_disk):
    fill(small_disk / "filler")
    Script(text=TRAIN + "train(30); print(model[0].bias.tolist()); sys.exit(3)").write(script)
    bare = run([sys.executable, "script.py"], script)
    ran = defib("run", "-q", "-o", str(small_disk / "out.rec"), "script.py", folder=script)
    if ran.code == 73:  # seen before the start
        refused(ran, 73, "out.rec")
    else:
        assert (ran.code, ran.out) == (bare.code, bare.out)
        refused_line = ran.err.splitlines()
        assert len(refused_line) == 1
        assert refused_line[0].startswith("defib: not watching: ")
        assert "space" in refused_line[0]


FILLS = (
    TRAIN
    + """
train(20)
import time
with open(os.environ["FILLER"], "wb", buffering=0) as filler:
    size = 65536
    while size:
        try:
            filler.write(b"x" * size)
        except OSError:
            size //= 2
for _ in range(30):
    train(20)
    time.sleep(0.1)
print(model[0].bias.tolist())
sys.exit(3)
"""
)


def test_a_disk_that_fills_in_mid_run_costs_the_record_and_not_the_run(folder, small_disk):
    Script(text=FILLS).write(folder)
    ran = run(
        [
            sys.executable,
            "-m",
            "defib",
            "run",
            "-q",
            "--every",
            "1",
            "-o",
            str(small_disk / "out.rec"),
            "script.py",
        ],
        folder,
        {"FILLER": str(small_disk / "filler")},
    )
    assert ran.code == 3
    assert ran.out.startswith("[")
    assert ran.err.count("\n") == 1
    assert "not complete" in ran.err
    read = defib("diagnose", str(small_disk / "out.rec"), folder=folder)
    assert "Traceback" not in read.err + read.out


def test_a_limit_on_file_sizes_costs_the_record_and_not_the_run(folder):
    text = TRAIN + "train(300); print(model[0].bias.tolist()); sys.exit(3)"
    Script(text=text).write(folder)
    command = f"ulimit -f 64; exec {sys.executable} -m defib run -q --every 1 -o out.rec script.py"
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment(), capture_output=True, check=False
    )
    bare = run([sys.executable, "script.py"], folder)
    assert (done.returncode, done.stdout.decode()) == (bare.code, bare.out) == (3, bare.out)
    assert done.stderr.count(b"\n") <= 1
