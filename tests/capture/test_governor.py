"""Everything that defib does beside readings is paid from the budget before readings are."""

import pytest

from defib.capture.governor import ALLOWANCE, Governor

STEP, READING = 0.01, 0.002


def spent(flush: float, seconds: float = 200.0) -> tuple[float, float]:
    """Shares of the time that all of defib and its readings took; every 100th step has a flush."""
    governor = Governor(0.01)
    read = 0.0
    for step in range(int(seconds / STEP)):
        governor.step(STEP, flush if step % 100 == 0 else 0.0)
        if governor.due(step):
            governor.charge_reading(READING)
            read += READING
    return governor.spent / seconds, read / seconds


@pytest.mark.parametrize("flush", [0.0, 0.001, 0.004, 0.007])
def test_what_a_flush_costs_at_once_is_taken_from_the_readings_after_it(flush: float) -> None:
    whole, readings = spent(flush)
    started = (ALLOWANCE + 3 * READING) / 200
    assert 0.0095 < whole < 0.0101 + started
    assert readings == pytest.approx(whole - flush, rel=0.01)


def test_a_quarter_of_the_budget_stays_for_readings_whatever_the_rest_costs() -> None:
    _, readings = spent(0.05)
    assert 0.0024 < readings < 0.0026 + (ALLOWANCE + 3 * READING) / 200


def test_a_burst_is_forgotten_after_a_while() -> None:
    governor = Governor(0.01)
    governor.step(STEP, 100.0)
    for _ in range(int(ALLOWANCE / 0.0075 / STEP) + 1):
        governor.step(STEP, 0.0)
    governor._credit = 0.0
    governor.step(STEP, 0.0)
    assert governor._credit == pytest.approx(0.01 * STEP)
