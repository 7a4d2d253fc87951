"""Bytes and back: arrays, JSON and checksums, exact in both directions.

Nothing here trusts what it decodes: sizes are checked before memory is taken.
"""

import json
import math
import zlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_BLOB = 256 << 20
"""Largest array or document, in bytes before compression."""

_LEVEL = 1

_LOOK = 4 << 10
"""Bytes of a large array that are compressed twice, to see whether it is worth it."""

_LARGE = 8 * _LOOK
GAIN = 0.15
"""Least share of its bytes that compressing a large array must save: weights and noise save 4 to 9 %, and
cost twenty times as much time as storing them."""

_STORED = 0xFFFF
"""Most bytes of an uncompressed block."""

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


def deflate_parts(parts: Iterable[bytes | memoryview], gain: float = GAIN) -> tuple[int, bytes]:
    """One zlib stream of several arrays; those that would hardly get shorter are stored as they are.

    Args:
        parts: The arrays' bytes, in order.
        gain: Least share of its bytes that compressing a large one must save.

    Returns:
        Their bytes together, and the stream, which :func:`inflate` reads.

    Raises:
        ValueError: If there is more than :data:`MAX_BLOB`.
    """
    size, check = 0, zlib.adler32(b"")
    stream: list[bytes | memoryview] = [b"\x78\x01"]  # RFC 1950: deflate, a window of 32 KiB
    for worth_it, run in groupby(parts, lambda part: _saving(part) >= gain):
        block = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS) if worth_it else None
        for part in run:
            size, check = size + len(part), zlib.adler32(part, check)
            if size > MAX_BLOB:
                raise ValueError(f"{size} bytes in one piece, at most {MAX_BLOB} are kept")
            stream += [block.compress(part)] if block is not None else _stored(part)
        if block is not None:  # what follows must begin on a whole byte
            stream.append(block.flush(zlib.Z_FULL_FLUSH))
    stream += [b"\x03\x00", check.to_bytes(4, "big")]  # an empty last block
    return size, b"".join(stream)


def _saving(data: bytes | memoryview) -> float:
    """Share of a large array's bytes that compressing it saves, judged by two places; 1 for a small one."""
    if len(data) < _LARGE:
        return 1.0
    places = (len(data) // 4 // 8 * 8, 3 * len(data) // 4 // 8 * 8)
    looks = [zlib.compress(data[at : at + _LOOK], _LEVEL) for at in places]
    return 1.0 - sum(map(len, looks)) / (_LOOK * len(looks))


def _stored(data: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """Uncompressed blocks as RFC 1951, 3.2.4 has them; nothing is copied."""
    whole = memoryview(data)
    for at in range(0, len(whole), _STORED):
        block = whole[at : at + _STORED]
        yield b"\x00" + len(block).to_bytes(2, "little") + (len(block) ^ 0xFFFF).to_bytes(2, "little")
        yield block


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
    exact = np.ascontiguousarray(rows, dtype="<f8")
    layout = ["d"] * len(exact)
    parts: list[bytes] = [b""] * len(exact)
    left = np.arange(len(exact))
    for letter in "fud":  # all rows at once: of a small layer the calls cost more than the numbers
        narrow = _cast(exact[left], _DTYPES[letter])
        kept = (_cast(narrow, _DTYPES["d"]).view("<u8") == exact[left].view("<u8")).all(1)
        for row, values in zip(left[kept].tolist(), narrow[kept], strict=True):
            layout[row], parts[row] = letter, values.tobytes()
        left = left[~kept]
        if not len(left):
            break
    return "".join(layout), deflate_parts(parts)[1]


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


def _cast(rows: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(all="ignore"):  # what does not fit is found by the way back
        return rows.astype(dtype)


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
