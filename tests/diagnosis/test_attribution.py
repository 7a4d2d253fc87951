"""What a finding says of its dead units where an autopsy was made, and where none was."""

from dataclasses import replace

import numpy as np

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.kill import EXHIBIT, LayerKill
from defib.core.run import Exhibit, RunView
from defib.diagnosis import engine
from defib.diagnosis.cases import Plan, relapsing_loss, run_of
from defib.diagnosis.measures.attribution import attribution
from defib.report.text import to_text


def dying(target: str = "train.py") -> RunView:
    """Units 0 to 5 of a layer die at step 100, unit 6 at step 60."""
    dies = {**dict.fromkeys(range(6), 100), 6: 60}
    run = run_of(Plan(path="fc1", dies=dies), loss=relapsing_loss(at=100))
    return replace(run, facts={**run.facts, "target": target})


def kill(units: list[int], *, own: float, upstream: float, alpha: float, step: int) -> LayerKill:
    """Units that stood at 1; the two parts are what was done to them, each exactly as told."""
    count = len(units)

    def all_(value: float) -> np.ndarray:
        return np.full(count, value)

    return LayerKill(
        path="fc1", kind="Linear", units=np.array(units), units_total=8, samples=32,
        stronghold=np.zeros(count, np.int64), before=all_(1.0), after=all_(1.0 + own + upstream),
        highest=all_(1.0 + own + upstream), own=all_(own), own_bias=all_(own / 2), upstream=all_(upstream),
        cross=all_(0.0), momentum=all_(0.25 * own), decay=all_(0.0), alpha=all_(alpha),
        alpha_low=all_(alpha), alpha_high=all_(alpha), without_own=all_(1.0 + upstream) > 0,
        without_upstream=all_(1.0 + own) > 0, bias=all_(-0.1), bias_zero=all_(0) > 1, bias_raise=all_(0.5),
        centring=all_(0.3), negative=all_(np.nan), crossing=np.full(count, step), residual=1e-16, exact=False,
    )  # fmt: skip


def exhibit(layer: LayerKill, step: int) -> Exhibit:
    facts, arrays = layer.to_exhibit()
    return Exhibit(kind=EXHIBIT, path=layer.path, step=step, facts={**facts, "rank": 0}, arrays=arrays)


def finding(run: RunView) -> Finding:
    return next(f for f in engine.diagnose(run).findings if f.rule == "dead-unit")


def test_without_an_autopsy_the_finding_names_the_command_that_makes_one() -> None:
    found = finding(dying())
    assert found.cause is Cause.DIED_AT_STEP
    assert any(line.startswith("defib run --autopsy train.py") for line in found.try_next)
    assert not any("autopsy" in e.name for e in found.evidence)


def test_where_none_could_be_made_it_says_why() -> None:
    run = dying()
    run = replace(run, facts={**run.facts, "autopsy": {"on": False, "why_off": "torch.compile is used"}})
    assert finding(run).try_next == ("no autopsy could be made: torch.compile is used",)


def test_a_born_dead_unit_calls_for_no_autopsy() -> None:
    run = run_of(Plan(path="fc1", dies=dict.fromkeys(range(6), 0)))
    assert finding(run).try_next == ()


def test_with_one_it_says_what_the_units_died_of_and_how_small_the_step_had_to_be() -> None:
    run = dying()
    own = kill([0, 1, 2, 3], own=-2.0, upstream=-0.5, alpha=0.31, step=99)
    drift = kill([4, 5], own=-0.5, upstream=-2.0, alpha=0.4, step=99)
    run = replace(run, exhibits=(exhibit(own.joined(drift), 99),))
    found = finding(run)
    assert found.message.endswith(
        "; cause of death: own update (4 of 6); to kill none, the step of 99 would have had to be below "
        "0.31 of its size"
    )
    values = {e.name: e.value for e in found.evidence}
    assert values["units with an autopsy"] == 6
    assert values["killed by own update"] == 4
    assert values["killed by upstream drift"] == 2
    assert values["death-free factor of the killing step"] == 0.31
    assert values["own update: share of the fall"] == 0.8
    assert values["upstream drift: share of the fall"] == 0.2
    assert values["momentum: share of the own update"] == 0.25
    assert values["would fire with centred inputs"] == 6
    assert values["would fire without negative weights"] == 0
    assert found.try_next == ()
    assert "died of" not in to_text(engine.diagnose(run)).replace("cause of death", "")


def test_only_the_step_that_really_silenced_a_unit_counts() -> None:
    """A unit that died at step 60, came back and died at step 100 was not killed at step 60."""
    run = dying()
    early, other = kill([0], own=-9.0, upstream=0.0, alpha=0.1, step=59), kill([7], own=-9.0, upstream=0.0,
        alpha=0.1, step=99)  # fmt: skip
    run = replace(run, exhibits=(exhibit(early, 59), exhibit(other, 99)))
    mask, died = np.ones(8, bool), np.array([100] * 6 + [60, 200])
    assert attribution(run, "fc1", mask, died) is None
    assert attribution(run, "elsewhere", mask, died) is None
    assert not any("autopsy" in e.name for e in finding(run).evidence)


def test_exhibits_of_other_kinds_are_left_alone() -> None:
    run = dying()
    other = Exhibit(kind="confusion", path="fc1", step=99, facts={}, arrays={})
    assert finding(replace(run, exhibits=(other,))) == finding(run)
