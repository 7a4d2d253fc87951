"""Remains as an exhibit of the record, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defib.core.remains import Part, Remains
from defib.core.run import Exhibit

KIND = "dead-units"
"""Kind of the exhibits that hold remains."""


def preserve(remains: Remains) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
    """Facts and arrays of an exhibit.

    Args:
        remains: What is left of the units of one layer.

    Returns:
        The facts, JSON-able, and the arrays; see :func:`recover`.
    """
    arrays: dict[str, NDArray[np.generic]] = {"units": remains.units, "features": remains.features}
    parts = []
    for number, part in enumerate(remains.parts):
        arrays[str(number)] = part.values
        numbers = {}
        for name, value in part.state.items():
            if np.ndim(value):
                arrays[f"{number}.{name}"] = np.asarray(value)
            else:
                numbers[name] = None if value is None else float(value)
        if part.lrs is not None:
            arrays[f"{number}!lrs"] = part.lrs
        parts.append(
            {
                "name": part.name,
                "kind": part.kind,
                "settings": dict(part.settings),
                "numbers": numbers,
                "dtype": part.dtype,
                "gradient_is_none": part.gradient_is_none,
            }
        )
    facts = {
        "step": remains.step,
        "first_layer": remains.first_layer,
        "samples_seen": remains.samples_seen,
        "threshold": remains.threshold,
        "drift": remains.drift,
        "parts": parts,
    }
    return facts, arrays


def recover(exhibit: Exhibit) -> Remains:
    """The inverse of :func:`preserve`.

    Args:
        exhibit: One of kind :data:`KIND`.

    Returns:
        The remains.

    Raises:
        ValueError: If it was not made by :func:`preserve`.
    """
    facts, arrays = exhibit.facts, exhibit.arrays
    try:
        features, drift = arrays["features"], facts["drift"]
        parts = tuple(_part(str(i), plain, arrays) for i, plain in enumerate(facts["parts"]))
        return Remains(
            path=exhibit.path,
            units=arrays["units"].astype(np.int64),
            step=int(facts["step"]),
            parts=parts,
            features=features.astype(np.float64 if features.dtype == np.float64 else np.float32),
            first_layer=bool(facts["first_layer"]),
            samples_seen=int(facts["samples_seen"]),
            threshold=float(facts["threshold"]),
            drift=None if drift is None else float(drift),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an exhibit of dead units: {type(error).__name__} {error}") from None


def _part(number: str, plain: Mapping[str, Any], arrays: Mapping[str, NDArray[np.generic]]) -> Part:
    """One parameter of the units."""
    prefix = f"{number}."
    state: dict[str, Any] = dict(plain["numbers"])
    state |= {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
    values, lrs = arrays[number], arrays.get(f"{number}!lrs")
    return Part(
        name=str(plain["name"]),
        values=values.astype(np.float64 if values.dtype == np.float64 else np.float32),
        kind=str(plain["kind"]),
        settings=plain["settings"],
        state=state,
        dtype=str(plain["dtype"]),
        gradient_is_none=bool(plain["gradient_is_none"]),
        lrs=None if lrs is None else lrs.astype(np.float64),
    )
