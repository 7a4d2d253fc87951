"""Arrays are compressed where that pays and stored where it does not; what has not changed is not written."""

import sqlite3
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defib.record import codec
from defib.record.clerk import Clerk
from defib.record.schema import TABLES

CHANCE = np.random.default_rng(0)
NOISE = CHANCE.normal(size=60_000).astype("<f4").tobytes()
ZEROS = bytes(len(NOISE))


@given(st.lists(st.tuples(st.sampled_from([NOISE, ZEROS]), st.integers(0, 200_000)), max_size=6))
@settings(max_examples=60, deadline=None)
def test_any_mixture_of_noise_and_zeros_is_one_zlib_stream_and_comes_back(cuts):
    parts = [memoryview(whole)[:length] for whole, length in cuts]
    size, body = codec.deflate_parts(parts)
    assert codec.inflate(body, size) == zlib.decompress(body) == b"".join(parts)


@pytest.mark.parametrize("length", [0, 1, 65_534, 65_535, 65_536, 131_070, 131_071])
def test_a_block_may_end_anywhere(length):
    size, body = codec.deflate_parts([NOISE[:length], ZEROS[:3], NOISE[:length]])
    assert codec.inflate(body, size) == NOISE[:length] + ZEROS[:3] + NOISE[:length]


def test_noise_is_stored_and_the_zeros_beside_it_are_not():
    size, body = codec.deflate_parts([NOISE, ZEROS])
    assert size == 2 * len(NOISE)
    assert NOISE[:60_000] in body
    assert len(NOISE) < len(body) < 1.02 * len(NOISE)


def test_pictures_are_compressed():
    pixels = (CHANCE.random(60_000) < 0.2) * CHANCE.integers(0, 256, 60_000) / 255
    size, body = codec.deflate_parts([pixels.astype("<f4").tobytes()], gain=0.5)
    assert len(body) < 0.5 * size


def test_a_flipped_bit_in_a_stored_array_is_noticed():
    size, body = codec.deflate_parts([NOISE])
    damaged = bytearray(body)
    damaged[len(body) // 2] ^= 4
    with pytest.raises(codec.AlteredError):
        codec.inflate(bytes(damaged), size)


def test_a_fact_is_written_when_it_changes_and_not_when_it_is_told_again():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for sql in TABLES.values():
        connection.execute(sql)
    clerk = Clerk(1 << 20)
    clerk.at(connection, 0)
    changes = []
    for told in (1, 1, 2, 2, 1):
        before = connection.total_changes
        clerk.state("fact", "faults", told)
        clerk.state("fact", "other", "stays")
        changes.append(connection.total_changes - before)
    assert changes == [2, 0, 1, 0, 1]
    kept = clerk.book.copy()
    clerk.state("fact", "faults", 3)
    clerk.book = kept  # as after a transaction that failed
    before = connection.total_changes
    clerk.state("fact", "faults", 3)
    assert connection.total_changes == before + 1
    connection.close()
