"""Reading around records that aiokafka's decoder refuses: a header's name that is not UTF-8.

Kafka takes any bytes for a name. aiokafka decodes whole batches, so one such record would keep
every consumer of its topic from all that follow it, and from the other partitions' records too.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.util import decode_varint

from schemas.codec import UNREADABLE
from streams.bus.kafka_calls import answered
from streams.bus.kafka_fetch import fetch_raw

_NAME_BYTES = 100
_BATCH_START = struct.Struct(">qi")


@dataclass(frozen=True, slots=True)
class Row:
    """A record as aiokafka would give it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka has no types
    """A record batch (format 2) whose records are read whatever bytes their headers' names have.

    Source of the format: Apache Kafka's protocol guide, "Record Batch" and "Record".
    """

    _pos: int

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
        return Row(self.base_offset + delta, moment, key, value, _headers(pairs))

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


def read_leniently(raw: bytes, offset: int, most: int) -> tuple[list[Row], int]:
    """Read up to `most` records from `offset` on; tell them and the offset to read on from.

    Raise aiokafka's CorruptRecordException for bytes that are no batches.
    """
    rows: list[Row] = []
    for batch in _batches(raw):
        if not batch.validate_crc():
            raise CorruptRecordException(f"the checksum of the batch at {batch.base_offset}")
        for row in () if batch.is_control_batch else batch:
            if row.offset >= offset:
                rows.append(row)
            if len(rows) == most:
                return rows, row.offset + 1
        offset = max(offset, batch.next_offset)
    return rows, offset


def _batches(raw: bytes) -> Iterator[Any]:
    """Split what a fetch gave; its last batch may be cut off anywhere."""
    view, start = memoryview(raw), 0
    while len(view) - start >= _BATCH_START.size:
        _, length = _BATCH_START.unpack_from(view, start)
        end = start + _BATCH_START.size + length
        if end > len(view):
            return
        yield _LenientBatch(view[start:end])
        start = end


def _is_unreadable(error: Exception) -> bool:
    """Tell aiokafka's two ways to refuse a name: its compiled decoder's, and its Python one's."""
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
        except (UnicodeDecodeError, CorruptRecordException) as error:
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
            rows, after = read_leniently(fetched[tp].raw, self._next[tp], max_records)
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
