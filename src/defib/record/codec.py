"""Bytes and back: arrays, JSON and checksums, exact in both directions.

Nothing here trusts what it decodes: sizes are checked before memory is taken.
"""

import json
import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_BLOB = 256 << 20
"""Largest array or document, in bytes before compression."""

_LEVEL = 1
_MOST_RATIO = 1040
"""zlib cannot compress by more than about 1032 to 1."""

_DTYPES: dict[str, np.dtype[Any]] = {"f": np.dtype("<f4"), "u": np.dtype("<u4"), "d": np.dtype("<f8")}
_DEEPEST = 50
_TAGS = frozenset({"$float", "$int", "$pairs"})


Plain = Any
"""Any value that JSON has."""


class AlteredError(ValueError):
    """These bytes are not what a writer writes."""


def seal(*fields: bytes | str | float | None) -> int:
    """Checksum of a row: CRC-32 over type, length and content of every field.

    Lengths keep ("ab", "c") and ("a", "bc") apart. A str and its UTF-8 bytes
    are the same, because the reader gets text as bytes.

    Returns:
        The checksum, 32 bits.
    """
    crc = zlib.crc32(b"defib")
    for given in fields:
        value = encode_name(given) if isinstance(given, str) else given
        if isinstance(value, bytes):
            crc = zlib.crc32(value, zlib.crc32(b"b%d:" % len(value), crc))
        else:
            crc = zlib.crc32(f"{type(value).__name__}:{value!r};".encode(), crc)
    return crc


def encode_name(name: str) -> bytes:
    """Any str at all, lone surrogates included."""
    return name.encode("utf-8", "surrogatepass")


def decode_name(data: bytes) -> str:
    """The inverse of :func:`encode_name`."""
    return data.decode("utf-8", "surrogatepass")


def deflate(data: bytes) -> bytes:
    """Compresses.

    Returns:
        The compressed bytes.

    Raises:
        ValueError: If there is more than :data:`MAX_BLOB`.
    """
    if len(data) > MAX_BLOB:
        raise ValueError(f"{len(data)} bytes in one piece, at most {MAX_BLOB} are kept")
    return zlib.compress(data, _LEVEL)


def inflate(data: bytes, size: int) -> bytes:
    """Decompresses to exactly ``size`` bytes.

    Returns:
        The bytes.

    Raises:
        AlteredError: If that is not what the data holds; nothing large is allocated then.
    """
    if not 0 <= size <= min(MAX_BLOB, _MOST_RATIO * len(data)):
        raise AlteredError(f"{len(data)} bytes cannot hold {size}")
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise AlteredError(str(error)) from None
    if len(out) != size or not stream.eof or stream.unused_data:
        raise AlteredError("compressed data of another length")
    return out


def pack_rows(rows: NDArray[np.float64]) -> tuple[str, bytes]:
    """Rows of float64, shape (R, U), each in the narrowest type that keeps every bit.

    Counts are then exact up to 2^53, and squares of tiny gradients do not
    underflow as they would in float32.

    Returns:
        The layout, one letter a row, and the compressed bytes.
    """
    layout, parts = "", []
    for row in np.ascontiguousarray(rows, dtype="<f8"):
        letter = next(k for k in "fud" if _keeps(row, _DTYPES[k]))
        layout += letter
        parts.append(_cast(row, _DTYPES[letter]).tobytes())
    return layout, deflate(b"".join(parts))


def unpack_rows(layout: str, units: int, body: bytes) -> NDArray[np.float64]:
    """The inverse of :func:`pack_rows`, shape (R, U).

    Returns:
        The rows.

    Raises:
        AlteredError: If the bytes do not fit the layout.
    """  # noqa: DOC502  raised by what it calls
    return rows_of(layout, units, inflate(body, size_of(layout, units, body)))


def size_of(layout: str, units: int, body: bytes) -> int:
    """Bytes of packed rows before compression, as far as can be told without unpacking them.

    Returns:
        The number.

    Raises:
        AlteredError: If no rows of that layout can be in that body.
    """
    if units < 0 or not set(layout) <= set(_DTYPES):
        raise AlteredError(f"layout {layout!r}")
    size = units * sum(_DTYPES[k].itemsize for k in layout)
    if len(layout) * units * 8 > 2 * MAX_BLOB or size > _MOST_RATIO * len(body):
        raise AlteredError(f"{units} units")
    return size


def rows_of(layout: str, units: int, data: bytes) -> NDArray[np.float64]:
    """Rows out of decompressed bytes of the size that :func:`size_of` told, shape (R, U)."""
    out = np.empty((len(layout), units))
    at = 0
    for row, letter in zip(out, layout, strict=True):
        row[:] = np.frombuffer(data, _DTYPES[letter], units, at)
        at += units * _DTYPES[letter].itemsize
    return out


def _cast(row: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(all="ignore"):  # what does not fit is found by _keeps
        return row.astype(dtype)


def _keeps(row: NDArray[np.float64], dtype: np.dtype[Any]) -> bool:
    return bool(np.array_equal(_cast(_cast(row, dtype), _DTYPES["d"]).view("<u8"), row.view("<u8")))


def dumps(value: Plain) -> bytes:
    """JSON in UTF-8. Never raises on odd values: what JSON lacks becomes its ``repr``.

    Tuples become lists. ``ensure_ascii`` is off: with it two lone surrogates
    that happen to stand together would be read back as one character.

    Returns:
        The bytes.
    """
    text = json.dumps(_tagged(value, 0), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return encode_name(text)


def loads(data: bytes) -> Plain:
    """The inverse of :func:`dumps`.

    Returns:
        The value.

    Raises:
        AlteredError: If this is not our JSON.
    """
    try:
        return json.loads(decode_name(data), object_hook=_untagged, parse_constant=_no_constant)
    except (ValueError, RecursionError, TypeError) as error:
        raise AlteredError(f"not our JSON: {str(error)[:80]}") from None


def _tagged(value: Plain, depth: int) -> Plain:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        value = int(value)
        return value if abs(value) < 1 << 63 else {"$int": hex(value)}
    if isinstance(value, float):
        value = float(value)
        return value if math.isfinite(value) else {"$float": repr(value)}
    if depth < _DEEPEST:
        if isinstance(value, dict):
            return _tagged_dict(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            return [_tagged(item, depth + 1) for item in value]
        if isinstance(value, np.ndarray) and value.size <= 1000:
            return _tagged(value.tolist(), depth)
    try:
        return repr(value)[:200]
    except Exception:  # noqa: BLE001  a stranger's __repr__ may do anything
        return f"<{type(value).__name__}>"


def _tagged_dict(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    plain = all(isinstance(key, str) for key in value) and not (len(value) == 1 and _TAGS & value.keys())
    if plain:
        return {str.__str__(key): _tagged(item, depth + 1) for key, item in value.items()}
    return {"$pairs": [[_tagged(k, depth + 1), _tagged(v, depth + 1)] for k, v in value.items()]}


def _untagged(value: dict[str, Any]) -> Plain:
    if len(value) != 1 or not _TAGS & value.keys():
        return value
    [(tag, inner)] = value.items()
    if tag == "$float":
        return float(inner)
    if tag == "$int":
        return int(inner, 16)
    return {_key(key): item for key, item in inner}


def _key(key: Plain) -> Plain:
    return tuple(_key(item) for item in key) if isinstance(key, list) else key


def _no_constant(name: str) -> Plain:
    raise ValueError(f"bare {name}")
