"""Do no harm: a watched run is bit-identical to a bare one, and this test can tell."""

import pytest
from families import FAMILIES, Training
from fingerprint import differences, run
from memory import Memory

from defib.capture.session import Session, start


def watch(training: Training, sink: Memory) -> Session:
    return start(list(training.modules.values()), training.optimizers, sink=sink, every=1)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_watched_run_is_bit_identical(name, seed, sink):
    run(name, seed)  # lazily initialised parts of torch and transformers settle
    bare, _ = run(name, seed)
    again, _ = run(name, seed)
    assert differences(bare, again) == [], "the control differs: the family itself is not deterministic"

    watched, session = run(name, seed, lambda training: watch(training, sink))

    assert differences(bare, watched) == []
    assert len(bare) > 100
    # A watcher that saw nothing harms nothing either: it must have looked, without a fault.
    assert session.faults == 0, sink.events
    assert session.readings > 0
    assert sink.windows, "no tally arrived"
    assert any(t.count.sum() > 0 for _, t in sink.windows.values())
    assert sink.lives, "no liveness arrived"
    assert not [e for e in sink.events if e[1] == "watcher-fault"]
    assert sink.status == "finished"
