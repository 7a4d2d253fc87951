"""One sampled backward: statistics of every activation, and of the gradient on both sides of it.

Letters: ``U`` units.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch

from defib.capture.border import Transfer
from defib.capture.graph import Tap, Walk
from defib.capture.kernels import tally
from defib.capture.preactivation import recompute
from defib.core.activation import Limits
from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.torchgraph.nodes import saved_tensor

_FLOATS = {torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float32: "float32"}
_FLOATS[torch.float64] = "float64"


_Key = tuple[Site, Signal, int, int]
"""Site, signal, samples, units."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    site: Site
    signal: Signal
    samples: int
    values: torch.Tensor


class Reading:
    """Statistics taken while one backward runs; several of one step are merged by :meth:`collect`.

    Nothing of the user's is kept: tensors are reduced on the spot, hooks sit on
    autograd nodes that die with the backward and hold this object only.

    Attributes:
        seconds: Time that its hooks took inside backward.

    Args:
        walk: The graph that backward is about to run through.
        preactivations: Also recompute the pre-activations that autograd did not keep.
    """

    def __init__(self, walk: Walk, preactivations: bool) -> None:
        self.walk = walk
        self.faults: list[Exception] = []
        self.unread: dict[Site, str] = {}
        self.samples = 0
        self.seconds = 0.0
        self._parts: list[_Part] = []
        self._handles: list[Any] = []
        try:
            for tap in walk.taps:
                with torch.no_grad():
                    self._forward(tap, preactivations)
                self._handles.append(tap.node.register_hook(self._behind(tap)))
        except Exception:
            self.done()
            raise

    def done(self) -> None:
        """The backward is over: take the hooks off (a retained graph may run again)."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def collect(self) -> "Collected":
        """The statistics, on their way to the host."""
        self.done()
        by_device: dict[torch.device, list[_Part]] = {}
        for part in self._parts:
            by_device.setdefault(part.values.device, []).append(part)
        batches = [
            (
                [(p.site, p.signal, p.samples, int(p.values.shape[1])) for p in parts],
                Transfer(torch.cat([p.values.flatten() for p in parts])),
            )
            for parts in by_device.values()
        ]
        return Collected(samples=self.samples, walk=self.walk, batches=batches)

    def _forward(self, tap: Tap, preactivations: bool) -> None:
        saved = tap.activation.saved(tap.wiring.operation)
        tensor = saved_tensor(tap.node, saved)
        if tensor is None or not _readable(tensor):
            self.unread[tap.wiring.site] = "its activations are recomputed, offloaded or not plain tensors"
            return
        options, dtype = tap.wiring.options, _FLOATS[tensor.dtype]
        flat = tap.activation.flat(saved, dtype, options)
        saturated = tap.activation.saturated(saved, dtype, options)
        signal = Signal.PREACTIVATION if saved == "self" else Signal.ACTIVATION
        self._take(tap, signal, tensor, flat, saturated)
        if not preactivations:
            return
        if signal is Signal.ACTIVATION:
            z = recompute(tap)
            if z is not None:
                self._take(tap, Signal.PREACTIVATION, z)
        else:
            h = _apply(tap.activation.name, tensor[:256], options)
            if h is not None:
                self._take(tap, Signal.ACTIVATION, h)

    def _behind(self, tap: Tap) -> Any:
        """A hook for one node: gradients on both sides. It changes nothing and never raises."""

        def hook(behind: tuple[Any, ...], before: tuple[Any, ...]) -> None:
            start = perf_counter()
            try:
                with torch.no_grad():
                    if before and isinstance(before[0], torch.Tensor):
                        self._take(tap, Signal.ACTIVATION_GRAD, before[0].detach())
                    if behind and isinstance(behind[0], torch.Tensor):
                        self._take(tap, Signal.PREACTIVATION_GRAD, behind[0].detach())
            except Exception as error:  # noqa: BLE001 - nothing of ours may reach the user's backward
                self.faults.append(error)
            self.seconds += perf_counter() - start

        return hook

    def _take(
        self, tap: Tap, signal: Signal, tensor: torch.Tensor, flat: Limits | None = None,
        saturated: Limits | None = None,
    ) -> None:  # fmt: skip
        if not _readable(tensor):
            return
        samples = int(tensor.shape[0]) if tensor.ndim else 1
        self.samples = max(self.samples, samples)
        if torch.is_autocast_enabled(tensor.device.type):
            with torch.autocast(tensor.device.type, enabled=False):
                values = tally(tensor, tap.axis(tensor), flat, saturated)
        else:  # entering that context costs as much as a small reading
            values = tally(tensor, tap.axis(tensor), flat, saturated)
        self._parts.append(_Part(site=tap.wiring.site, signal=signal, samples=samples, values=values))


class Collected:
    """A reading whose numbers are on the host, or on their way there.

    Args:
        samples: Rows of the batch.
        walk: The graph that was read; its nodes are dropped here, its wiring is kept.
        batches: For each device, what the numbers are and the numbers.
    """

    def __init__(self, samples: int, walk: Walk, batches: list[tuple[list[_Key], Transfer]]) -> None:
        self.samples = samples
        self.wirings = tuple(t.wiring for t in walk.taps)
        self.taken: set[tuple[Site, Signal]] = set()
        self._batches = batches

    @property
    def ready(self) -> bool:
        """True once :meth:`tallies` will not wait."""
        return all(transfer.ready for _, transfer in self._batches)

    def tallies(self) -> list[tuple[Site, Signal, Tally]]:
        """The statistics; a tensor on which the unit axis was not found has one pseudo-unit."""
        found = []
        for keys, transfer in self._batches:
            values, start = transfer.array(), 0
            for site, signal, samples, units in keys:
                end = start + len(Tally.rows()) * units
                rows = values[start:end].reshape(-1, units).astype(np.float64)
                found.append((site, signal, Tally.from_array(samples, rows)))
                start = end
        return found


def _readable(tensor: torch.Tensor) -> bool:
    """A plain, dense, floating point tensor with entries."""
    return (
        type(tensor) in {torch.Tensor, torch.nn.Parameter}
        and tensor.dtype in _FLOATS
        and tensor.layout is torch.strided
        and tensor.device.type != "meta"
        and tensor.numel() > 0
        and not tensor.is_nested
    )


def _apply(name: str, z: torch.Tensor, options: Mapping[str, float]) -> torch.Tensor | None:
    """f(z) for the activations that torch.nn.functional has under this name, with a node's constants."""
    function = getattr(torch.nn.functional, name, None)
    names = {"leaky_relu": ("negative_slope",), "hardtanh": ("min_val", "max_val"), "celu": ("alpha",)}
    if function is None or name in {"prelu", "rrelu", "elu"}:
        return None
    arguments = {k: options[k] for k in names.get(name, ()) if k in options}
    result: torch.Tensor = function(z, **arguments)
    return result
