"""Record batches as the broker keeps them, fetched past aiokafka's own reading."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.protocol.fetch import FetchRequest

_BYTES = 50 * 1024 * 1024
_PARTITION_BYTES = 1024 * 1024
_WAIT_MS = 500
"""The embedded broker gives nothing at all to who does not wait."""


async def fetch_raw(client: Any, offsets: Mapping[Any, int]) -> dict[Any, bytes]:
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
    found: dict[Any, bytes] = {}
    for leader, topics in by_leader.items():
        request = FetchRequest(_WAIT_MS, 1, _BYTES, 0, list(topics.items()))
        answer = await connections.send(leader, request)
        for topic, partitions in answer.topics:
            for number, code, *_, raw in partitions:
                if code == 0 and raw:
                    found[TopicPartition(topic, number)] = raw
    return found
