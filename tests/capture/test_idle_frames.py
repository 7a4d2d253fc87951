"""What an idle step costs in Python frames: a fixed few, entered at three places, however deep the network.

An idle step is one without a reading. Frames are counted by the interpreter itself (``sys.setprofile``).
"""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
import torch
from memory import Memory
from torch import nn

import defib
from defib.capture import session

OURS = str(Path(defib.__file__).parent)
NEVER = 10**9

Frames = list[tuple[str, str, bool]]
"""Python functions called, in order: file, name, and whether one of ours called it."""

ASKED = {"is_compiling", "is_scripting"}
"""What every entry asks of torch first: a hook must do nothing while dynamo traces it."""

MOST = 20
"""Our own frames on an idle step; less is better, more needs a reason."""


def training(depth: int) -> tuple[nn.Module, Callable[[], None]]:
    torch.manual_seed(0)
    layers = [layer for _ in range(depth) for layer in (nn.Linear(4, 4), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(8, 4)

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return model, step


def frames_of(step: Callable[[], None]) -> Frames:
    """Python functions called in a step."""
    calls: Frames = []

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            caller = frame.f_back.f_code.co_filename if frame.f_back else ""
            calls.append((frame.f_code.co_filename, frame.f_code.co_name, caller.startswith(OURS)))

    sys.setprofile(note)
    try:
        step()
    finally:
        sys.setprofile(None)
    return calls


def idle_frames(depth: int, sink: Memory) -> tuple[Frames, Frames]:
    """Frames of a bare step and of a watched idle one: the shortest of several, for one may have a flush."""
    model, step = training(depth)
    for _ in range(3):
        step()
    bare = min((frames_of(step) for _ in range(5)), key=len)
    watch = session.start(model, sink=sink, every=NEVER)
    for _ in range(3):
        step()
    read_before = watch.readings
    watched = min((frames_of(step) for _ in range(5)), key=len)
    assert watch.readings == read_before == 1
    watch.close()
    assert watch.faults == 0
    return bare, watched


def entries(frames: Frames) -> list[str]:
    """Our functions that were called by somebody else."""
    return [name for file, name, from_us in frames if file.startswith(OURS) and not from_us]


def test_an_idle_step_enters_defib_at_backward_and_at_the_step_hooks_only(sink: Memory) -> None:
    bare, watched = idle_frames(2, sink)
    assert entries(bare) == []
    assert entries(watched) == ["backward", "_step_begins", "_step_ended"]


def test_an_idle_step_adds_no_frame_of_anybody_else(sink: Memory) -> None:
    bare, watched = idle_frames(2, sink)
    theirs = Counter((file, name) for file, name, _ in watched if not file.startswith(OURS))
    added = theirs - Counter((file, name) for file, name, _ in bare)
    assert {name for _, name in added} == ASKED
    assert all(count == 2 for count in added.values())


def test_the_frames_of_an_idle_step_do_not_grow_with_the_network(sink: Memory) -> None:
    counts = [
        sum(file.startswith(OURS) for file, _, _ in idle_frames(depth, sink)[1]) for depth in (1, 3, 30)
    ]
    assert counts[0] == counts[1] == counts[2]
    assert counts[0] <= MOST


def test_a_step_with_a_reading_has_more_frames_so_the_count_can_fail(sink: Memory) -> None:
    model, step = training(2)
    watch = session.start(model, sink=sink, every=1)
    for _ in range(3):
        step()
    with_reading = frames_of(step)
    watch.close()
    assert len(entries(with_reading)) > 3
    assert sum(file.startswith(OURS) for file, _, _ in with_reading) > MOST


@pytest.mark.parametrize("hooks", [0, 1])
def test_a_module_hook_would_be_seen(hooks: int) -> None:
    model, step = training(1)
    step()
    before = len(frames_of(step))
    for layer in list(model)[:hooks]:
        layer.register_forward_hook(lambda *_: None)
    assert (len(frames_of(step)) > before) == bool(hooks)
