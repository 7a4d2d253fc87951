"""`defib --help` answers at once: it imports nothing heavy (bench/help_time.py says how fast that is)."""

import json
import subprocess
import sys

import pytest
from launching import environment

LISTS = """
import json, sys
from defib.cli import main
code = main(json.loads(sys.argv[1]))
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""
HEAVY = {
    "torch",
    "numpy",
    "scipy",
    "rich",
    "sqlite3",
    "asyncio",
    "multiprocessing",
    "transformers",
    "sklearn",
}


def modules(program: str, words: list[str]) -> set[str]:
    command = [sys.executable, "-c", program, json.dumps(words)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    code, names = json.loads(done.stderr)
    assert code == 0
    return set(names)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"], ["diagnose", "--help"]])
def test_help_imports_nothing_heavy(words):
    assert modules(LISTS, words) & HEAVY == set()


def test_the_test_above_can_fail():
    assert modules("import numpy\n" + LISTS, ["--help"]) & HEAVY >= {"numpy"}
