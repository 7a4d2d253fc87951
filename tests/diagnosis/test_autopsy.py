"""What is said of the update that killed."""

from dataclasses import replace

import numpy as np
import pytest

from defib.core.run import RunView
from defib.diagnosis.case_parts import sizes_of
from defib.diagnosis.cases import Plan, relapsing_loss, run_of
from defib.diagnosis.measures.autopsy import autopsy


def run(every: int = 1) -> RunView:
    """A layer of weights that are stepped by 0.01, and by 5 on step 99."""
    norms = sizes_of({"fc1.weight": (10.0, 0.01), "head.weight": (3.0, 7.0)}, every=every, readings=200)
    update = norms.update.copy()
    update[norms.steps == 99, 0] = 5.0
    return run_of(
        Plan(path="fc1", dies={0: 100}), loss=relapsing_loss(at=100), norms=replace(norms, update=update)
    )


def test_a_killing_update_that_was_sampled_is_measured_against_the_usual() -> None:
    found = autopsy(run(), ("fc1",), 100)
    assert found is not None
    assert (found.step, found.update.there, found.update.usual) == (99, 5.0, 0.01)
    assert found.update.ratio == pytest.approx(500)
    assert found.loss.there == pytest.approx(relapsing_loss(at=100)[99])
    assert found.after == pytest.approx(relapsing_loss(at=100)[100])
    assert found.lr.ratio == 1.0


def test_one_that_was_not_sampled_is_said_to_be_so() -> None:
    found = autopsy(run(every=10), ("fc1",), 100)
    assert found is not None
    assert np.isnan(found.update.there)
    values = {e.name: e.value for e in found.evidence}
    assert values["size of the killing update, all tensors of the layer"] == "not observed"
    assert values["size of the killing update, all tensors of the layer: usual"] == pytest.approx(0.01)
    assert not any(isinstance(v, float) and np.isnan(v) for v in values.values())


def test_a_unit_that_never_lived_was_killed_by_no_update() -> None:
    assert autopsy(run(), ("fc1",), 0) is None
