"""From findings to a diagnosis: order of causes, verdict, coverage, broken rules."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace

import numpy as np
import pytest

from defib.core.cause import Cause, Fault
from defib.core.diagnosis import Verdict
from defib.core.evidence import Unseen
from defib.core.finding import Confidence, Finding, Severity
from defib.core.run import Event, RunView
from defib.core.site import Signal, Site
from defib.core.wiring import Layer
from defib.diagnosis.cases import Plan, broken_loss, flat_loss, relapsing_loss, run_of
from defib.diagnosis.engine import diagnose, judge
from defib.diagnosis.measures.ledger import backward_ledger, main_path
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.rule import Consequence, Rule
from defib.diagnosis.rules.dead_unit import DeadUnit
from defib.diagnosis.rules.vanishing_gradient import VanishingGradient

ALL = dict.fromkeys(range(8), 0)


def kill(run: RunView, path: str) -> RunView:
    """The readings of gradients upstream of a dead layer become zero, as they do in a network."""
    wires = Wires(run)
    blocked = wires.before(path) | {path}
    readings = []
    for r in run.readings:
        zero = r.site.path in blocked and (
            r.signal is Signal.PREACTIVATION_GRAD
            or (r.signal is Signal.ACTIVATION_GRAD and r.site.path != path)
        )
        readings.append(replace(r, tally=replace(r.tally, squares=0 * r.tally.squares)) if zero else r)
    return replace(run, readings=tuple(readings))


def sick_run() -> RunView:
    plans = (
        Plan(path="fc1", blocked=ALL),
        Plan(path="fc2", dies=ALL),
        Plan(path="fc3", dies={1: 0, 4: 0}),
        Plan(path="fc4"),
    )
    return kill(run_of(*plans, loss=flat_loss()), "fc2")


def test_a_dead_layer_is_one_finding_that_explains_its_consequences() -> None:
    diagnosis = diagnose(sick_run())
    assert [(f.rule, f.layer) for f in diagnosis.findings] == [("dead-unit", "fc2")]
    inside = {(f.rule, f.layer) for f in diagnosis.findings[0].explains}
    assert inside == {("dead-unit", "fc3"), ("vanishing-gradient", "fc1")}
    assert diagnosis.verdict is Verdict.SICK
    assert diagnosis.findings[0].severity is Severity.ERROR


def test_a_layer_dead_by_its_input_is_nested_in_the_layer_that_feeds_it() -> None:
    run = run_of(Plan(path="fc1", dies=ALL), Plan(path="fc2", dies=ALL), loss=flat_loss())
    (finding,) = diagnose(run).findings
    assert finding.layer == "fc1"
    assert [(f.layer, f.cause) for f in finding.explains] == [("fc2", Cause.DEAD_INPUT)]


def test_one_kill_that_spreads_downstream_is_one_finding() -> None:
    run = run_of(
        Plan(path="fc1"),
        Plan(path="fc2", dies=dict.fromkeys(range(8), 100)),
        Plan(path="fc3", dies={2: 103, 3: 103, 5: 101, 6: 104}),
        loss=relapsing_loss(),
    )
    (finding,) = [f for f in diagnose(run).findings if f.severity is Severity.ERROR]
    assert (finding.layer, finding.since_step) == ("fc2", 100)


def test_nan_explains_what_comes_after_it() -> None:
    run = run_of(
        Plan(path="fc1", dies=dict.fromkeys(range(8), 50)),
        loss=broken_loss(at=50),
        events=(Event(step=49, kind="non-finite", data={"stage": "update", "where": "fc1"}),),
    )
    (finding,) = diagnose(run).findings
    assert (finding.rule, finding.cause) == ("non-finite", Cause.NON_FINITE_UPDATE)
    assert [f.rule for f in finding.explains] == ["dead-unit"]


def test_an_explosion_explains_the_nan_that_ends_it() -> None:
    plans = [Plan(path=f"fc{i}", gradient=(8.0 ** (5 - i),) * 2) for i in range(6)]
    event = Event(step=60, kind="non-finite", data={"stage": "forward", "where": "fc2"})
    (finding,) = diagnose(run_of(*plans, loss=broken_loss(at=60), events=(event,))).findings
    assert finding.rule == "exploding-gradient"
    assert [f.cause for f in finding.explains] == [Cause.NON_FINITE_FORWARD]


def test_saturation_explains_the_vanishing_gradient_below_it() -> None:
    full = dict.fromkeys(range(8), 1.0)
    plans = [
        Plan(path=f"fc{i}", activation="tanh", saturated=full, gradient=(1e-3 ** (3 - i), 1e-3 ** (4 - i)))
        for i in range(4)
    ]
    (finding,) = diagnose(run_of(*plans, loss=flat_loss())).findings
    assert finding.rule == "saturated-unit"
    assert "vanishing-gradient" in {f.rule for f in finding.explains}


def test_one_cause_in_many_layers_is_one_finding_r32() -> None:
    plans = [Plan(path=f"fc{i}", dies=dict.fromkeys(range(5), i % 3) | {7: 0}) for i in range(10)]
    findings = diagnose(run_of(*plans, loss=flat_loss())).findings
    assert [f.rule for f in findings] == ["dead-unit"]
    assert len(flattened(findings)) >= 10


class Broken(Rule):
    """A rule of somebody else's that raises."""

    slug = "broken"
    fault = Fault.BAD_INIT
    title = "breaks"
    rank = 99
    causes = ()

    def check(self, run: RunView) -> Iterable[Finding]:
        raise KeyError("no such thing")


def test_a_rule_that_breaks_is_listed_and_the_others_go_on() -> None:
    diagnosis = judge(sick_run(), [Broken, DeadUnit])
    assert [(n.rule, n.why) for n in diagnosis.not_run] == [("broken", "KeyError: 'no such thing'")]
    assert diagnosis.findings


class Mild(Rule):
    """Explains everything, and does no harm itself."""

    slug = "mild"
    fault = Fault.BAD_INIT
    title = "mild"
    rank = 1
    causes = (Cause.WEIGHTS,)
    consequences = (Consequence(rule="dead-unit", why="a test"),)

    def check(self, run: RunView) -> Iterable[Finding]:
        yield Finding(
            rule="mild",
            fault=self.fault,
            severity=Severity.INFO,
            confidence=Confidence.EXACT,
            layer="fc1",
            cause=Cause.WEIGHTS,
            message="mild",
        )


def test_a_mild_finding_never_hides_a_worse_one() -> None:
    findings = judge(sick_run(), [Mild, DeadUnit]).findings
    assert [f.rule for f in findings] == ["dead-unit", "mild"]


def test_no_data_is_never_a_clean_bill_of_health_r31() -> None:
    assert diagnose(RunView(facts={})).verdict is Verdict.NOT_OBSERVED
    steps_only = RunView(facts={}, optimizers=run_of(Plan(path="fc1")).optimizers)
    diagnosis = diagnose(steps_only)
    assert diagnosis.verdict is Verdict.NOT_OBSERVED
    assert diagnosis.findings[0].cause is Cause.NO_DATA


def test_a_healthy_run_is_healthy_and_its_coverage_is_complete() -> None:
    diagnosis = diagnose(run_of(Plan(path="fc1"), Plan(path="fc2")))
    assert diagnosis.verdict is Verdict.HEALTHY
    assert diagnosis.findings == ()
    assert (diagnosis.coverage.layers, diagnosis.coverage.observed) == (3, 3)
    assert (diagnosis.coverage.steps, diagnosis.coverage.readings) == (200, 20)
    assert diagnosis.coverage.samples == 20 * 64


def test_layers_that_were_not_seen_are_named_with_a_reason_r34() -> None:
    run = run_of(Plan(path="fc1"))
    hidden = Layer(path="lost", kind="Linear", units=3, parameters=("lost.weight",))
    told = Layer(path="told", kind="Linear", units=3, parameters=("told.weight",))
    run = replace(run, layers=(*run.layers, hidden, told), unseen=(Unseen(what="told", why="compiled"),))
    coverage = diagnose(run).coverage
    assert (coverage.layers, coverage.observed) == (4, 2)
    assert {u.what: u.why for u in coverage.not_observed} == {
        "told": "compiled",
        "lost": "no optimiser that was seen owns its parameters",
    }


def flattened(findings: tuple[Finding, ...]) -> list[Finding]:
    """Findings and all that they explain, depth first."""
    return [inner for f in findings for inner in (f, *flattened(f.explains))]


def permuted(run: RunView, path: str, order: np.ndarray) -> RunView:
    """The same run with the units of one layer in another order."""

    def tally(t):  # type: ignore[no-untyped-def]
        return type(t).from_array(t.samples, t.to_array()[:, order])

    live = run.liveness[path]
    moved = replace(
        live,
        first_alive=live.first_alive[order],
        last_alive=live.last_alive[order],
        alive_steps=live.alive_steps[order],
    )
    readings = tuple(replace(r, tally=tally(r.tally)) if r.site.path == path else r for r in run.readings)
    return replace(run, readings=readings, liveness={**run.liveness, path: moved})


def test_permuting_units_changes_nothing_but_their_numbers_invariant_10() -> None:
    run = run_of(Plan(path="fc1", dies={0: 60, 1: 100, 2: 100, 5: 0}), loss=flat_loss())
    order = np.random.default_rng(0).permutation(8)
    place = {int(old): new for new, old in enumerate(order)}
    plain, moved = (
        flattened(diagnose(run).findings),
        flattened(diagnose(permuted(run, "fc1", order)).findings),
    )
    assert len(plain) == len(moved) == 2
    for before, after in zip(plain, moved, strict=True):
        assert after.units == tuple(sorted(place[u] for u in before.units))
        assert replace(after, units=(), explains=()) == replace(before, units=(), explains=())


def test_renaming_layers_changes_nothing_but_their_names_invariant_10() -> None:
    def renamed(text: str) -> str:
        return text.replace("fc", "z.encoder.")

    names = [f"fc{i}" for i in range(1, 4)]
    dies = {"fc1": {1: 0}, "fc2": ALL, "fc3": {2: 0}}
    run = run_of(*(Plan(path=n, dies=dies[n]) for n in names), loss=flat_loss())
    other = run_of(*(Plan(path=renamed(n), dies=dies[n]) for n in names), loss=flat_loss())
    plain = json.dumps([asdict(f) for f in diagnose(run).findings])
    assert json.dumps([asdict(f) for f in diagnose(other).findings]) == renamed(plain)


def test_the_json_of_the_findings_does_not_depend_on_the_order_of_rules_or_on_the_run_repeated() -> None:
    from defib.core.catalogue import entries

    rules = entries(Rule, "defib.diagnosis.rules")  # type: ignore[type-abstract]
    texts = {
        json.dumps([asdict(f) for f in judge(sick_run(), ordered).findings])
        for ordered in (rules, rules[::-1], rules)
    }
    assert len(texts) == 1


def test_findings_are_ranked_by_harm_then_by_nearness_to_the_root() -> None:
    run = run_of(Plan(path="fc1", dies={0: 0}), Plan(path="fc2"), loss=broken_loss(at=150))
    assert [(f.rule, f.severity) for f in diagnose(run).findings] == [
        ("non-finite", Severity.ERROR),
        ("dead-unit", Severity.INFO),
    ]


def test_the_ledger_telescopes_exactly() -> None:
    plans = [Plan(path=f"fc{i}", gradient=(3.0**i, 0.7 * 2.0**i)) for i in range(5)]
    run = run_of(*plans)
    ledger = backward_ledger(run, main_path(run, Wires(run)))
    assert ledger is not None
    units = np.sqrt(8)
    truth = np.log10((0.7 * units) / (3.0**4 * units))
    assert ledger.total == pytest.approx(np.full(20, truth))
    assert ledger.activations + ledger.weights == pytest.approx(ledger.total)
    assert ledger.activations[0] == pytest.approx(sum(np.log10(0.7 * 2.0**i / 3.0**i) for i in range(5)))


def test_the_ledger_falls_back_to_the_flow_of_single_numbers() -> None:
    run = run_of(*(Plan(path=f"fc{i}") for i in range(3)), readings=False)
    signals = (Signal.ACTIVATION_GRAD, Signal.PREACTIVATION_GRAD)
    flow = {(Site(path=f"fc{i}"), s): np.array([10.0 ** (2 * i), np.nan]) for i in range(3) for s in signals}
    run = replace(run, flow=flow, flow_steps=np.array([0, 10]))
    ledger = backward_ledger(run, main_path(run, Wires(run)))
    assert ledger is not None
    assert ledger.total == pytest.approx([-4.0])
    (finding,) = VanishingGradient().check(run)
    assert finding.cause is Cause.WEIGHTS


def test_the_wiring_knows_what_is_upstream_and_what_can_be_gone_around() -> None:
    run = run_of(
        Plan(path="stem"),
        Plan(path="a", inputs=("stem",)),
        Plan(path="b", inputs=("stem",)),
        Plan(path="join", inputs=("a", "b")),
    )
    wires = Wires(run)
    assert wires.before("join") == {"stem", "a", "b"}
    assert wires.after("stem") == {"a", "b", "join"}
    assert [wires.is_cut(p) for p in ("stem", "a", "b", "join")] == [True, False, False, True]


def test_dead_units_below_a_period_of_reading_are_reported_with_an_interval() -> None:
    run = run_of(Plan(path="fc1", dies={0: 100}), period=2)
    (finding,) = DeadUnit().check(run)
    assert str(finding.confidence) == "measured"
    assert ("the step of death is known to within", 2) in {(e.name, e.value) for e in finding.evidence}
