"""The commands, each as a real process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from defib.cli.environment import TORCH_BELOW, TORCH_FROM, supported
from defib.core.errors import RecordDamaged, UsageError
from defib.report.pages import error_classes

NO_TORCH = [
    ("--help",),
    ("--version",),
    ("run", "--help"),
    ("rules",),
    ("explain", "dead-unit"),
    ("explain", "record-damaged"),
    ("diagnose", "RECORD"),
    ("diagnose", "RECORD", "--json"),
]

LOOK = """
import sys
from defib.cli import main
code = main(sys.argv[1:])
print("heavy:", *[m for m in ("torch", "rich", "sklearn") if m in sys.modules], file=sys.stderr)
sys.exit(code)
"""


def heavy_modules(code: str, words: tuple[str, ...], environ: dict[str, str]) -> list[str]:
    """Heavy modules that were in memory when the code ended."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env=environ, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("words", NO_TORCH, ids=" ".join)
def test_torch_stays_out(words, record, clean):
    filled = tuple(str(record) if word == "RECORD" else word for word in words)
    assert heavy_modules(LOOK, filled, clean) == []


def test_the_test_above_can_fail(clean):
    assert heavy_modules("import torch\n" + LOOK, ("--help",), clean) == ["torch"]


def test_importing_defib_imports_nothing_heavy(clean):
    code = (
        "import sys, defib\n"
        "print(defib.__all__, sorted(dir(defib)) != [])\n"
        "names = ('torch', 'numpy', 'scipy', 'rich', 'argparse', 'sqlite3')\n"
        "print('heavy:', *[m for m in names if m in sys.modules], file=sys.stderr)\n"
    )
    assert heavy_modules(code, (), clean) == []


def test_completion_offers_the_public_names_and_no_module_that_they_imported():
    import defib

    assert callable(defib.diagnose)  # imports defib.api, which is not offered
    offered = dir(defib)
    assert sorted(offered) == sorted(defib.__all__)
    assert all(getattr(defib, name) is not None for name in offered)


def test_an_unknown_name_is_an_attribute_error():
    import defib

    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = defib.nope


def test_help_takes_little_time(clean):
    """Best of five, in CPU time: other work on this machine must not fail it."""
    code = (
        "import os, subprocess, sys\n"
        "def once():\n"
        "    before = os.times()\n"
        "    subprocess.run([sys.executable, '-m', 'defib', '--help'], stdout=subprocess.DEVNULL)\n"
        "    after = os.times()\n"
        "    return (after.children_user - before.children_user"
        " + after.children_system - before.children_system)\n"
        "print(min(once() for _ in range(5)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean, check=True)
    assert float(done.stdout) < 0.15


def test_the_version_is_the_package_s(defib):
    from importlib.metadata import version

    done = defib("--version")
    assert (done.returncode, done.stdout) == (0, f"defib {version('defib')}\n")


def test_help_lists_every_command(defib):
    done = defib("--help")
    assert done.returncode == 0
    for name in ("run", "diagnose", "explain", "rules", "doctor"):
        assert f"\n    {name} " in done.stdout
        page = defib(name, "--help")
        assert page.returncode == 0
        assert page.stdout.startswith(f"usage: defib {name}")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 64, "no command given"),
        (("nonsense",), 64, "no such command: nonsense"),
        (("diagnos", "x"), 64, "did you mean `defib diagnose`?"),
        (("--nope",), 64, "unrecognized arguments: --nope"),
        (("diagnose",), 64, "the following arguments are required: RUN"),
        (("diagnose", "x", "--fail-on", "sometimes"), 64, "invalid choice: 'sometimes'"),
        (("diagnose", "nothing.rec"), 66, "no such record: nothing.rec"),
        (("diagnose", "bad\x1b[2Jname"), 66, r"bad\x1b[2Jname"),
        (("diagnose", "two\nlines"), 66, r"two\nlines"),
        (("explain",), 64, "required: SLUG"),
        (("explain", "dead-unitt"), 66, "did you mean dead-unit"),
        (("explain", "qqqqqqqqqqq"), 66, "`defib rules` lists the rules"),
        (("explain", "\x1b[31m" * 100), 66, "no page named"),
        (("run",), 64, "no script given"),
        (("run", "-q"), 64, "no script given"),
        (("run", "-m"), 64, "no script given"),
        (("run", "nothing.py"), 66, "no such script: nothing.py"),
        (("run", "."), 66, "without a __main__.py"),
        (("run", ""), 64, "no script given"),
        (("run", "-m", "no_such_package.train"), 66, "no such module: no_such_package.train"),
        (("run", "-m", "..x"), 66, "no such module: ..x"),
        (("run", "--budget", "lots", "x.py"), 64, "a budget is a share"),
        (("run", "--budget", "0", "x.py"), 64, "between 0 and 100%"),
        (("run", "--every", "0", "x.py"), 64, "at least 1"),
        (("run", "--what", "x.py"), 64, "unrecognized arguments: --what"),
        (("run", "-o", "", "x.py"), 64, "-o needs a path"),
        (("run", "-o"), 64, "expected one argument"),
    ],
)
def test_a_bad_command_is_one_line_and_its_own_exit_code(defib, words, code, said):
    done = defib(*words)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("defib: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


def test_a_bad_setting_is_one_line(defib, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.defib]\nbudgett = 1\n")
    (tmp_path / "x.py").write_text("")
    done = defib("run", "x.py")
    assert done.returncode == UsageError.exit_code
    assert "did you mean budget?" in done.stderr
    assert done.stderr.count("\n") == 1


def plugin(folder: Path, code: str) -> dict[str, str]:
    """Another distribution that offers a rule; the environment in which it is installed."""
    (folder / "their_rule.py").write_text(code)
    info = folder / "their_rules-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-rules\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[defib.rules]\ntheirs = their_rule:Theirs\n")
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def defib_text(record: Path, environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "defib", "diagnose", str(record)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60).stdout


def test_an_unforeseen_error_is_one_line_that_says_how_to_see_more(defib, tmp_path):
    there = plugin(
        tmp_path, "class Theirs:\n    def __init_subclass__(cls): pass\nraise RuntimeError('a\\nb')\n"
    )
    done = defib("rules", **there)
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr == ("defib: internal error: RuntimeError: a\\nb (DEFIB_DEBUG=1 shows the traceback)\n")
    loud = defib("rules", **there, DEFIB_DEBUG="1")
    assert loud.returncode == 70
    assert "Traceback (most recent call last)" in loud.stderr


def test_a_script_s_end_survives_whatever_breaks_in_the_judgement(record, clean, tmp_path):
    there = plugin(tmp_path, "raise RuntimeError('half installed')\n")
    listed = defib_text(record, clean | there)
    assert "not run   theirs: cannot be loaded: RuntimeError: half installed" in listed
    code = (
        "import sys\nfrom pathlib import Path\nfrom defib.script import conclude\n"
        "from defib.diagnosis import engine\nengine.coverage = None\n"
        f"conclude(Path({str(record)!r}))\nsys.exit(7)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**clean, **there}, timeout=60
    )
    assert done.returncode == 7
    assert done.stderr.startswith(
        "\ndefib: no diagnosis: TypeError: 'NoneType' object is not callable (try `defib diagnose "
    )
    assert done.stderr.count("\n") == 2


def test_ctrl_c_is_one_line(defib, tmp_path):
    code = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
    done = defib("rules", **plugin(tmp_path, code))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "defib: stopped by Ctrl-C\n")


@pytest.mark.parametrize("words", [("--help",), ("explain", "dead-unit"), ("diagnose", "RECORD", "--json")])
def test_a_closed_pipe_is_quiet(words, record, clean):
    words = tuple(str(record) if word == "RECORD" else word for word in words)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "defib", *words],
            stdout=writer,
            stderr=subprocess.PIPE,
            env=clean,
            timeout=60,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("words", [("--help",), ("--version",), ("explain", "usage")])
def test_an_answer_that_cannot_be_written_is_an_error(words, clean):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "defib", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            env=clean,
            timeout=60,
        )
    assert done.returncode == 73
    assert done.stderr.count(b"\n") == 1


def test_a_terminal_without_unicode_gets_escapes(defib, record):
    done = defib("diagnose", str(record), PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0
    assert done.stdout.isascii()


def test_rules_are_listed_in_80_columns_and_as_json(defib):
    table, data = defib("rules"), defib("rules", "--json")
    listed = json.loads(data.stdout)
    assert {"dead-unit", "not-observed"} <= {entry["rule"] for entry in listed}
    assert all(set(entry) == {"rule", "fault", "title"} for entry in listed)
    assert max(map(len, table.stdout.splitlines())) <= 80
    for entry in listed:
        assert f"\n{entry['rule']} " in table.stdout
        assert defib("explain", entry["rule"]).stdout.startswith(f"rule {entry['rule']}\n")


def test_every_cause_and_error_has_a_page():
    from defib.catalogues import explain
    from defib.core.cause import Cause

    for cause in Cause:
        if cause.value != "not-observed":
            assert len(explain(cause.value).splitlines()) >= 3
    for error in error_classes():
        assert f"Exit code: {error.exit_code}" in explain(error.slug)
    assert RecordDamaged in error_classes()


def test_doctor_tells_what_can_be_seen_here(defib):
    done = defib("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 0
    assert {"python", "torch", "record", "hooks", "activations", "accelerator"} <= set(checks)
    assert checks["hooks"]["state"] == "ok"


def test_doctor_without_torch_says_so_and_exits_with_69(clean, tmp_path):
    """The interpreter sees numpy and defib, and no torch: its folder of packages is copied by links."""
    import numpy

    packages = Path(numpy.__file__).parents[1]
    for entry in packages.iterdir():
        if not entry.name.lower().startswith(("torch", "functorch", "__editable__", "_defib")):
            (tmp_path / entry.name).symlink_to(entry)
    source = Path(__file__).parents[2] / "src"
    code = (
        f"import sys; sys.path[:0] = [{str(source)!r}, {str(tmp_path)!r}]\n"
        "from defib.cli import main\n"
        "sys.exit(main(['doctor']))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, env=clean, timeout=60
    )
    assert done.returncode == 69
    assert "missing  torch          not installed (needs 2.6 or newer, below 3)" in done.stdout
    assert done.stderr == "defib: defib cannot watch here: see torch\n"


def test_doctor_and_the_package_ask_for_the_same_torch():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert f"torch>={TORCH_FROM[0]}.{TORCH_FROM[1]},<{TORCH_BELOW[0]}" in project["dependencies"]


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("2.13.0+cpu", True),
        ("2.6.0", True),
        ("2.5.1", False),
        ("3.0.0", False),
        ("2.14.0a0+git", True),
        ("x", False),
    ],
)
def test_supported_versions_of_torch(version, fits):
    assert supported(version) is fits
