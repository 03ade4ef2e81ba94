"""Batches as other clients pack them, unpacked by aiokafka's readers within our bound."""

import gzip
from typing import Any

import cramjam
import pytest
from aiokafka import codec
from aiokafka.record.default_records import (
    DefaultRecordBatch,
    DefaultRecordBatchBuilder,
    _DefaultRecordBatchPy,
)

from streams.bus.kafka_unpack import MOST_BYTES, UnpackError, bound_unpacking

READERS = [DefaultRecordBatch, _DefaultRecordBatchPy]
NUMBERS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
PACKERS = {
    "gzip": gzip.compress,
    "snappy": codec.snappy_encode,
    "lz4": codec.lz4_encode,
    "zstd": codec.zstd_encode,
}
HEAD_BYTES = 61
"""Of a batch (format 2), before its records."""


@pytest.fixture(autouse=True)
def bound() -> None:
    bound_unpacking()


def batch_of(number: int, records: bytes, count: int = 1) -> bytes:
    """Give a batch whose records are these bytes, whatever they are."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for offset in range(count):
        builder.append(offset, 1, None, b"", [])
    head = bytearray(builder.build()[:HEAD_BYTES])
    head[8:12] = (HEAD_BYTES - 12 + len(records)).to_bytes(4, "big")
    head[22] = number
    return bytes(head) + records


def records_of(values: list[bytes]) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 25)
    for offset, value in enumerate(values):
        assert builder.append(offset, 1, None, value, []) is not None
    return bytes(builder.build()[HEAD_BYTES:])


def read(reader: Any, batch: bytes) -> list[bytes]:
    return [record.value for record in reader(batch)]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", PACKERS)
def test_what_any_client_packs_is_read(reader: Any, name: str) -> None:
    values = [b"a" * 300_000, b"b", bytes(range(256)) * 4_000]
    packed = PACKERS[name](records_of(values))
    assert read(reader, batch_of(NUMBERS[name], packed, 3)) == values


def test_what_one_client_packs_in_pieces_is_read() -> None:
    whole = records_of([b"a" * 1_000])
    packed = gzip.compress(whole[:400]) + gzip.compress(whole[400:])
    assert read(DefaultRecordBatch, batch_of(1, packed)) == [b"a" * 1_000]
    unframed = bytes(cramjam.snappy.compress_raw(whole))
    assert read(DefaultRecordBatch, batch_of(2, unframed)) == [b"a" * 1_000]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", PACKERS)
def test_no_batch_is_unpacked_beyond_the_bound(reader: Any, name: str) -> None:
    with pytest.raises(UnpackError, match="more than 16777216 bytes"):
        read(reader, batch_of(NUMBERS[name], PACKERS[name](bytes(MOST_BYTES + 1))))


@pytest.mark.parametrize("name", PACKERS)
def test_a_batch_may_have_all_of_the_bound(name: str) -> None:
    value = bytes(MOST_BYTES - 16)
    records = records_of([value])
    assert len(records) < MOST_BYTES
    assert read(DefaultRecordBatch, batch_of(NUMBERS[name], PACKERS[name](records))) == [value]


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("how", ["rubbish", "cut", "nothing more"])
def test_a_broken_batch_is_its_producers_fault(name: str, how: str) -> None:
    packed = PACKERS[name](records_of([bytes(range(256)) * 400]))
    broken = {"rubbish": b"\xff" * 90, "cut": packed[:-9], "nothing more": packed[:20]}[how]
    with pytest.raises(UnpackError, match=f"broken {name}"):
        read(DefaultRecordBatch, batch_of(NUMBERS[name], broken))
