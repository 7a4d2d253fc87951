"""``defib run``: which words are ours, and which are the script's."""

import argparse

import pytest

from defib.cli.commands.run import Run, _understood


@pytest.mark.parametrize(
    ("words", "own", "rest"),
    [
        ("train.py", "", "train.py"),
        ("train.py -o x -q -- --budget 3", "", "train.py -o x -q -- --budget 3"),
        ("-q train.py -q", "-q", "train.py -q"),
        ("-o out train.py --help", "-o out", "train.py --help"),
        ("-oout train.py", "-oout", "train.py"),
        ("--output=out --every 3 train.py", "--output=out --every 3", "train.py"),
        ("-qf train.py -m x", "-qf", "train.py -m x"),
        ("-qo out train.py", "-qo out", "train.py"),
        ("-m pkg.mod -q --", "", "-m pkg.mod -q --"),
        ("-mpkg.mod a", "", "-m pkg.mod a"),
        ("-qm pkg.mod a", "-q", "-m pkg.mod a"),
        ("-- train.py -- x", "", "train.py -- x"),
        ("-q -- -m pkg.mod x", "-q", "-m pkg.mod x"),
        ("-- -mpkg.mod x", "", "-m pkg.mod x"),
        ("- x", "", "- x"),
        ("-q", "-q", ""),
        ("", "", ""),
        ("--help train.py", "--help", "train.py"),
    ],
)
def test_everything_after_the_script_is_the_script_s(words, own, rest):
    assert Run.divide(words.split()) == (own.split(), rest.split())


def understood(words: str, monkeypatch, folder, **environ: str):
    monkeypatch.chdir(folder)
    for name in ("BUDGET", "EVERY", "OUTPUT", "QUIET"):
        monkeypatch.delenv(f"DEFIB_{name}", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    parser = argparse.ArgumentParser()
    Run.add_arguments(parser)
    own, rest = Run.divide(words.split())
    options = parser.parse_args(own)
    options.rest = rest
    return _understood(options)


def test_options_become_launch_options(monkeypatch, tmp_path):
    launch = understood("-o a.rec --budget 2% --every 5 -qf -m pkg.mod --budget 9", monkeypatch, tmp_path)
    assert (launch.target, launch.is_module, launch.arguments) == ("pkg.mod", True, ("--budget", "9"))
    assert (str(launch.output), launch.every, launch.quiet, launch.force) == ("a.rec", 5, True, True)
    assert launch.budget == pytest.approx(0.02)


def test_without_options_the_defaults_hold(monkeypatch, tmp_path):
    launch = understood("train.py", monkeypatch, tmp_path)
    assert (launch.output, launch.budget, launch.every) == (None, 0.01, None)
    assert (launch.quiet, launch.force, launch.is_module) == (False, False, False)


def test_settings_hold_unless_an_option_says_otherwise(monkeypatch, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.defib]\nbudget = "5%"\nevery = 3\noutput = "runs"\n')
    launch = understood("--every 4 train.py", monkeypatch, tmp_path, DEFIB_QUIET="1")
    assert (launch.budget, launch.every, launch.quiet) == (0.05, 4, True)
    assert launch.output.parent == tmp_path / "runs"
    assert launch.output.name.startswith("defib-train.")
