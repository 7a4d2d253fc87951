"""Weights that are each a few times too large, and together multiply the signal."""

from defib.core.cause import Cause
from defib.diagnosis.case_weights import multiplying
from defib.diagnosis.cases import flat_loss
from defib.diagnosis.measures.gains import first_gains, first_growth, growth
from defib.diagnosis.measures.ledger import main_path
from defib.diagnosis.measures.wires import Wires
from defib.diagnosis.rules.initialisation import Initialisation


def test_the_factors_along_the_depth_are_multiplied() -> None:
    run = multiplying(flat_loss(), 10.0)
    wires = Wires(run)
    path = main_path(run, wires)
    assert len(path) == 4
    assert abs(growth(first_gains(run, wires), path) - 3.0) < 1e-9  # three links of one decade each


def test_weights_that_should_multiply_and_do_not_are_not_blamed() -> None:
    run = multiplying(flat_loss(), 5.0, growth=1.0)
    assert first_growth(run, main_path(run, Wires(run))) < 0.5
    assert not list(Initialisation().check(run))


def test_growth_that_the_first_weights_do_not_explain_is_not_blamed_on_them() -> None:
    run = multiplying(flat_loss(), 1.0, growth=10.0)
    assert first_growth(run, main_path(run, Wires(run))) > 2
    assert not list(Initialisation().check(run))


def test_both_together_are() -> None:
    found = list(Initialisation().check(multiplying(flat_loss(), 5.0)))
    assert [finding.cause for finding in found] == [Cause.WEIGHTS_TOO_LARGE]
