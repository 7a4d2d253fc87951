"""Everything that a watcher could disturb, as bytes.

One comparison serves both ends: it must find no difference between a watched and
a bare run, and it must find every violation that is planted.
"""

import gc
import hashlib
import os
import pickle
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from families import FAMILIES, Training
from torch import Tensor, nn
from torch.nn.modules import module as module_globals
from torch.optim import optimizer as optimizer_globals

from defib.capture.session import Session

Fingerprint = dict[str, str]


def digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def tensor_digest(tensor: Tensor | None) -> str:
    """SHA-256 of the raw bytes (``torch.equal`` calls NaN unequal and -0 equal to 0), with layout."""
    if tensor is None:
        return "none"
    tensor = tensor.detach()
    if tensor.is_sparse:
        whole = (tensor._indices(), tensor._values(), tensor.is_coalesced())
        return digest([tensor_digest(t) if isinstance(t, Tensor) else t for t in whole])
    about = (tuple(tensor.shape), tuple(tensor.stride()), str(tensor.dtype), str(tensor.device))
    raw = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(repr(about).encode() + raw).hexdigest()


def _parts(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Tensor):
        yield prefix, tensor_digest(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _parts(f"{prefix}.{key}", inner)
    elif isinstance(value, list | tuple):
        for key, inner in enumerate(value):
            yield from _parts(f"{prefix}[{key}]", inner)
    elif not callable(value):
        yield prefix, repr(value)


def environment() -> Fingerprint:
    """State of the process that no watcher may change."""
    return {
        "rng torch": tensor_digest(torch.get_rng_state()),
        "rng python": digest(random.getstate()),
        "rng numpy": digest(pickle.dumps(np.random.get_state())),
        "grad mode": str(torch.is_grad_enabled()),
        "inference mode": str(torch.is_inference_mode_enabled()),
        "default dtype": str(torch.get_default_dtype()),
        "default device": str(torch.get_default_device()),
        "threads": str((torch.get_num_threads(), torch.get_num_interop_threads())),
        "deterministic": str(
            (torch.are_deterministic_algorithms_enabled(), torch.get_deterministic_debug_mode())
        ),
        "matmul precision": torch.get_float32_matmul_precision(),
        "autocast": str((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))),
        "anomaly": str(torch.is_anomaly_enabled()),
        "cwd": os.getcwd(),
        "environ": digest(sorted(i for i in os.environ.items() if not i[0].startswith("PYTEST_"))),
        "signals": str([signal.getsignal(s) for s in sorted(signal.valid_signals())]),
        "warnings": str(warnings.filters),
        "recursion": str(sys.getrecursionlimit()),
        "excepthook": str((sys.excepthook, sys.gettrace(), sys.getprofile(), sys.displayhook)),
        "streams": str((sys.stdout, sys.stderr)),
        "gc": str((gc.isenabled(), gc.get_threshold(), gc.callbacks)),
        "numpy errors": str(np.geterr()),
        "global module hooks": str(
            [
                (k, len(v))
                for k, v in vars(module_globals).items()
                if k.startswith("_global_") and isinstance(v, dict)
            ]
        ),
        "dispatch modes": str((torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack())),
    }


def registrations() -> Fingerprint:
    """What a watcher may change while it watches, and must put back."""
    return {
        "autograd.backward": str(torch.autograd.backward),
        "optimizer hooks": str(
            [len(v) for k, v in sorted(vars(optimizer_globals).items()) if k.startswith("_global_optimizer")]
        ),
    }


def _module_state(name: str, root: nn.Module) -> Iterator[tuple[str, str]]:
    for path, module in root.named_modules():
        where = f"{name}.{path}"
        about = {k: v for k, v in vars(module).items() if k not in {"_parameters", "_buffers", "_modules"}}
        yield f"{where} attributes", str(sorted(about))
        yield f"{where} type", str(type(module))
        yield f"{where} training", str(module.training)
        yield f"{where} hooks", str([(k, len(v)) for k, v in about.items() if k.endswith("hooks")])
    for path, p in root.named_parameters(remove_duplicate=False):
        yield f"{name}.{path}", tensor_digest(p)
        yield f"{name}.{path} grad", tensor_digest(p.grad)
        grad_version = None if p.grad is None else (p.grad._version, p.grad.requires_grad)
        yield f"{name}.{path} version", str((p._version, grad_version, p.requires_grad, p.is_leaf))
        hooks = (p._backward_hooks, p._post_accumulate_grad_hooks)
        yield f"{name}.{path} hooks", str([None if h is None else len(h) for h in hooks])
        yield f"{name}.{path} attributes", str(sorted(vars(p)))
    for path, b in root.named_buffers():
        yield f"{name}.{path}", tensor_digest(b)
        yield f"{name}.{path} version", str(b._version)


def state(training: Training) -> Fingerprint:
    """Networks and optimisers, tensor by tensor."""
    marks: Fingerprint = {}
    for name, root in training.modules.items():
        marks.update(_module_state(name, root))
    for i, optimizer in enumerate(training.optimizers):
        marks.update(_parts(f"optimizer[{i}]", optimizer.state_dict()))
        marks[f"optimizer[{i}] attributes"] = str(sorted(k for k in vars(optimizer)))
        hooks = {k: v for k, v in vars(optimizer).items() if "hooks" in k}
        marks[f"optimizer[{i}] hooks"] = str({k: len(v) for k, v in hooks.items()})
    return marks


def step_mark(number: int, outputs: list[Tensor]) -> Fingerprint:
    """After one step: what it returned, and the process around it."""
    marks = {f"step {number} output {i}": tensor_digest(t) for i, t in enumerate(outputs)}
    versions = ["untracked" if t.is_inference() else t._version for t in outputs]
    marks |= {f"step {number} output {i} version": str(v) for i, v in enumerate(versions)}
    return marks | {f"step {number} {k}": v for k, v in environment().items()}


def differences(one: Fingerprint, other: Fingerprint) -> list[str]:
    """Names of all that differs."""
    return sorted(k for k in one.keys() | other.keys() if one.get(k) != other.get(k))


def run(
    name: str, seed: int, watcher: Callable[[Training], Session] | None = None, steps: int = 4
) -> tuple[Fingerprint, Session | None]:
    """Train one family from a seed, bare or watched; the marks of the whole run."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    training = FAMILIES[name]()
    session = watcher(training) if watcher else None
    marks: Fingerprint = {}
    try:
        for number in range(steps):
            marks |= step_mark(number, training.step())
    finally:
        if session is not None:
            session.close()
    return marks | environment() | registrations() | state(training), session
