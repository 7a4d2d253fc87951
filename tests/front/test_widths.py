"""Every command's text in real terminals and pipes: at most 80 columns, never able to command them."""

import argparse
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest

from defib.cli import build_parser, subcommands
from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.core.wiring import Layer, Wiring
from defib.record.writer import Writer
from defib.report.lines import wrapped
from defib.report.wording import columns, escaped, shown, spelt_in

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = (
    "x" * 10_000,
    "\u202egnp.exe",
    "\x1b[31mred\x1b[2J\x07",
    "漢字" * 300,
    "a\nb\tc\r",
    "e\u0301" * 90,
    "<script>",
    "",
)
UNBROKEN = ("record ", "next ")
"""Lines to be pasted stay whole: a path, a command."""


def tally(values: np.ndarray) -> Tally:
    """The tally of samples by units, of a ReLU."""
    off = (values <= 0).sum(0)
    sums = (
        np.full(values.shape[1], len(values)),
        (values > 0).sum(0),
        (values == 0).sum(0),
        off,
        off,
        0 * off,
    )
    ends = (values.sum(0), (values**2).sum(0), values.min(0), values.max(0))
    return Tally.from_array(len(values), np.stack([*sums, *ends]))


@pytest.fixture(scope="session")
def hostile(tmp_path_factory) -> Path:
    """A record of dead layers with names that nobody expects."""
    path = tmp_path_factory.mktemp("hostile") / "hostile.rec"
    writer = Writer.create(path)
    writer.facts({"target": "train.py", "python": "3.11"})
    units, steps = 8, 400
    owned = [f"{name}.bias" for name in HOSTILE]
    writer.layers(
        tuple(
            Layer(path=n, kind=n or "Linear", units=units, parameters=(p,), optimizer=0)
            for n, p in zip(HOSTILE, owned, strict=True)
        )
    )
    writer.wirings(
        tuple(
            Wiring(
                site=Site(path=n),
                activation="relu",
                operation="ReluBackward0",
                units=units,
                order=i,
                modules=(n, n),
            )
            for i, n in enumerate(HOSTILE)
        ),
        ("NllLossBackward0",),
    )
    writer.optimizer(0, {"kind": "SGD", "steps": steps, "groups": [{"lr": 0.1}], "parameters": owned})
    writer.stream(0, 0, {"loss": np.full(steps, 2.3, np.float32), "lr": np.full(steps, 0.1, np.float32)})
    writer.stream(-1, 10, {f"log.{HOSTILE[3][:190]}": np.ones(1, np.float32)})
    silent = np.array([[-1] * units, [-1] * units, [0] * units], np.int32)
    for name, source in zip(HOSTILE, owned, strict=True):
        facts = {"source": source, "steps": steps, "last_step": steps - 1, "period": 1, "batch": 64.0}
        writer.liveness(0, name, facts, silent)
        z = np.random.default_rng(0).normal(-9.0, 1.0, (64, units))
        writer.reading(Site(path=name), Signal.PREACTIVATION, 0, steps - 1, tally(z))
        writer.reading(Site(path=name), Signal.ACTIVATION, 0, steps - 1, tally(np.maximum(z, 0)))
    writer.close("finished")
    return path


def in_terminal(words: list[str], folder: Path, width: int = 80, **environ: str) -> str:
    """What a terminal of that width is sent."""
    keep = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM", "LC_ALL", "LANG", "LC_CTYPE")
    env = {k: v for k, v in os.environ.items() if k not in keep and not k.startswith("DEFIB_")}
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    env = {"TERM": "xterm", **env, **environ}
    command = [sys.executable, "-m", "defib", *words]
    child = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, cwd=folder, env=env)
    os.close(its)
    said = b""
    while True:
        ready, _, _ = select.select([ours], [], [], 60)
        try:
            piece = os.read(ours, 1 << 16) if ready else b""
        except OSError:  # the other end was closed
            break
        if not piece:
            break
        said += piece
    os.close(ours)
    assert child.wait(timeout=60) == 0, said[-500:]
    return said.decode("utf-8").replace("\r\n", "\n")


def fits(text: str, most: int = 80) -> None:
    """No line is wider, but for those that are to be pasted; nothing but colours is a control character."""
    plain = COLOUR.sub("", text)
    for line in plain.split("\n"):
        pasted = line.startswith(UNBROKEN) or line.lstrip().startswith("defib ")
        assert columns(line) <= (250 if pasted else most), line[:200]
        assert line.isprintable() or not line, repr(line[:200])


ON_RECORDS = (["diagnose"], ["prescribe"], ["prognose"], ["compare", "{healthy}"], ["explain"])


@pytest.mark.parametrize("words", ON_RECORDS[:4], ids=lambda w: w[0])
@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"LC_ALL": "C"}, True)],
    ids=["colour", "no-colour", "dumb", "c-locale"],
)
def test_a_terminal_gets_80_columns_whatever_layers_are_called(
    words, environ, coloured, hostile, healthy_record, tmp_path
):
    more = [word.format(healthy=healthy_record) for word in words[1:]]
    text = in_terminal([words[0], str(hostile), *more], tmp_path, **environ)
    fits(text)
    assert bool(COLOUR.search(text)) is coloured or words[0] == "prescribe"
    assert "\u202e" not in text
    if environ.get("LC_ALL") == "C":
        assert text.isascii()


@pytest.mark.parametrize("words", ON_RECORDS[:4], ids=lambda w: w[0])
def test_a_pipe_gets_the_same_without_colour_unless_it_is_forced(words, hostile, healthy_record, defib):
    more = [word.format(healthy=healthy_record) for word in words[1:]]
    piped = defib(words[0], str(hostile), *more)
    forced = defib(words[0], str(hostile), *more, FORCE_COLOR="1")
    assert piped.returncode == forced.returncode == 0
    fits(piped.stdout)
    assert not COLOUR.search(piped.stdout)
    assert COLOUR.search(forced.stdout)
    assert COLOUR.sub("", forced.stdout) == piped.stdout
    both = defib(words[0], str(hostile), *more, FORCE_COLOR="1", NO_COLOR="1")
    assert both.stdout == piped.stdout


def test_an_ascii_pipe_has_no_wider_lines(hostile, defib):
    done = defib("diagnose", str(hostile), PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0
    assert done.stdout.isascii()
    fits(done.stdout)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_terminal_of_any_width_is_given_at_most_80_columns(hostile, tmp_path, width):
    fits(in_terminal(["diagnose", str(hostile)], tmp_path, width=width))
    fits(in_terminal(["compare", "--help"], tmp_path, width=width), most=min(width, 80))


def test_every_help_fits_in_80_columns(monkeypatch):
    for width in ("80", "200"):
        monkeypatch.setenv("COLUMNS", width)
        parser = build_parser(subcommands())
        several = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        assert len(several.choices) > 10
        for name, own in (("defib", parser), *several.choices.items()):
            for line in own.format_help().splitlines():
                assert columns(line) <= 80, (name, line)


def test_every_page_fits_in_80_columns_but_for_its_code():
    from defib import catalogues

    slugs = [rule.slug for rule in catalogues.rules()] + list(catalogues.treatment_pages())
    for slug in slugs:
        for line in catalogues.explain(slug).splitlines():
            assert columns(line) <= 80, (slug, line)


def test_lists_of_rules_and_treatments_fit(defib):
    for words in (["rules"], ["treatments"], ["doctor"]):
        fits(defib(*words).stdout)


# ------------------------------------------------------------------ its parts


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "no-such-encoding"])
def test_names_are_spelt_in_the_encoding_and_no_wider_than_asked(encoding):
    with spelt_in(encoding):
        for name in (*HOSTILE, "über…", "漢" * 9):
            for width in (8, 20, 60):
                text = shown(name, width)
                assert columns(text) <= width
                text.encode("ascii" if encoding.startswith("no-") else encoding)
            assert max(columns(line) for line in wrapped(name)) <= 80
    assert escaped("漢…") == "漢…"


def test_wide_characters_count_twice_when_lines_are_broken():
    for text in ("漢字 " * 100, "漢" * 300, "a " * 300):
        lines = wrapped(text, "  ", "    ")
        assert max(columns(line) for line in lines) <= 80
        assert "".join("".join(lines).split()) == "".join(text.split())
