"""The gain ledger of recurrent layers, lag by lag, from the layer's own weights on its own input.

A fused kernel hides its time steps, so the layer is computed again step by step in float64. One step
back in time has two parts, whose decades add up exactly: everything elementwise (activations and gates)
takes the gradient of the state s_t to that of the recurrent product W h_(t-1) and of what is carried
over directly; the weights W take it from there to s_(t-1)::

    RNN   h = phi(x + W h')                            nothing is carried
    GRU   h = (1 - z) n + z h'                         z h' is carried
    LSTM  c = f c' + i g,  h = o tanh(c)               f c' is carried; the state is (h, c)

Letters: ``N`` batch, ``T`` time, ``H`` width of the state; a dash marks the step before.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from defib.core.recurrence import Lag, Recurrence
from defib.probe.sizes import decades, norm

State = tuple[Tensor, ...]
Cell = Callable[[Tensor, Tensor, State], State]

_MOST_SAMPLES = 32
_MOST_LAGS = 256
_SAME = 1e-3
"""What the steps give may differ from the module's own output by this much of its largest entry."""


def _plain(activation: Callable[[Tensor], Tensor]) -> Cell:
    """An RNN's cell: the input's part and the recurrent part, each of shape (N, H)."""
    return lambda x, h, _state: (activation(x + h),)


def _lstm(x: Tensor, h: Tensor, state: State) -> State:
    i, f, g, o = (x + h).chunk(4, -1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(x: Tensor, h: Tensor, state: State) -> State:
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, -1), h.chunk(3, -1)
    z = (xz + hz).sigmoid()
    return ((1 - z) * (xn + (xr + hr).sigmoid() * hn).tanh() + z * state[0],)


def _gate(kind: str, x: Tensor, h: Tensor) -> Tensor | None:
    """The gate that carries the state over: an LSTM's forget gate, a GRU's update gate; None for an RNN."""
    if kind == "RNN":
        return None
    return (x + h).chunk(4 if kind == "LSTM" else 3, -1)[1].sigmoid()


@dataclass(eq=False)
class _Called:
    """The first call of one module.

    Attributes:
        given: Its arguments.
        output: What it gave.
        grads: The loss's gradient at outputs, last hidden states and last cells.
    """

    path: str
    module: nn.RNNBase
    given: tuple[Any, ...]
    output: Any
    grads: dict[str, Tensor] = field(default_factory=dict)


class RecurrenceWatch:
    """Keeps what goes into the recurrent modules of a model, and the gradients that come back.

    Args:
        model: The model; nothing is stored on it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._paths = {id(m): p for p, m in model.named_modules() if isinstance(m, nn.RNNBase)}
        self._called: dict[str, _Called] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "RecurrenceWatch":
        if self._paths:
            self._handles.append(nn.modules.module.register_module_forward_hook(self._note))
        return self

    def __exit__(self, *_exc: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _note(self, module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        path = self._paths.get(id(module))
        if path is None or path in self._called or not isinstance(module, nn.RNNBase):
            return
        called = self._called[path] = _Called(path, module, given, output)
        ends = output[1] if isinstance(output[1], tuple) else (output[1],)
        for name, tensor in zip(("output", "h", "c"), (output[0], *ends), strict=False):
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                self._handles.append(tensor.register_hook(_keeper(called.grads, name)))  # type: ignore[no-untyped-call]

    def recurrences(self) -> tuple[Recurrence, ...]:
        """Every recurrent layer that was called; one that cannot be parted says why."""
        with torch._C.DisableTorchFunction():
            return tuple(r for called in self._called.values() for r in _parted(called))


def _keeper(grads: dict[str, Tensor], name: str) -> Callable[[Tensor], None]:
    def keep(grad: Tensor) -> None:
        grads.setdefault(name, grad.detach())

    return keep


def _parted(called: _Called) -> list[Recurrence]:
    """All layers and directions of one module."""
    module, kind = called.module, called.module.mode.partition("_")[0]
    why = _why_not(called)
    if why:
        return [Recurrence(path=called.path, cell=kind, unknown=why)]
    x = called.given[0].detach()
    precision = float(torch.finfo(x.dtype).eps)
    inputs = (x if module.batch_first else x.transpose(0, 1))[:_MOST_SAMPLES].transpose(0, 1).double()
    found: list[Recurrence] = []
    hidden = bool(module.dropout) and module.training
    layers = 1 if hidden else module.num_layers
    runs: list[_Run] = []
    for depth in range(layers):
        runs = [_Run(called, depth, reverse, inputs) for reverse in range(1 + module.bidirectional)]
        inputs = torch.cat([run.outputs() for run in runs], -1)
        found += [run.ledger(kind, precision) for run in runs]
    if layers == module.num_layers and not _same(called, inputs):
        return [Recurrence(path=called.path, cell=kind, unknown="its steps give another output than it does")]
    if hidden and module.num_layers > 1:
        why = "its input went through the module's own dropout, which is not visible"
        found.append(Recurrence(path=called.path, cell=kind, depth=1, unknown=why))
    return found


def _why_not(called: _Called) -> str:
    x = called.given[0] if called.given else None
    if not isinstance(x, Tensor):
        return "its input is a packed sequence"
    if x.ndim != 3:
        return "its input has no batch"
    if called.module.proj_size:
        return "its states are projected"
    return "" if x.shape[1 if called.module.batch_first else 0] > 1 else "its input is a single step"


def _same(called: _Called, outputs: Tensor) -> bool:
    """Whether the unrolled module gave what the real one gave."""
    own = called.output[0].detach()
    own = (own if called.module.batch_first else own.transpose(0, 1))[:_MOST_SAMPLES].transpose(0, 1).double()
    loose = 10 * torch.finfo(called.output[0].dtype).eps ** 0.5
    return bool((own - outputs).abs().max() <= max(_SAME, loose) * own.abs().max().clamp_min(1e-30))


class _Run:
    """One layer in one direction, step by step.

    Args:
        called: The module's call.
        depth: Which layer.
        reverse: 1 for the direction from last to first.
        inputs: What the layer is given, shape (T, N, ...).
    """

    def __init__(self, called: _Called, depth: int, reverse: int, inputs: Tensor) -> None:
        module = called.module
        self._called, self._depth, self._reverse = called, depth, bool(reverse)
        self._index = depth * (1 + module.bidirectional) + reverse
        suffix = f"_l{depth}" + ("_reverse" if reverse else "")
        weight, self.weight = (self._own(f"weight_{n}{suffix}") for n in ("ih", "hh"))
        bias, self.bias = (
            self._own(f"bias_{n}{suffix}") if module.bias else torch.zeros((), dtype=torch.float64)
            for n in ("ih", "hh")
        )
        ordered = inputs.flip(0) if reverse else inputs
        self.x = ordered @ weight.T + bias
        self.cell = {"LSTM": _lstm, "GRU": _gru, "RNN_TANH": _plain(torch.tanh)}.get(
            module.mode, _plain(torch.relu)
        )
        with torch.no_grad():
            self.states = [self._first(inputs)]
            for x in self.x:
                state = self.states[-1]
                self.states.append(self.cell(x, self._product(state), state))

    def _own(self, name: str) -> Tensor:
        parameter: Tensor = getattr(self._called.module, name)
        return parameter.detach().double()

    def _product(self, state: State) -> Tensor:
        return state[0] @ self.weight.T + self.bias

    def _first(self, inputs: Tensor) -> State:
        """The states that the module was given, or zeros."""
        count = 2 if self._called.module.mode == "LSTM" else 1
        given = self._called.given[1] if len(self._called.given) > 1 else None
        if given is None:
            zeros = inputs.new_zeros(inputs.shape[1], self._called.module.hidden_size)
            return (zeros,) * count
        several = given if isinstance(given, tuple) else (given,)
        return tuple(s.detach()[self._index, :_MOST_SAMPLES].double() for s in several)

    def outputs(self) -> Tensor:
        """The hidden states in the order of the input, shape (T, N, H)."""
        hidden = torch.stack([s[0] for s in self.states[1:]])
        return hidden.flip(0) if self._reverse else hidden

    def ledger(self, kind: str, precision: float) -> Recurrence:
        """The account from the last state back, at most ``_MOST_LAGS`` steps."""
        grads, real = self._arrived()
        lags: list[Lag] = []
        line = torch.ones_like(self.states[0][0])
        for step in range(len(self.x) - 1, max(len(self.x) - 1 - _MOST_LAGS, -1), -1):
            lag, grads, line = self._back(kind, step, grads, line)
            lags.append(lag)
            if not norm(*grads) > 0:
                break
        return Recurrence(
            path=self._called.path,
            cell=kind,
            depth=self._depth,
            reverse=self._reverse,
            lags=tuple(lags),
            real=real,
            precision=precision,
        )

    def _back(self, kind: str, step: int, grads: State, line: Tensor) -> tuple[Lag, State, Tensor]:
        """One step back: its lag, the gradient of the state before, and what the gate alone carries."""
        before = self.states[step]
        product = self._product(before).requires_grad_()
        carried = tuple(s.detach().clone().requires_grad_() for s in before)
        with torch.enable_grad():
            after = self.cell(self.x[step], product, carried)
            delta, *direct = torch.autograd.grad(after, (product, *carried), grads, allow_unused=True)
        middle = norm(delta, *direct)
        back = delta @ self.weight
        whole = [back if i == 0 else torch.zeros_like(back) for i in range(len(before))]
        sent = tuple(a if b is None else a + b for a, b in zip(whole, direct, strict=True))
        gate = _gate(kind, self.x[step], product.detach())
        carries = line if gate is None else line * gate
        lag = Lag(
            derivative=decades(norm(*grads), middle),
            weights=decades(middle, norm(*sent)),
            gate=math.nan if gate is None else decades(norm(line), norm(carries)),
        )
        return lag, sent, carries

    def _arrived(self) -> tuple[State, bool]:
        """The loss's gradient at the last state, if this layer's is visible and not zero; else signs."""
        found = [torch.zeros_like(s) for s in self.states[-1]]
        grads, module = self._called.grads, self._called.module
        if self._depth == module.num_layers - 1 and "output" in grads:
            whole = grads["output"] if not module.batch_first else grads["output"].transpose(0, 1)
            last = whole[0 if self._reverse else -1, :_MOST_SAMPLES].double()
            width = module.hidden_size
            found[0] = found[0] + last[..., width * self._reverse : width * (1 + self._reverse)]
        for i, name in enumerate(("h", "c")[: len(found)]):
            if name in grads:
                found[i] = found[i] + grads[name][self._index, :_MOST_SAMPLES].double()
        if norm(*found) > 0:
            return tuple(found), True
        generator = torch.Generator().manual_seed(0)
        shape = found[0].shape
        signs = 2.0 * torch.randint(2, tuple(shape), generator=generator) - 1
        return (signs.to(found[0]), *found[1:]), False
