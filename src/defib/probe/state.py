"""Leaves a model, its gradients and every random generator as they were."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn


@contextlib.contextmanager
def untouched(*roots: nn.Module) -> Iterator[None]:
    """Puts back what a forward and a backward pass change, whatever happens in between.

    Restored bit for bit: parameters, buffers (as the same tensors), ``.grad`` (the same object with
    the same bits, or None), ``requires_grad``, ``training`` of every module, and the generators of
    torch (all devices in use), Python and numpy. Attributes that a module's own code keeps outside
    of parameters and buffers are not known and not restored.

    Args:
        *roots: The model, and the loss if it is a module.

    Yields:
        Nothing.
    """
    modules = {id(m): m for root in roots for m in root.modules()}
    tensors = _Tensors(list(modules.values()))
    training = [(m, m.training) for m in modules.values()]
    generators = Generators()
    try:
        yield
    finally:
        tensors.restore()
        for module, mode in training:
            module.training = mode
        generators.restore()


class _Tensors:
    """Parameters, buffers and gradients of modules at one moment."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self._parameters = [(m, dict(m._parameters)) for m in modules]
        self._buffers = [(m, dict(m._buffers)) for m in modules]
        held: list[Tensor] = [p for _, d in self._parameters for p in d.values() if p is not None]
        held += [b for _, d in self._buffers for b in d.values() if b is not None]
        # A lazy module's parameters hold nothing yet; only a copy of such a model is ever checked.
        once = {id(t): t for t in held if not nn.parameter.is_lazy(t)}.values()
        self._values = [(t, t.detach().clone(), t.requires_grad, t.grad) for t in once]
        self._grads = [(g, g.detach().clone()) for _, _, _, g in self._values if g is not None]

    def restore(self) -> None:
        """Writes only what differs, so that an untouched tensor keeps even its version counter."""
        for module, parameters in self._parameters:
            module._parameters.clear()
            module._parameters.update(parameters)
        for module, buffers in self._buffers:
            module._buffers.clear()
            module._buffers.update(buffers)
        with torch.no_grad():
            for tensor, value, needs, grad in self._values:
                _put_back(tensor, value)
                if tensor.requires_grad != needs and tensor.is_leaf:
                    tensor.requires_grad_(needs)
                if tensor.grad is not grad:
                    tensor.grad = grad
            for grad, value in self._grads:
                _put_back(grad, value)


def _put_back(tensor: Tensor, value: Tensor) -> None:
    """The old bits; compared as bytes, for NaN equals nothing and -0 equals 0."""
    if tensor.shape != value.shape or tensor.dtype != value.dtype or tensor.device != value.device:
        tensor.data = value
    elif tensor.layout is not torch.strided or not _same_bits(tensor, value):
        tensor.copy_(value)


def _same_bits(a: Tensor, b: Tensor) -> bool:
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(a.element_size())
    if whole is None or a.is_complex():
        return False
    flat = a.detach().contiguous().view(-1), b.contiguous().view(-1)
    return torch.equal(flat[0].view(whole), flat[1].view(whole))


class Generators:
    """States of every random generator at one moment."""

    def __init__(self) -> None:
        in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._torch = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if in_use else None
        self._python = random.getstate()
        self._numpy = np.random.get_state()

    def restore(self) -> None:
        """Puts every generator back."""
        torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)
        random.setstate(self._python)
        np.random.set_state(self._numpy)
