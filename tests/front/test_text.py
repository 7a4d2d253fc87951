"""The text block: what a person reads at the end of a run."""

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defib.core.cause import Cause
from defib.core.diagnosis import NotRun, Verdict
from defib.core.evidence import Evidence, Unseen
from defib.core.finding import Confidence, Severity
from defib.report.meaning import meaning
from defib.report.terminal import Style, style_of
from defib.report.text import to_text
from defib.report.wording import columns, layer_name, number, shown, units_of

GOLDEN = """\
defib: sick: 1 cause of trouble found, the first in fc2 (dead-unit).

error     fc2  4 of 8 units: 0-2, 6  since step 41
          4 of 8 units of fc2 stopped firing at step 41.
cause     died-at-step: Was alive until an update silenced it.
path      fc2 > relu2
evidence  silent samples       5,120 samples
          firing rate at most  0.000586
rests on  exact: Counted on every step; no estimate enters.
explains  1 more: vanishing-gradient in fc1
next      defib explain dead-unit
next      lower the learning rate

observed  2 of 3 layers; not: head (runs inside torch.compile)
          200 steps, readings on 14 of them, 448 samples
overhead  0.81 % or 0.5 s measured (budget 1 %); lately a reading every 16 steps
record    runs/a.rec
next      defib diagnose runs/a.rec --json"""

HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "a\nb\r\tc",
    "\u202egnp.exe",
    "\ud800",
    "\0",
    "x" * 10_000,
    "漢" * 500,
    "e\u0301" * 90,
]


def no_surprise(text: str) -> None:
    """Every line fits (a path stays in one piece), and nothing in it can command a terminal."""
    for line in text.split("\n"):
        assert columns(line) <= (80 if not line.startswith(("record ", "next ")) else 210)
        assert not [c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def test_the_block_reads_like_this(sick):
    assert to_text(sick) == GOLDEN


def test_a_healthy_run_takes_few_lines(healthy):
    lines = to_text(healthy).splitlines()
    assert lines[0] == "defib: healthy: nothing found that keeps it from learning."
    assert len(lines) == 6


def test_a_run_that_nobody_saw_is_not_called_healthy(healthy):
    text = to_text(replace(healthy, verdict=Verdict.NOT_OBSERVED))
    assert text.startswith("defib: not observed: too little was seen to judge")
    assert "healthy" not in text


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_shown_escaped_and_short(sick, finding, name):
    bad = replace(
        finding,
        layer=name,
        message=f"{name} is dead.\x1b[2J",
        modules=(name, name),
        evidence=(Evidence(name=name, value=name, unit=name[:50]),),
        explains=(replace(finding, layer=name),),
        try_next=(name,),
        rule=name[:40],
    )
    unseen = tuple(Unseen(what=name, why=name) for _ in range(9))
    coverage = replace(sick.coverage, not_observed=unseen)
    text = to_text(
        replace(
            sick,
            findings=(bad,),
            coverage=coverage,
            not_run=(NotRun(rule=name, why=name),),
            run={"path": name, "status": name},
        )
    )
    no_surprise(text)
    assert len(text) < 8_000


@settings(max_examples=150, deadline=None)
@given(name=st.text(max_size=200), width=st.integers(8, 60))
def test_no_name_is_wider_than_asked(name, width):
    text = shown(name, width)
    assert columns(text) <= width
    assert "\n" not in text


@settings(max_examples=60, deadline=None)
@given(units=st.sets(st.integers(0, 40)))
def test_a_list_of_units_names_each_unit_once(units):
    ordered = tuple(sorted(units))
    text = units_of(ordered, 50, most=100)
    listed = []
    for part in text.partition(": ")[2].split(", ") if units else ():
        first, _, last = part.partition("-")
        listed += range(int(first), int(last or first) + 1)
    assert tuple(listed) == ordered
    assert text.startswith(f"{len(units)} of 50 units")


def test_a_layer_that_is_only_a_number_is_called_a_layer():
    names = [layer_name(*given) for given in (("0",), ("0.2", 1), ("fc",), ("",), ("", 2))]
    assert names == ["layer 0", "layer 0.2#1", "fc", "(whole model)", "(whole model)#2"]


def test_all_units_are_called_all():
    assert units_of((0, 1, 2), 3) == "all 3 units"


def test_a_long_list_of_units_is_cut_and_says_so():
    assert units_of(tuple(range(0, 100, 2)), 100) == "50 of 100 units: 0, 2, 4, 6, 8, 10…"


def test_numbers_keep_four_digits_and_whole_ones_all():
    given = (5120, 1234567.0, 0.000123456, float("nan"), float("inf"), 0, 1e30)
    assert [number(n) for n in given] == ["5,120", "1,234,567", "0.0001235", "nan", "inf", "0", "1e+30"]


def test_colour_marks_verdict_and_severity_and_changes_nothing_else(sick):
    coloured = to_text(sick, Style(colour=True))
    assert "\x1b[1;31msick\x1b[0m" in coloured
    assert "\x1b[1;31merror\x1b[0m" in coloured
    assert coloured.replace("\x1b[1;31m", "").replace("\x1b[0m", "") == GOLDEN


class Terminal:
    """A stream that says whether it is one."""

    def __init__(self, tty: bool) -> None:
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty


@pytest.mark.parametrize(
    ("tty", "environ", "colour"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
        (True, {"TERM": "xterm"}, True),
    ],
)
def test_colour_is_for_terminals_that_want_it(tty, environ, colour):
    assert style_of(Terminal(tty), environ).colour is colour


def test_a_note_is_short_and_does_not_make_a_run_sick(healthy, finding):
    note = replace(finding, severity=Severity.INFO)
    text = to_text(replace(healthy, findings=(note,)))
    assert text.startswith("defib: healthy: ")
    assert "1 note below" in text
    assert "evidence" not in text


def test_a_broken_rule_is_named(healthy):
    text = to_text(replace(healthy, not_run=(NotRun(rule="dead-unit", why="ValueError: no"),)))
    assert "not run   dead-unit: ValueError: no" in text


def test_layers_not_seen_for_one_reason_stand_together(healthy):
    unseen = tuple(Unseen(what=f"enc.{i}", why="compiled") for i in range(6))
    text = to_text(replace(healthy, coverage=replace(healthy.coverage, not_observed=unseen)))
    assert "not: enc.0, enc.1, enc.2, enc.3 and 2 more (compiled)" in text


def test_many_findings_are_cut_and_counted(sick, finding):
    text = to_text(replace(sick, findings=(finding,) * 13))
    assert text.count("error ") == 10
    assert "and 3 more findings: see --json" in text


def test_a_run_too_short_for_a_share_says_so(healthy):
    text = to_text(replace(healthy, overhead=replace(healthy.overhead, ratio=None)))
    assert "too short a run for a share" in text


def test_the_way_the_run_ended_is_told(healthy):
    assert "(the run was interrupted)" in to_text(
        replace(healthy, run={"path": "a", "status": "interrupted"})
    )


@pytest.mark.parametrize("member", [*Cause, *Confidence, *Severity])
def test_every_cause_has_words(member):
    assert meaning(member).endswith(".")
