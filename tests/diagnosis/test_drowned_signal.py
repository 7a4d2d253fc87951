"""What drowns a signal is a strong dropout that is still there, in a run that gets nowhere."""

from dataclasses import replace

import numpy as np
import pytest

from defib.core.finding import Severity
from defib.core.run import Event, RunView
from defib.diagnosis.case_parts import CLASSES, objective_of
from defib.diagnosis.cases import Plan, flat_loss, run_of
from defib.diagnosis.rules.drowned_signal import DrownedSignal


def dropping(*told: tuple[int, str, float], end: float = 2.303) -> RunView:
    """A classifier at the best constant's level, of which these dropouts were told: step, layer, share."""
    events = [Event(step=t, kind="dropout", data={"layer": p, "share": s}) for t, p, s in told]
    run = run_of(Plan(path="fc1"), Plan(path="fc2"), loss=flat_loss(level=end), events=events)
    return replace(run, objective=objective_of(CLASSES))


@pytest.mark.parametrize(("share", "found"), [(0.5, 0), (0.75, 0), (0.8, 1), (0.9, 1)])
def test_a_half_is_not_blamed_and_four_fifths_are(share, found):
    assert len(list(DrownedSignal().check(dropping((0, "fc1", share))))) == found


def test_a_dropout_that_a_schedule_took_back_is_not_blamed():
    assert not list(DrownedSignal().check(dropping((0, "fc1", 0.9), (50, "fc1", 0.1))))


def test_the_layer_behind_which_most_is_dropped_is_named_with_the_number_of_the_others():
    (finding,) = DrownedSignal().check(dropping((0, "fc1", 0.85), (7, "fc2", 0.95)))
    assert (finding.layer, finding.since_step, finding.severity) == ("fc2", 7, Severity.ERROR)
    assert "95%" in finding.message
    assert "one more layer" in finding.message


def test_a_limit_can_be_set():
    run = dropping((0, "fc1", 0.6))
    assert list(DrownedSignal({"share": 0.6}).check(run))
    assert np.isclose(DrownedSignal().limit("share"), 0.8)
