"""Do no harm with curvature measured on every step: no bit differs, and what is refused is told why."""

import pytest
import torch
from families import FAMILIES, Training
from fingerprint import differences, run
from memory import Memory

from defib.capture.curvature import Curvatures
from defib.capture.recorder import Recorder
from defib.capture.session import Session
from defib.probe.sharpness import survey

ALONE = "the gradient at the step is not that of this loss alone"
SEVERAL = "several optimisers"
OWN_BACKWARD = "CheckpointFunctionBackward has a backward of its own"
PACKED = "what the graph keeps is packed by hooks"
HALF = "in half precision"

REFUSED = {
    "sparse_embedding_gradients": SEVERAL,
    "embedding_bag": "no second derivative: the derivative for '_embedding_bag_backward'",
    "reentrant_checkpoint": OWN_BACKWARD,
    "non_reentrant_checkpoint": PACKED,
    "gradient_accumulation": ALONE,
    "gan_with_gradient_penalty": SEVERAL,
    "backward_with_create_graph": ALONE,
    "lbfgs": "the optimiser runs the model itself",
    "optimizer_in_backward": SEVERAL,
    "bfloat16_model": HALF,
    "autocast_bfloat16": HALF,
    "grad_scaler_with_float16_autocast": HALF,
    "graph_retained_and_run_twice": ALONE,
    "saved_tensors_moved_by_the_users_hooks": PACKED,
    "users_own_hooks_everywhere": "the script has hooks on parameters",
    "frozen_base_with_a_trained_head": "an operation can be differentiated only once",
}
"""What is not measured, and a part of the reason that is given."""


def watch(training: Training, sink: Memory) -> Session:
    recorder = Recorder(sink, list(training.modules.values()), training.optimizers, every=1)
    recorder.curvatures = Curvatures(sink, survey, every=1)
    return Session(recorder, sink)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_with_its_curvature_measured_is_bit_identical(name, sink):
    run(name, 0)  # lazily initialised parts of torch and transformers settle
    bare, _ = run(name, 0)

    watched, session = run(name, 0, lambda training: watch(training, sink))

    assert differences(bare, watched) == []
    curvatures = session._recorder.curvatures
    told = [curvatures.why_off, *curvatures.skipped]
    assert (curvatures.measured > 0) == (name not in REFUSED), told
    assert any(REFUSED.get(name, "") in reason for reason in told), told
    assert session.faults == 0, sink.events
    assert not [e for e in sink.events if e[1] == "curvature-fault"], sink.events
    assert torch.Tensor.register_hook.__module__ == "torch._tensor"
    assert "retain_grad" not in vars(torch.Tensor)
