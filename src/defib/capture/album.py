"""For an autopsy: the last few states of a module's parameters, each with the passes made under it."""

import weakref
from collections import deque
from dataclasses import dataclass, field

import torch
from torch import nn

from defib.core.kill import Call, OwnStep


class Refusal(Exception):
    """Something of the user's that an autopsy cannot be made of, in one line."""


@dataclass(kw_only=True)
class Frame:
    """One state of the parameters and what was done with it.

    Attributes:
        values: Copies, in the album's order of names.
        calls: Passes made in this state.
        steps: For each optimiser (its clock's index) the step that ended it.
        own: By parameter name what its optimiser kept when it stepped.
        size: Bytes of all copies.
    """

    values: list[torch.Tensor]
    calls: list[Call] = field(default_factory=list)
    steps: dict[int, int] = field(default_factory=dict)
    own: dict[str, OwnStep] = field(default_factory=dict)
    size: int = 0


class Album:
    """The last frames of one module.

    Args:
        module: The module; held weakly.
        slots: How many frames are kept at most.
    """

    def __init__(self, module: nn.Module, slots: int) -> None:
        self.slots = slots
        self.frames: deque[Frame] = deque()
        self.stale = True
        self._module = weakref.ref(module)
        kept = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        self.parameters = {id(p): n for n, p in kept}
        self.names = [n for n, _ in kept] + [n for n, _ in module.named_buffers()]
        self._refs = [weakref.ref(p) for _, p in kept]
        self._versions = -1
        self._spare: list[torch.Tensor] | None = None

    @property
    def module(self) -> nn.Module | None:
        """The module, while it exists."""
        return self._module()

    @property
    def size(self) -> int:
        """Bytes of all frames."""
        return sum(frame.size for frame in self.frames)

    def look(self) -> Frame:
        """The frame of the parameters as they are now: the last one, or a new one if they were changed.

        Returns:
            The frame.

        Raises:
            Refusal: If they are not plain tensors, or others than when the album was begun.
        """
        module, parameters = self.module, [ref() for ref in self._refs]
        if module is None or any(p is None for p in parameters):
            raise Refusal("parameters of the model were replaced by others")
        tensors = [p.detach() for p in parameters if p is not None]
        versions = sum(p._version for p in parameters if p is not None)
        if self.frames and not self.stale and versions == self._versions:
            return self.frames[-1]
        tensors += [b.detach() for b in module.buffers()]
        if len(tensors) != len(self.names) or any(not is_plain(t) for t in tensors):
            raise Refusal("the model's parameters are sharded, or not plain dense tensors")
        self.stale, self._versions = False, versions
        while len(self.frames) >= self.slots:
            self.drop()
        self.frames.append(Frame(values=self._copies(tensors), size=sum(map(nbytes, tensors))))
        return self.frames[-1]

    def drop(self) -> None:
        """Let go of the oldest frame; its memory is used again."""
        self._spare = self.frames.popleft().values

    def state(self, frame: Frame) -> dict[str, torch.Tensor]:
        """A frame's parameters and buffers by name; what is frozen as it is now."""
        module = self.module
        frozen = {} if module is None else {n: p.detach() for n, p in module.named_parameters()}
        return frozen | dict(zip(self.names, frame.values, strict=True))

    def _copies(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        spare, self._spare = self._spare, None
        if spare is None or any(a.shape != b.shape for a, b in zip(spare, tensors, strict=True)):
            return [t.clone() for t in tensors]
        for old, new in zip(spare, tensors, strict=True):
            old.copy_(new)
        return spare


def nbytes(tensor: torch.Tensor) -> int:
    """Bytes of a tensor's entries."""
    return tensor.numel() * tensor.element_size()


def is_plain(tensor: torch.Tensor) -> bool:
    """A dense tensor with entries, and no subclass with a mind of its own."""
    kinds = {torch.Tensor, nn.Parameter, nn.Buffer}
    return type(tensor) in kinds and tensor.layout is torch.strided and tensor.device.type != "meta"
