"""What the broker keeps, fetched past aiokafka's own reading: undecoded batches and true ends."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.protocol.fetch import FetchRequest

from streams.bus.base import Partition, Record
from streams.bus.kafka_calls import answered

_BYTES = 50 * 1024 * 1024
_PARTITION_BYTES = 1024 * 1024
_WAIT_MS = 500
"""The embedded broker gives nothing at all to who does not wait."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a partition gave: its batches undecoded, and the offset of its next record."""

    raw: bytes
    end: int
    aborted: Sequence[tuple[int, int]]
    """Transactions that came to nothing: whose, and the first offset of each."""


def records_of(partition: Partition, rows: Sequence[Any]) -> list[Record]:
    """Give what aiokafka read as records of the partition."""
    return [
        Record(partition, row.offset, row.key, row.value, row.headers, row.timestamp)
        for row in rows
    ]


async def known_ends(client: Any, tps: Sequence[Any]) -> dict[Any, int]:
    """Tell the logs' ends at the cost of one call: what `log_end` adds, as of the last fetch.

    What stands behind an open transaction is not there yet.
    """
    ends: dict[Any, int] = await client.end_offsets(tps)
    for tp in ends.keys() & client.assignment():
        ends[tp] = max(ends[tp], client.last_stable_offset(tp) or 0)
    return ends


async def log_end(client: Any, tp: Any, within_seconds: float) -> int:
    """Tell the offset of the next record that `tp` will get; raise TransientError without answer.

    The embedded broker calls the second record of the last batch the end, so that is read too.
    """
    async with answered(f"end of {tp.topic}", within_seconds):
        end = int((await client.end_offsets([tp]))[tp])
        fetched = await fetch_raw(client, {tp: end - 1}) if end else {}
    return max(end, fetched[tp].end) if tp in fetched else end


async def fetch_raw(client: Any, offsets: Mapping[Any, int]) -> dict[Any, Fetched]:
    """Fetch the undecoded batches of each partition from its offset on, where there are any.

    The last batch may be cut off anywhere. A partition whose leader is unknown or refuses is left
    out: aiokafka finds the new leader, or the new start of the log. Raise aiokafka's errors.
    """
    connections = client._client  # noqa: SLF001  # nothing public gives undecoded bytes
    by_leader: dict[int, dict[str, list[tuple[int, int, int]]]] = {}
    for tp, offset in offsets.items():
        leader = connections.cluster.leader_for_partition(tp)
        if leader is not None and leader >= 0:
            topics = by_leader.setdefault(leader, defaultdict(list))
            topics[tp.topic].append((tp.partition, offset, _PARTITION_BYTES))
    found: dict[Any, Fetched] = {}
    for leader, topics in by_leader.items():
        request = FetchRequest(_WAIT_MS, 1, _BYTES, READ_COMMITTED, list(topics.items()))
        answer = await connections.send(leader, request)
        for topic, partitions in answer.topics:
            for number, code, end, *more, raw in partitions:
                if code == 0 and raw:
                    aborted = next((part for part in more if isinstance(part, list)), ())
                    found[TopicPartition(topic, number)] = Fetched(raw, end, aborted)
    return found
