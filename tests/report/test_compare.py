"""Two runs side by side: what is gone, what is new, and what cannot be told."""

import json
from dataclasses import fields, replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import defib as package
from defib.core import comparison as nouns
from defib.core.aftermath import Aftermath, Treated
from defib.core.cause import Cause, Fault
from defib.core.comparison import RunComparison, State
from defib.core.coverage import Coverage, Overhead
from defib.core.diagnosis import Diagnosis, NotRun, Verdict
from defib.core.errors import UsageError
from defib.core.evidence import Unseen
from defib.core.finding import Confidence, Finding, Severity
from defib.core.optimizer import Optimizer
from defib.core.run import Event, RunView
from defib.core.series import Series
from defib.core.trial import Goal
from defib.core.wiring import Layer
from defib.diagnosis.aftermath import aftermath, within
from defib.diagnosis.measures.curves import curve, goal_of, thinned
from defib.diagnosis.versus import Judged, compare
from defib.report.comparison import comparison_text
from defib.report.json import to_json
from defib.report.wording import columns

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schema/comparison-1.json").read_text(encoding="utf-8"))


def finding(rule: str = "dead-unit", layer: str = "fc1", **changes: object) -> Finding:
    plain = Finding(
        rule=rule,
        fault=Fault.DEAD_UNITS,
        severity=Severity.ERROR,
        confidence=Confidence.EXACT,
        layer=layer,
        cause=Cause.DIED_AT_STEP,
        message="All units of fc1 went silent.",
        units=(0, 1),
        units_total=2,
        since_step=40,
    )
    return replace(plain, **changes)


def judged(*found: Finding, steps: int = 500, lr: float = 0.1, **changes: object) -> Judged:
    """A judged run of a network with the layers fc1 and fc2."""
    layers = tuple(Layer(path=p, kind="Linear", units=2, parameters=(f"{p}.weight",)) for p in ("fc1", "fc2"))
    run = RunView(
        facts={"path": "a.rec", "arguments": ["x"]},
        layers=layers,
        optimizers=(Optimizer(index=0, kind="SGD", steps=steps, groups=({"lr": lr},)),),
    )
    sick = any(f.severity is not Severity.INFO for f in found)
    plain = Diagnosis(
        run=run.facts,
        verdict=Verdict.SICK if sick else Verdict.HEALTHY,
        coverage=Coverage(layers=2, observed=2, not_observed=(), steps=steps, readings=9, samples=99),
        overhead=Overhead(ratio=0.01, seconds=0.1, budget=0.01, period=4.0),
        findings=found,
    )
    return Judged(run=run, diagnosis=replace(plain, **changes))


def states(comparison: RunComparison) -> list[str]:
    return [change.state.value for change in comparison.findings]


# ------------------------------------------------------------------ on real runs


def test_a_repaired_network_shows_the_finding_gone_and_the_treatment_named(dying, treated):
    comparison = package.compare(dying, treated)
    gone = [c for c in comparison.of(State.GONE) if c.rule == "dead-unit"]
    assert [c.layer for c in gone] == ["2"]
    given = [t for t in comparison.treated if t.aftermath is Aftermath.GONE]
    (given,) = [t for t in given if t.layer == "2"]
    assert gone[0].treated == (given.treatment,)
    assert comparison.before.verdict is Verdict.SICK
    assert comparison.after.verdict is Verdict.HEALTHY
    text = comparison_text(comparison)
    assert f"gone after treatment: {given.treatment}" in " ".join(text.split())


def test_a_treatment_after_which_another_had_to_be_given_is_not_said_to_have_helped():
    def given(step: int, slug: str) -> Event:
        data = {"stage": "done", "treatment": slug, "rule": "dead-unit", "layer": "fc1", "dose": {}}
        return Event(step=step, kind="treatment", data=data)

    run = replace(judged().run, events=(given(50, "scale-lr"), given(100, "relu")))
    first, last = aftermath(run, lambda _: judged().diagnosis)
    assert (first.aftermath, first.steps_since) == (Aftermath.STAYS, 50)
    assert (last.aftermath, last.steps_since) == (Aftermath.GONE, 400)
    comparison = compare(judged(finding()), judged(treated=(first, last)))
    assert [c.treated for c in comparison.findings] == [("relu",)]


def test_a_repaired_network_alone_is_laid_beside_what_it_was(treated):
    comparison = package.compare(treated)
    assert comparison.after.first == comparison.before.steps > 0
    gone = [c for c in comparison.of(State.GONE) if c.rule == "dead-unit"]
    assert [bool(c.treated) for c in gone] == [True]
    assert (comparison.before.verdict, comparison.after.verdict) == (Verdict.SICK, Verdict.HEALTHY)
    assert not comparison.settings


def test_the_diagnosis_of_a_repaired_network_says_that_the_finding_is_gone(treated, defib):
    done = defib("diagnose", str(treated))
    said = " ".join(done.stdout.split())
    assert "for dead-unit in layer 2; gone in the" in said


def test_a_run_beside_itself_has_nothing_new_and_nothing_gone(dying):
    comparison = package.compare(dying, dying)
    assert set(states(comparison)) == {"same"}
    assert not comparison.settings


def test_what_is_gone_one_way_is_new_the_other_way(dying, sound):
    there, back = package.compare(dying, sound), package.compare(sound, dying)
    named = {s: [(c.rule, c.layer) for c in there.of(s)] for s in State}
    other = {s: [(c.rule, c.layer) for c in back.of(s)] for s in State}
    assert sorted(named[State.GONE]) == sorted(other[State.NEW])
    assert sorted(named[State.NEW]) == sorted(other[State.GONE])
    assert named[State.GONE]


def test_settings_that_differ_are_named_and_others_are_not(dying, sound):
    changes = {(c.what, c.name): (c.before, c.after) for c in package.compare(dying, sound).settings}
    assert changes[("optimizer 0", "lr")] == (0.1, 0.05)
    assert changes[("script", "arguments")] == ("8.0 0.1", "0.0 0.05")
    assert not [key for key in changes if key[0] in {"versions", "layer 0", "network"}]


def test_of_a_run_that_ended_before_the_deaths_nothing_is_called_gone(dying, short):
    comparison = package.compare(dying, short)
    assert not comparison.of(State.GONE)
    dead = next(c for c in comparison.findings if c.rule == "dead-unit")
    assert dead.state is State.NOT_JUDGED
    assert dead.why


def test_a_run_without_a_treatment_has_no_two_halves(sound):
    with pytest.raises(UsageError, match="never treated"):
        package.compare(sound)


def test_the_loss_is_compared_by_its_ends_and_its_best(dying, sound):
    loss = package.compare(dying, sound).curves[0]
    view = package.open_run(sound).view
    assert loss.name == "loss"
    assert loss.goal is Goal.LOWER
    assert loss.after.points == len(view.loss)
    assert loss.after.last == pytest.approx(float(np.median(view.loss.values[-20:])))
    assert loss.after.best < loss.before.best
    assert 0 <= loss.reached < 400


# ------------------------------------------------------------------ what may be concluded


def test_a_finding_that_only_eased_is_the_same_one_with_both_severities():
    comparison = compare(judged(finding()), judged(finding(severity=Severity.INFO, units=(0,))))
    (change,) = comparison.findings
    assert (change.state, change.before, change.after) == (State.SAME, Severity.ERROR, Severity.INFO)
    assert (change.units_before, change.units_after) == (2, 1)
    assert "error before, info now" in comparison_text(comparison)


def test_another_cause_at_the_same_place_is_the_same_finding_and_says_so():
    comparison = compare(judged(finding()), judged(finding(cause=Cause.BORN_DEAD)))
    (change,) = comparison.findings
    assert (change.cause_before, change.cause) == (Cause.DIED_AT_STEP, Cause.BORN_DEAD)


def test_of_two_findings_of_one_rule_each_meets_the_one_with_its_cause():
    both = (finding(), finding(cause=Cause.BORN_DEAD))
    comparison = compare(judged(*both), judged(*reversed(both)))
    assert states(comparison) == ["same", "same"]
    assert {c.cause_before for c in comparison.findings} == {None}


def test_a_consequence_that_became_a_cause_is_the_same_finding():
    inner = finding("vanishing-gradient", "fc2", cause=Cause.WEIGHTS)
    comparison = compare(judged(finding(explains=(inner,))), judged(inner))
    assert sorted(states(comparison)) == ["gone", "same"]


UNSEEN = Coverage(
    layers=2,
    observed=1,
    not_observed=(Unseen(what="fc1", why="compiled"),),
    steps=500,
    readings=9,
    samples=99,
)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (judged(steps=199), "199 steps only"),
        (judged(verdict=Verdict.NOT_OBSERVED), "too little was seen"),
        (judged(not_run=(NotRun(rule="dead-unit", why="ValueError"),)), "the rule broke"),
        (judged(coverage=UNSEEN), "not observed there: compiled"),
        (replace(judged(), run=replace(judged().run, layers=())), "no layer of this name"),
        (replace(judged(), blind=True), "as of the run's end"),
    ],
)
def test_absence_is_not_called_gone_where_it_could_not_have_been_seen(after, why):
    change = next(c for c in compare(judged(finding()), after).findings)
    assert change.state is State.NOT_JUDGED
    assert why in change.why


def test_absence_in_a_run_that_was_seen_is_called_gone():
    assert states(compare(judged(finding()), judged())) == ["gone"]
    assert states(compare(judged(), judged(finding()))) == ["new"]


def test_what_came_late_is_not_gone_from_a_run_that_never_got_there():
    late = finding(since_step=450)
    assert states(compare(judged(late), judged(steps=400))) == ["not-judged"]
    assert states(compare(judged(late), judged(steps=451))) == ["gone"]


def test_dead_units_of_a_norm_that_a_treatment_put_into_the_layer_are_not_gone():
    norm = Layer(path="fc1.defib_norm.norm", kind="BatchNorm1d", units=2, parameters=())
    after = judged(finding(layer=norm.path))
    after = replace(after, run=replace(after.run, layers=(*after.run.layers, norm)))
    assert states(compare(judged(finding()), after)) == ["same"]


@pytest.mark.parametrize(
    ("path", "layer", "inside"),
    [
        ("fc1", "fc1", True),
        ("fc1.norm", "fc1", True),
        ("fc10", "fc1", False),
        ("fc1", "", False),
        ("", "", True),
    ],
)
def test_within_a_layer_is_told_by_whole_names(path, layer, inside):
    assert within(path, layer) is inside


def test_a_treatment_is_credited_only_with_the_finding_that_it_was_given_for():
    treated = Treated(
        step=50, treatment="relu", stage="done", rule="dead-unit", layer="fc1", dose={}, why="",
        steps_since=450, aftermath=Aftermath.GONE,
    )  # fmt: skip
    comparison = compare(judged(finding(), finding(layer="fc2")), judged(treated=(treated,)))
    assert {c.layer: c.treated for c in comparison.findings} == {"fc1": ("relu",), "fc2": ()}


# ------------------------------------------------------------------ curves


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 3000), seed=st.integers(0, 99))
def test_a_thinned_curve_keeps_its_extremes_and_invents_nothing(length, seed):
    steps, every = np.arange(length) * 3, np.random.default_rng(seed).normal(size=length)
    kept, drawn = thinned(steps, every)
    assert len(kept) <= 400
    assert drawn.min() == every.min()
    assert drawn.max() == every.max()
    assert (np.diff(kept) >= 0).all()
    assert (every[kept // 3] == drawn).all()


def test_a_single_lucky_batch_is_not_the_best_of_a_run():
    values = np.full(1000, 2.0)
    values[500] = 0.0
    series = Series(steps=np.arange(1000), values=values)
    assert curve(series, Goal.LOWER).best == 2.0


def test_numbers_that_are_none_are_counted_and_left_out():
    series = Series(steps=np.arange(4), values=np.array([1.0, np.nan, np.inf, 0.5]))
    short = curve(series, Goal.LOWER)
    assert (short.points, short.nonfinite, short.best, short.best_step) == (4, 2, 0.5, 3)
    assert short.steps == (0, 3)


@pytest.mark.parametrize(("name", "goal"), [("val_loss", "lower"), ("test accuracy", "higher"), ("lr", None)])
def test_which_way_is_better_is_told_by_the_name(name, goal):
    assert goal_of(name) == goal


# ------------------------------------------------------------------ text, JSON, command


def test_the_text_fits_80_columns_whatever_layers_are_called():
    for name in ("\x1b[31mred\x1b[0m", "x" * 10_000, "漢" * 500, "\u202egnp.exe", "a\nb"):
        bad = judged(finding(layer=name, message=f"{name} is dead", rule="dead-unit"))
        other = judged(lr=0.2)
        layer = Layer(path=name, kind=name, units=3, parameters=())
        other = replace(other, run=replace(other.run, layers=(layer,), facts={"path": name, "target": name}))
        for pair in ((bad, other), (other, bad)):
            lines = comparison_text(compare(*pair)).split("\n")
            assert max(columns(line) for line in lines) <= 80
            assert not any(ord(c) < 32 or c == "\u202e" for line in lines for c in line)


def test_json_is_valid_and_has_exactly_the_fields_of_the_nouns(dying, treated):
    data = json.loads(to_json(package.compare(dying, treated)))
    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    assert list(data) == list(SCHEMA["properties"])
    named = {
        "side": nouns.Side,
        "finding_change": nouns.FindingChange,
        "curve_change": nouns.CurveChange,
        "curve": nouns.Curve,
        "setting_change": nouns.SettingChange,
    }
    for name, noun in named.items():
        assert list(SCHEMA["$defs"][name]["properties"]) == [f.name for f in fields(noun)]
    assert SCHEMA["$defs"]["finding_change"]["properties"]["state"]["enum"] == [s.value for s in State]


def test_the_command_prints_text_or_one_json_object(defib, dying, sound):
    text, data = defib("compare", str(dying), str(sound)), defib("compare", str(dying), str(sound), "--json")
    assert text.returncode == data.returncode == 0
    assert text.stdout.startswith("defib: from sick to healthy")
    assert json.loads(data.stdout)["schema"] == "defib.comparison/1"


def test_fail_on_new_is_1_for_new_trouble_or_a_run_that_nobody_saw(defib, dying, sound, empty):
    codes = [
        defib("compare", str(a), str(b), "--fail-on-new").returncode
        for a, b in ((sound, dying), (dying, sound), (sound, empty))
    ]
    assert codes == [1, 0, 1]


@pytest.mark.parametrize(
    ("words", "code"),
    [(("nothing.rec", "nothing.rec"), 66), (("{sound}",), 64), (("{sound}", "{sound}", "-o", ""), 64)],
)
def test_bad_input_is_one_line_and_a_documented_code(defib, sound, words, code):
    done = defib("compare", *(word.format(sound=sound) for word in words))
    assert done.returncode == code
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_page_is_not_put_over_a_file_that_is_there(defib, dying, sound, tmp_path):
    words = ("compare", str(dying), str(sound), "-o", "c.html")
    assert defib(*words).returncode == 0
    first = (tmp_path / "c.html").read_bytes()
    again = defib(*words)
    assert again.returncode == 73
    assert (tmp_path / "c.html").read_bytes() == first
    assert defib(*words, "-f").returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["c.html"]


def test_comparing_does_not_import_torch(dying, sound, tmp_path):
    import subprocess
    import sys

    code = (
        "import sys; from defib.cli import main\n"
        f"main(['compare', {str(dying)!r}, {str(sound)!r}, '-o', 'c.html'])\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
