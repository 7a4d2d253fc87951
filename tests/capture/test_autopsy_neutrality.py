"""Do no harm with autopsies on: every pass is kept, every step is looked into, and no bit differs."""

import pytest
import torch
from families import FAMILIES, Training
from fingerprint import differences, run
from memory import Memory

from defib.capture.autopsy import Autopsies
from defib.capture.recorder import Recorder
from defib.capture.session import Session
from defib.core.kill import Inquest
from defib.probe.kill import inquire

NOT_FOLLOWED = {"lbfgs", "saved_tensors_moved_by_the_users_hooks"}
"""A closure is refused; a part that is cut out anew for each pass (``model[:4]``) is gone when wanted."""


class Eager(Autopsies):
    """Looks into every step at once, whether a unit died or not."""

    looked = 0

    def _step(self, clock, optimizer):
        super()._step(clock, optimizer)
        for album in self._camera.albums.values():
            if len(album.frames) < 2:
                continue
            before, after = list(album.frames)[-2:]
            self._camera.blind = True
            inquire(
                Inquest(
                    model=album.module,
                    before=album.state(before),
                    after=album.state(after),
                    calls=tuple(before.calls),
                    steps=before.own,
                )
            )
            self._camera.blind = False
            self.looked += 1


def watch(training: Training, sink: Memory, eager: type[Autopsies] = Eager) -> Session:
    recorder = Recorder(sink, list(training.modules.values()), training.optimizers, every=1)
    recorder.autopsies = eager(sink, recorder.names, inquire, 256 << 20, given=True)
    return Session(recorder, sink)


def harm(bare: dict[str, str], watched: dict[str, str]) -> list[str]:
    """What differs, but for the two module hooks that are there while an autopsy is on."""
    return [
        d for d in differences(bare, watched) if not (d.startswith("step") and d.endswith("module hooks"))
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_with_autopsies_is_bit_identical(name, sink):
    run(name, 0)  # lazily initialised parts of torch and transformers settle
    bare, _ = run(name, 0)

    watched, session = run(name, 0, lambda training: watch(training, sink))

    assert harm(bare, watched) == []
    autopsies = session._recorder.autopsies
    assert session.faults == 0, sink.events
    assert not [e for e in sink.events if e[1] == "autopsy-fault"], sink.events
    assert (autopsies.looked > 0) == (name not in NOT_FOLLOWED), autopsies.why_off
    assert torch.compile.__module__ == "torch"
