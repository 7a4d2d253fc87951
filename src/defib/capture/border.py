"""The only place where a tensor becomes an array."""

import numpy as np
import torch
from numpy.typing import NDArray


class Transfer:
    """One copy from a device to the host, started now and read later.

    On an accelerator the copy goes to pinned memory on the current stream and
    nobody waits for it: ask :attr:`ready`, then read. On the CPU it is ready at once.

    Args:
        tensor: What to copy; detached, of any shape.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if tensor.device.type == "cuda":
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._host = tensor.to("cpu")

    @property
    def ready(self) -> bool:
        """True once :meth:`array` will not wait."""
        return self._event is None or self._event.query()

    def array(self) -> NDArray[np.generic]:
        """The values; waits for the device if the copy is still under way."""
        if self._event is not None:
            self._event.synchronize()
        array: NDArray[np.generic] = self._host.numpy()
        return array


def scalar(tensor: torch.Tensor) -> float | torch.Tensor:
    """The value of a 0-d tensor where that costs no wait, else a private copy of it on its device."""
    detached = tensor.detach()
    return float(detached.item()) if detached.device.type == "cpu" else detached.clone()


def scalars(values: list[float | torch.Tensor]) -> NDArray[np.float32]:
    """Values kept by :func:`scalar`, as float32 of shape (T,); waits for the device."""
    waiting = [v for v in values if isinstance(v, torch.Tensor)]
    fetched = iter(torch.stack([v.float() for v in waiting]).tolist() if waiting else [])
    return np.array([next(fetched) if isinstance(v, torch.Tensor) else v for v in values], np.float32)
