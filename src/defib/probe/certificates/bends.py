"""Activations, maxima, and other functions that never fall."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx
from torch.nn import functional

from defib.probe.certificates.curves import Array, Bent, Lines
from defib.probe.certificates.rounding import U64, gamma, outward, tiny_of, unit_of
from defib.probe.certificates.steps import Known, Passed, Step, cut, total

_ULPS = 16
"""Units in the last place by which a library's activation is taken to be off at most."""


class Activated(Step):
    """An elementwise activation.

    Args:
        parent: The node that enters it.
        bent: The activation with its constants.
        dtype: The model's format.
    """

    def __init__(self, parent: fx.Node, bent: Bent, dtype: torch.dtype) -> None:
        self.parents = (parent,)
        self.bent, self._dtype = bent, dtype
        self.bounding = bent.activation.is_bounded(bent.options)
        self._lines: tuple[Known, Lines] | None = None
        # A bend at 0.3 lies at another place in the model's format: f there is f of a z moved by that much,
        # moved by that much again.
        rounded = [b for b in bent.curve.breaks if float(torch.tensor(b, dtype=dtype)) != b]
        self._moved = 2 * unit_of(dtype) * max(map(abs, rounded), default=0.0)

    def forward(self, known: Sequence[Known]) -> Known:
        x = known[0]
        ends = self.bent.enclosure(*self._argument(x))
        low, high = (torch.from_numpy(e).reshape(x.low.shape) for e in ends)
        size = torch.maximum(low.abs(), high.abs())
        error = torch.zeros_like(low)
        if not self.bent.curve.exact:
            near = x.size.clamp(max=8.0)
            error = _ULPS * unit_of(self._dtype) * (size + near) + tiny_of(self._dtype)
            signs = low >= 0, high <= 0
            wide = outward(low, high, error)
            keep = self.bent.activation.name in _KEEPS_SIGN
            low = torch.where(signs[0] & keep, wide[0].clamp(min=0.0), wide[0])
            high = torch.where(signs[1] & keep, wide[1].clamp(max=0.0), wide[1])
        steep = max(2.0, abs(self.bent.curve.slope or 0.0), min(self.bent.curve.curvature, 1e6))
        if self._moved:
            error = error + self._moved * (1 + steep)
            low, high = outward(low, high, error)
        return Known(
            low=low, high=high, error=error, slack=gamma(4 * low.numel() + 64, U64) * (steep * x.size + size)
        )

    def off(self) -> tuple[tuple[float, float], ...]:
        """Intervals on which its derivative, as autograd computes it, is exactly 0."""
        flat = self.bent.activation.flat("self", str(self._dtype).removeprefix("torch."), self.bent.options)
        ends = ((-torch.inf, flat.low), (flat.high, torch.inf))
        return tuple((a, b) for a, b in (*ends, *self.bent.curve.off) if a < b)

    def straight(self) -> tuple[tuple[float, float], ...]:
        """Intervals on which it is affine, in the model's format too."""
        return tuple((a + self._moved, b - self._moved) for a, b in self.bent.curve.lines)

    def pieces(self) -> tuple[tuple[float, float], ...]:
        """Intervals on which it is affine or its derivative is exactly 0."""
        return (*self.straight(), *self.off())

    def backward(self, rows: Tensor, known: Sequence[Known], own: Known) -> Passed:
        lines = self._enclosing(known[0])
        up, down = _tensor(lines.upper, own.low), _tensor(lines.lower, own.low)
        positive, negative = rows.clamp(min=0), rows.clamp(max=0)
        through = positive * _tensor(lines.upper_slope, own.low)
        through += negative * _tensor(lines.lower_slope, own.low)
        if torch.isfinite(up).all() and torch.isfinite(down).all():
            constant = total(positive, up)
            constant += total(negative, down) if bool(down.any()) else 0.0
        else:
            ends = torch.where(rows > 0, rows * up, torch.where(rows < 0, rows * down, 0.0)).flatten(1)
            constant = ends.sum(1)
        return Passed(rows=(through,), constant=constant)

    def _argument(self, known: Known) -> tuple[Array, Array]:
        """Ends of what enters it, flat, with room for bends that lie elsewhere."""
        low, high = (known.low - self._moved).reshape(-1), (known.high + self._moved).reshape(-1)
        return low.numpy(), high.numpy()

    def _enclosing(self, known: Known) -> Lines:
        """The two lines; computed once for one state of knowledge."""
        if self._lines is None or self._lines[0] is not known:
            self._lines = known, self.bent.lines(*self._argument(known))
        return self._lines[1]


_KEEPS_SIGN = frozenset(
    [
        "leaky_relu",
        "sigmoid",
        "tanh",
        "exp",
        "softplus",
        "silu",
        "gelu",
        "mish",
        "elu",
        "selu",
        "celu",
        "logsigmoid",
        "hardswish",
        "hardsigmoid",
        "softshrink",
    ]
)
"""Activations whose result has the sign of the exact one, however it is rounded."""


class Rising(Step):
    """A function that never falls in any argument: a maximum, a square root. Bounded by its ends alone.

    Args:
        function: Of the parents alone, float64.
        parents: Nodes that depend on the input.
        dtype: The model's format.
        exact: Nothing is rounded.
    """

    def __init__(
        self, function: Callable[..., Tensor], parents: tuple[fx.Node, ...], dtype: torch.dtype, exact: bool
    ) -> None:
        self.parents, self._function, self._dtype, self._exact = parents, function, dtype, exact

    def forward(self, known: Sequence[Known]) -> Known:
        low = self._function(*(k.low for k in known))
        high = self._function(*(k.high for k in known))
        if self._exact:
            return Known.within(low, high)
        size = torch.nan_to_num(torch.maximum(low.abs(), high.abs()), nan=torch.inf, posinf=torch.inf)
        error = _ULPS * unit_of(self._dtype) * size + tiny_of(self._dtype)
        return Known.within(*outward(low, high, error), error)


class Pooled(Step):
    """A maximum over windows of a plane.

    Above: the entry that is never below the others, if there is one, else the largest upper end.
    Below: the entry with the largest lower end.

    Args:
        parent: The node, of shape (1, C, H, W) or (C, H, W).
        size: Height and width of the window.
        stride: Steps between windows.
        padding: Rows and columns around the plane.
        dilation: Steps between entries of a window.
    """

    def __init__(
        self, parent: fx.Node, size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
        dilation: Sequence[int],
    ) -> None:  # fmt: skip
        self.parents = (parent,)
        self.size, self.stride = tuple(size), tuple(stride)
        self.padding, self.dilation = tuple(padding), tuple(dilation)

    def forward(self, known: Sequence[Known]) -> Known:
        x = known[0]
        return Known.within(self._pool(x.low), self._pool(x.high))

    def backward(self, rows: Tensor, known: Sequence[Known], own: Known) -> Passed:
        x = known[0]
        low, high = self._windows(x.low), self._windows(x.high)
        places = self._windows_of_places(x.low)
        best = low.argmax(-1, keepdim=True)
        others = high.scatter(-1, best, -torch.inf).amax(-1)
        sure = (low.gather(-1, best).squeeze(-1) >= others).reshape(-1)
        chosen = places.gather(-1, best).reshape(-1)
        known_place = chosen >= 0  # not where the plane's own ends are all -inf
        flat = rows.flatten(1)
        through_there = torch.where(sure, flat, flat.clamp(max=0.0)) * known_place
        left = cut((flat - through_there).reshape(rows.shape), own)
        through = torch.zeros(len(rows), x.low.numel(), dtype=rows.dtype)
        through.index_add_(1, chosen.clamp(min=0), through_there)
        return Passed(rows=(through.reshape(len(rows), *x.low.shape),), constant=left.constant)

    def _pool(self, values: Tensor) -> Tensor:
        return functional.max_pool2d(values, self.size, self.stride, self.padding, self.dilation)

    def _windows(self, values: Tensor) -> Tensor:
        """Entries of each window, shape (C * windows, entries); -inf outside of the plane."""
        place = self._windows_of_places(values)
        return torch.where(place >= 0, values.reshape(-1)[place.clamp(min=0)], -torch.inf)

    def _windows_of_places(self, values: Tensor) -> Tensor:
        """Flat index of each window's entries in the node; -1 outside of the plane."""
        height, width = values.shape[-2:]
        plane = torch.arange(1, height * width + 1, dtype=torch.float64).reshape(1, 1, height, width)
        found = functional.unfold(plane, self.size, self.dilation, self.padding, self.stride)
        places = found[0].T.long() - 1
        planes = torch.arange(values.numel() // (height * width))[:, None, None] * height * width
        return torch.where(places >= 0, places + planes, -1).reshape(-1, places.shape[1])


def _tensor(values: object, like: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64).reshape(like.shape)
