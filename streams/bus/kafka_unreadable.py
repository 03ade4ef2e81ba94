"""Reading around records that aiokafka's decoder refuses.

A header's name that is not UTF-8: Kafka takes any bytes for one. A batch that cannot be unpacked.
aiokafka decodes whole batches, so one such record would keep every consumer of its topic from all
that follow it, and from the other partitions' records too.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.util import decode_varint

from schemas.codec import UNREADABLE
from streams.bus.kafka_calls import answered
from streams.bus.kafka_fetch import Fetched, fetch_raw
from streams.bus.kafka_unpack import UnpackError

_NAME_BYTES = 100
_NOT_UNPACKED = (UnpackError, UnsupportedCodecError)
_BATCH_START = struct.Struct(">qi")


@dataclass(frozen=True, slots=True)
class Row:
    """A record as aiokafka would give it."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    checksum: None = None


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka has no types
    """A record batch (format 2) that is read whatever bytes its headers' names have.

    One that cannot be unpacked gives a record in place of its last, with the batch for a value.
    Source of the format: Apache Kafka's protocol guide, "Record Batch" and "Record".
    """

    _pos: int

    def __iter__(self) -> Iterator[Row]:
        packed = bytes(self._buffer)
        try:
            self._maybe_uncompress()
        except _NOT_UNPACKED as error:
            headers = ((UNREADABLE, f"a batch that cannot be unpacked: {error}".encode()),)
            at, kind = self.max_timestamp, self.timestamp_type
            return iter([Row(self.next_offset - 1, at, kind, None, packed, headers)])
        return self

    def _read_msg(self) -> Row:
        length, pos = decode_varint(self._buffer, self._pos)
        end = pos + length
        _attributes, pos = decode_varint(self._buffer, pos)
        delta_ms, pos = decode_varint(self._buffer, pos)
        delta, pos = decode_varint(self._buffer, pos)
        key, pos = self._bytes(pos)
        value, pos = self._bytes(pos)
        count, pos = decode_varint(self._buffer, pos)
        pairs = []
        for _ in range(count):
            name, pos = self._bytes(pos)
            raw, pos = self._bytes(pos)
            pairs.append((name or b"", raw))
        if pos != end:
            raise CorruptRecordException(f"a record of {length} bytes ends at {pos}, not at {end}")
        self._pos = pos
        appended = self.timestamp_type == self.LOG_APPEND_TIME
        moment = self.max_timestamp if appended else self.first_timestamp + delta_ms
        headers = _headers(pairs)
        return Row(self.base_offset + delta, moment, self.timestamp_type, key, value, headers)

    def _bytes(self, pos: int) -> tuple[bytes | None, int]:
        length, pos = decode_varint(self._buffer, pos)
        if length < 0:
            return None, pos
        return bytes(self._buffer[pos : pos + length]), pos + length


def _headers(
    pairs: list[tuple[bytes, bytes | None]],
) -> tuple[tuple[str, bytes | None], ...]:
    """Give the headers, with why the codec must refuse them where a name is not UTF-8."""
    headers = [(name.decode(errors="backslashreplace"), raw) for name, raw in pairs]
    for number, ((text, _), (name, _)) in enumerate(zip(headers, pairs, strict=True), start=1):
        if text.encode() != name:
            why = f"the name of header {number} is not UTF-8: {name[:_NAME_BYTES].hex()}"
            return (*headers, (UNREADABLE, why.encode()))
    return tuple(headers)


class _Batches:
    """The batches of a fetch, whose last one may be cut off anywhere."""

    def __init__(self, raw: bytes) -> None:
        self._view = memoryview(raw)

    def has_next(self) -> bool:
        """Tell whether a whole batch is left."""
        return len(self._view) >= _BATCH_START.size and len(self._view) >= self._end()

    def next_batch(self) -> _LenientBatch:
        """Take the next one."""
        end = self._end()
        batch, self._view = _LenientBatch(self._view[:end]), self._view[end:]
        return batch

    def _end(self) -> int:
        _, length = _BATCH_START.unpack_from(self._view)
        return _BATCH_START.size + int(length)


def read_leniently(tp: Any, fetched: Fetched, offset: int, most: int) -> tuple[list[Any], int]:
    """Read up to `most` records from `offset` on; tell them and the offset to read on from.

    Raise aiokafka's CorruptRecordException for bytes that are no batches.
    """
    records = PartitionRecords(
        tp,
        _Batches(fetched.raw),
        fetched.aborted,
        offset,
        key_deserializer=None,
        value_deserializer=None,
        check_crcs=True,
        isolation_level=READ_COMMITTED,
    )
    rows = list(islice(records, most))
    return rows, records.next_fetch_offset


def _is_unreadable(error: Exception) -> bool:
    """Tell what a producer has done: a batch, or a name, as both of aiokafka's decoders say it."""
    if isinstance(error, _NOT_UNPACKED):
        return True
    return isinstance(error, UnicodeDecodeError) or isinstance(error.__cause__, UnicodeDecodeError)


class LenientReader:
    """Reads with an aiokafka consumer; what that cannot decode is read without it.

    Such a record gets one header more, UNREADABLE, which makes it a dead letter.
    """

    def __init__(self, client: Any, call_timeout_seconds: float) -> None:
        self._client = client
        self._call_timeout = call_timeout_seconds
        self._next: dict[Any, int] = {}
        self._turn = 0

    def begin(self) -> None:
        """Forget the positions: another assignment begins."""
        self._next = {}

    def moved(self, tp: Any, offset: int) -> None:
        """Take note that `tp` is read on from `offset`."""
        self._next[tp] = offset

    async def read(
        self, own: Iterable[Any], *, max_records: int, seconds: float
    ) -> Mapping[Any, list[Any]]:
        """Give the next records of the assigned partitions, as `getmany` does."""
        batches: dict[Any, list[Any]]
        try:
            wait_ms = int(seconds * 1000)
            batches = await self._client.getmany(timeout_ms=wait_ms, max_records=max_records)
        except (UnicodeDecodeError, CorruptRecordException, *_NOT_UNPACKED) as error:
            if not _is_unreadable(error):
                raise
            async with answered("read around a broken record", self._call_timeout):
                return await self._read_around(list(own), max_records)
        for tp, rows in batches.items():
            self._next[tp] = rows[-1].offset + 1
        return batches

    async def _read_around(self, own: list[Any], max_records: int) -> dict[Any, list[Any]]:
        """Read one partition, the next in turn that has any records.

        Which one is broken is not told: each has its turn within as many calls as there are.
        """
        for tp in own:
            # The call that failed had taken records of others, and given them to nobody.
            self._client.seek(tp, await self._position(tp))
        self._turn = (self._turn + 1) % len(own)
        paused = self._client.paused()
        order = [tp for tp in own[self._turn :] + own[: self._turn] if tp not in paused]
        fetched = await fetch_raw(self._client, {tp: self._next[tp] for tp in order})
        for tp in (tp for tp in order if tp in fetched):
            rows, after = read_leniently(tp, fetched[tp], self._next[tp], max_records)
            self._next[tp] = after
            self._client.seek(tp, after)
            if rows:
                return {tp: rows}
        return {}

    async def _position(self, tp: Any) -> int:
        """Tell where to read on: after the last record given, else where the group left off."""
        if tp not in self._next:
            committed = await self._client.committed(tp)
            if committed is None:
                committed = (await self._client.beginning_offsets([tp]))[tp]
            self._next[tp] = committed
        return self._next[tp]
