"""What acts on some units of a layer apart from gradients: their rows of parameters and optimiser state.

Letters: ``U`` units, ``D`` entries of one parameter of one unit.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from defib.core.remains import Part

Fetch = Callable[[torch.Tensor], NDArray[np.generic]]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some units' share of one parameter, still on its device; private copies.

    Attributes:
        name: "weight" or "bias".
        values: Shape (U, D).
        kind: The optimiser's class; with its module where that is not torch's own. "" if none owns it.
        settings: The group's settings: plain values, and single numbers that lie on a device.
        state: Tensors of shape (U, D), numbers, and single numbers that lie on a device.
        dtype: The parameter's own format.
        gradient_is_none: torch will skip it.
    """

    name: str
    values: torch.Tensor
    kind: str
    settings: Mapping[str, Any]
    state: Mapping[str, Any]
    dtype: str
    gradient_is_none: bool

    def tensors(self) -> Iterable[torch.Tensor]:
        """All that lies on a device, in a fixed order."""
        yield self.values
        for values in (self.settings, self.state):
            yield from (value for value in values.values() if isinstance(value, torch.Tensor))

    def to_part(self, fetch: Fetch, lrs: NDArray[np.float64] | None = None) -> Part:
        """The same as plain data.

        Args:
            fetch: Gives a tensor's numbers.
            lrs: Learning rates of the next steps; None if it stays.

        Returns:
            The part.
        """
        return Part(
            name=self.name,
            values=fetch(self.values),  # type: ignore[arg-type]
            kind=self.kind,
            settings={name: _plain(value, fetch) for name, value in self.settings.items()},
            state={name: _plain(value, fetch) for name, value in self.state.items()},
            dtype=self.dtype,
            gradient_is_none=self.gradient_is_none,
            lrs=lrs,
        )


def _plain(value: Any, fetch: Fetch) -> Any:
    """A number for a single entry, an array for rows, anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    numbers = fetch(value)
    return float(numbers.reshape(-1)[0]) if value.ndim == 0 else numbers


def is_plain(parameter: torch.Tensor) -> bool:
    """Whole, dense and real: its rows are its units' own."""
    kinds = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
    plain = type(parameter) in {torch.Tensor, torch.nn.Parameter} and parameter.layout is torch.strided
    return plain and parameter.dtype in kinds and parameter.device.type != "meta" and parameter.ndim > 0


def rows_of(
    name: str,
    parameter: torch.Tensor,
    units: torch.Tensor,
    optimizer: torch.optim.Optimizer | None,
    *,
    gradient_is_none: bool,
) -> Rows:
    """Copies some units' rows out of a parameter and its optimiser's state. Waits for no device.

    Args:
        name: "weight" or "bias".
        parameter: Its units lie along axis 0; see :func:`is_plain`.
        units: Which, shape (U,), on the parameter's device.
        optimizer: Who owns it; None if nobody does.
        gradient_is_none: Whether torch will skip it.

    Returns:
        The rows.
    """
    group = _group_of(parameter, optimizer)
    kept = optimizer.state.get(parameter, {}) if optimizer is not None and group is not None else {}
    with torch.no_grad():
        state = {n: found for n, v in kept.items() if (found := _state(v, parameter, units)) is not None}
        values = _rows(parameter, units)
    return Rows(
        name=name,
        values=values,
        kind=kind_of(optimizer) if optimizer is not None and group is not None else "",
        settings=_settings(group or {}),
        state=state,
        dtype=str(parameter.dtype).removeprefix("torch."),
        gradient_is_none=gradient_is_none,
    )


def kind_of(optimizer: torch.optim.Optimizer) -> str:
    """Class name of torch's own optimisers; somebody else's "Adam" is another one and keeps its module."""
    kind = type(optimizer)
    return (
        kind.__name__ if kind.__module__.startswith("torch.optim.") else f"{kind.__module__}.{kind.__name__}"
    )


def _group_of(parameter: torch.Tensor, optimizer: torch.optim.Optimizer | None) -> Mapping[str, Any] | None:
    groups = optimizer.param_groups if optimizer is not None else []
    return next((group for group in groups if any(p is parameter for p in group["params"])), None)


def _rows(values: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
    """Rows of any tensor with units along axis 0, shape (U, D); bfloat16 becomes float32, exactly."""
    rows = values.detach().index_select(0, units).reshape(len(units), -1)
    return rows.float() if rows.dtype is torch.bfloat16 else rows


def _state(value: Any, parameter: torch.Tensor, units: torch.Tensor) -> Any:
    """One entry of an optimiser's state: rows where it is shaped as the parameter, else a number."""
    if isinstance(value, torch.Tensor):
        if value.shape == parameter.shape and value.layout is torch.strided and not value.is_complex():
            return _rows(value, units.to(value.device))
        return _single(value)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _single(value: torch.Tensor) -> float | torch.Tensor | None:
    """A single number: at once where it is on the host, as a private copy where it is not."""
    if value.numel() != 1 or value.is_complex():
        return None
    value = value.detach().reshape(())
    return float(value) if value.is_cpu else value.float().clone()


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group's settings without its parameters."""
    found: dict[str, Any] = {}
    for name, value in group.items():
        if isinstance(value, torch.Tensor):
            single = _single(value)
            if single is not None:
                found[name] = single
        elif isinstance(value, (bool, int, float, str)) or value is None:
            found[name] = value
        elif isinstance(value, (tuple, list)) and name != "params":
            numbers = [_number(v) for v in value]
            if None not in numbers:
                found[name] = numbers
    return found


def _number(value: Any) -> float | None:
    """A number, also one in a tensor on the host."""
    if isinstance(value, torch.Tensor):
        return float(value) if value.numel() == 1 and value.is_cpu else None
    return float(value) if isinstance(value, (int, float)) else None
