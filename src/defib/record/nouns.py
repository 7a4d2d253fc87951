"""Layers and wirings as plain JSON values, and back with every type checked."""

from typing import Any, TypeVar

from defib.core.site import Site
from defib.core.wiring import Layer, Wiring
from defib.record.codec import AlteredError, Plain

T = TypeVar("T")


def layer_to_plain(layer: Layer) -> dict[str, Any]:
    """A layer as JSON-able data."""
    return {
        "path": layer.path,
        "kind": layer.kind,
        "units": int(layer.units),
        "parameters": list(layer.parameters),
        "optimizer": int(layer.optimizer),
        "frozen": bool(layer.frozen),
        "dtypes": list(layer.dtypes),
    }


def layer_from_plain(plain: Plain) -> Layer:
    """The inverse of :func:`layer_to_plain`.

    Returns:
        The layer.

    Raises:
        AlteredError: If something is missing or of another type.
    """  # noqa: DOC502  raised by take
    return Layer(
        path=take(plain, "path", str),
        kind=take(plain, "kind", str),
        units=_count(plain, "units"),
        parameters=texts(take(plain, "parameters", list)),
        optimizer=take(plain, "optimizer", int),
        frozen=take(plain, "frozen", bool),
        dtypes=texts(plain.get("dtypes", [])),  # not in records of before
    )


def wiring_to_plain(wiring: Wiring) -> dict[str, Any]:
    """A wiring as JSON-able data."""
    return {
        "site": _site_to_plain(wiring.site),
        "activation": wiring.activation,
        "operation": wiring.operation,
        "units": int(wiring.units),
        "order": int(wiring.order),
        "modules": list(wiring.modules),
        "inputs": [_site_to_plain(site) for site in wiring.inputs],
        "skips": [_site_to_plain(site) for site in wiring.skips],
        "normalised": bool(wiring.normalised),
        "options": {name: float(value) for name, value in wiring.options.items()},
        "output": bool(wiring.output),
        "dtype": wiring.dtype,
        "crosses": list(wiring.crosses),
    }


def wiring_from_plain(plain: Plain) -> Wiring:
    """The inverse of :func:`wiring_to_plain`.

    Returns:
        The wiring.

    Raises:
        AlteredError: If something is missing or of another type.
    """
    options = take(plain, "options", dict)
    if not all(isinstance(k, str) and isinstance(v, float) for k, v in options.items()):
        raise AlteredError("options that are not numbers")
    return Wiring(
        site=_site_from_plain(plain["site"]),
        activation=take(plain, "activation", str),
        operation=take(plain, "operation", str),
        units=_count(plain, "units"),
        order=take(plain, "order", int),
        modules=texts(take(plain, "modules", list)),
        inputs=tuple(_site_from_plain(site) for site in take(plain, "inputs", list)),
        skips=tuple(_site_from_plain(site) for site in take(plain, "skips", list)),
        normalised=take(plain, "normalised", bool),
        options=options,
        output=take(plain, "output", bool),
        dtype=take(plain, "dtype", str) if "dtype" in plain else "",  # not in records of before
        crosses=texts(plain.get("crosses", [])),  # likewise
    )


def texts(plain: Plain) -> tuple[str, ...]:
    """A list of str as a tuple.

    Returns:
        The names.

    Raises:
        AlteredError: If it is anything else.
    """
    if not isinstance(plain, list) or not all(isinstance(item, str) for item in plain):
        raise AlteredError("not a list of names")
    return tuple(plain)


def take(plain: Plain, name: str, kind: type[T]) -> T:
    """``plain[name]``, if it is there and of that very type.

    Returns:
        The value.

    Raises:
        AlteredError: If not.
    """
    if not isinstance(plain, dict) or name not in plain or type(plain[name]) is not kind:
        raise AlteredError(f"{name!r} is missing or not {kind.__name__}")
    value: T = plain[name]
    return value


def _count(plain: Plain, name: str) -> int:
    value = take(plain, name, int)
    if value < 0:
        raise AlteredError(f"{name!r} is negative")
    return value


def _site_to_plain(site: Site) -> list[Any]:
    return [site.path, int(site.call)]


def _site_from_plain(plain: Plain) -> Site:
    if not isinstance(plain, list) or [type(item) for item in plain] != [str, int]:
        raise AlteredError("not a site")
    return Site(path=plain[0], call=plain[1])
