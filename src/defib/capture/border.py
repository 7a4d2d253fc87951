"""The only place where a tensor becomes an array."""

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from defib.core.precision import single


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
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            # The copy waits in a stream of the tensor's device, which need not be the current one.
            self._event.record(torch.cuda.current_stream(tensor.device))
        else:
            self._host = tensor.to("cpu")

    @property
    def ready(self) -> bool:
        """True once :meth:`array` will not wait."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def array(self) -> NDArray[np.generic]:
        """The values; waits for the device if the copy is still under way."""
        if self._event is not None:
            self._event.synchronize()
        array: NDArray[np.generic] = self._host.numpy()
        return array


def scalar(tensor: torch.Tensor) -> float | torch.Tensor:
    """The value of a 0-d tensor where that costs no wait, else a private copy of it on its device."""
    return float(tensor.item()) if tensor.is_cpu else tensor.detach().clone().reshape(())


_PLAIN = frozenset((float, int, bool))


class Numbers:
    """Numbers kept by :func:`scalar`; those still on a device come over in one copy that nobody waits for.

    Args:
        values: T numbers or 0-d tensors.
    """

    def __init__(self, values: list[float | torch.Tensor]) -> None:
        self._values = values
        # On the CPU there are thousands of numbers and not one tensor among them.
        plain = _PLAIN.issuperset(map(type, values))
        tensors = [] if plain else [v.double() for v in values if isinstance(v, torch.Tensor)]
        self._transfer = Transfer(torch.stack(tensors)) if tensors else None

    @property
    def ready(self) -> bool:
        """True once :meth:`array` will not wait."""
        return self._transfer is None or self._transfer.ready

    def array(self) -> NDArray[np.float32]:
        """All of them, shape (T,)."""
        if self._transfer is None:
            return single(cast("list[float]", self._values))
        fetched = iter(self._transfer.array())
        return single([float(next(fetched)) if isinstance(v, torch.Tensor) else v for v in self._values])


class Parcel:
    """Tensors of any type in one copy a device, started now and read later; see :class:`Transfer`.

    Args:
        tensors: Detached, of any shapes and types.
    """

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        self._forms = [(t.device, _NUMPY[t.dtype], tuple(t.shape)) for t in tensors]
        self._transfers: dict[torch.device, Transfer] = {}
        for device in dict.fromkeys(t.device for t in tensors):
            parts = [t.contiguous().reshape(-1).view(torch.uint8) for t in tensors if t.device == device]
            self._transfers[device] = Transfer(torch.cat(parts))

    @property
    def ready(self) -> bool:
        """True once :meth:`arrays` will not wait."""
        return all(transfer.ready for transfer in self._transfers.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(int(np.prod(shape)) * np.dtype(kind).itemsize for _, kind, shape in self._forms)

    def arrays(self) -> list[NDArray[Any]]:
        """The tensors' values, in order; waits for the device if the copy is still under way."""
        rest = {device: transfer.array() for device, transfer in self._transfers.items()}
        found: list[NDArray[Any]] = []
        for device, kind, shape in self._forms:
            size = int(np.prod(shape)) * np.dtype(kind).itemsize
            found.append(rest[device][:size].copy().view(kind).reshape(shape))
            rest[device] = rest[device][size:]
        return found


_NUMPY: dict[torch.dtype, type[np.generic]] = {
    torch.float16: np.float16,
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int32: np.int32,
    torch.int64: np.int64,
}


def send(numbers: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    """Whole numbers on a device; nobody waits for them to arrive."""
    tensor = torch.from_numpy(np.ascontiguousarray(numbers))
    return tensor if device.type != "cuda" else tensor.pin_memory().to(device, non_blocking=True)
