"""How much memory a probe will need, told before it starts.

Letters: ``P`` parameters that require a gradient.
"""

import torch
from torch import Tensor

from defib.core.errors import UsageError
from defib.probe.objective import Objective

STEPS_LEAST = 8
"""Lanczos steps below which an eigenvalue is no more than a guess."""


def fitting(objective: Objective, steps: int, memory: float | None) -> int:
    """As many of the steps as the memory takes.

    Needed are the basis (one vector a step), twelve vectors beside it, and for a kept graph about
    three times what one forward pass saves: the pass, its gradient, and the product's own backward.

    Returns:
        At most ``steps``.

    Raises:
        UsageError: If fewer than eight fit.
    """
    free = allowed(objective.theta.device) if memory is None else memory
    vector = objective.count * objective.theta.element_size()
    graph = 3 * saved_bytes(objective)
    room = int((free - graph - 12 * vector) / max(vector, 1))
    if room < min(steps, STEPS_LEAST):
        needed = graph + (12 + min(steps, STEPS_LEAST)) * vector
        raise UsageError(
            f"the curvature of {objective.count:,} parameters needs about {plain_size(needed)} of memory and "
            f"{plain_size(free)} may be used: give it more (memory=), a smaller batch, or freeze layers"
        )
    return min(steps, room)


def saved_bytes(objective: Objective) -> int:
    """Bytes that one forward pass of the largest batch keeps for its backward, each storage once.

    Parameters are counted too, since a pass in another precision copies them.

    Returns:
        Bytes.
    """
    held: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    largest = max(objective.pieces, key=lambda piece: piece.samples)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _, value = objective.call(objective.leaves(), largest)
    del value
    return sum(held.values())


def allowed(device: torch.device) -> float:
    """Half of what is free on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2
    return _free() / 2


def _free() -> float:
    """Free bytes of the machine; where the system does not tell, 4 GiB."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return float(line.split()[1]) * 1024
    except OSError:
        pass
    return 4.0 * 2**30


def plain_size(size: float) -> str:
    """``2.5 GB``, in units of 10^3."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"
