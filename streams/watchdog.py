"""The watchdog: notices a consumer without progress, a replaced cluster and a late event loop."""

import asyncio
import time
from collections.abc import Callable

import structlog

from schemas.errors import Code, TransientError
from streams.bus.base import Bus, Consumer, Partition
from streams.metrics import LAG_MESSAGES, LAG_SECONDS, LOOP_DELAY, Recorder

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 2.0


class ClusterReplacedError(Exception):
    """Another cluster answers at the address of the one that this process started with."""


class Progress:
    """What one processor has done lately, and how far it is behind."""

    def __init__(
        self,
        processor: str,
        recorder: Recorder,
        *,
        stall_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._processor = processor
        self._recorder = recorder
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._consumer: Consumer | None = None
        self._moved_at = clock()
        self._stalled: str | None = None
        self._shown: frozenset[Partition] = frozenset()

    def begin(self, consumer: Consumer) -> None:
        """Watch this consumer."""
        self._consumer = consumer
        self._moved_at = self._clock()
        self._stalled = None

    def end(self) -> None:
        """Watch nothing; the lag shown goes to zero."""
        self._consumer = None
        self._show({})

    def handled(self, records: int) -> None:
        """Count records as progress."""
        if records:
            self._moved_at = self._clock()
            self._stalled = None

    def waited(self) -> None:
        """Count waiting for a slot as progress: its work has a deadline of its own."""
        self._moved_at = self._clock()

    def raise_if_stalled(self) -> None:
        """Raise TransientError when the last look found something to do and no progress."""
        if self._stalled is not None:
            raise TransientError(
                Code.BUS_UNAVAILABLE,
                f"{self._processor} {self._stalled} and made no progress "
                f"for {self._stall_seconds:g} s",
            )

    async def look(self) -> None:
        """Measure the lag, and judge."""
        consumer = self._consumer
        if consumer is None:
            return
        lag = await consumer.lag()
        if self._consumer is not consumer:
            # It ended while the broker was asked, and its lag is nobody's any more.
            return
        self._show({p: (one.messages, one.seconds) for p, one in lag.items()})
        behind = sum(one.messages for one in lag.values())
        idle = self._clock() - self._moved_at
        # A group that never answers shows no lag: nobody knows what this member should read.
        waits = not consumer.is_settled()
        if behind == 0 and not waits:
            self._moved_at = self._clock()
        elif idle > self._stall_seconds:
            log.error("consumer_stalled", processor=self._processor, lag=behind, idle_seconds=idle)
            self._stalled = "waits for its group" if waits else "has lag"

    def _show(self, lag: dict[Partition, tuple[int, float]]) -> None:
        gone = dict.fromkeys(self._shown - lag.keys(), (0, 0.0))
        for partition, (messages, seconds) in (gone | lag).items():
            labels = {
                "processor": self._processor,
                "topic": partition.topic,
                "partition": str(partition.number),
            }
            self._recorder.set(LAG_MESSAGES, messages, **labels)
            self._recorder.set(LAG_SECONDS, seconds, **labels)
        self._shown = frozenset(lag)


async def watch_progress(progresses: list[Progress]) -> None:
    """Look at every processor again and again; trouble of the bus only delays."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        for progress in progresses:
            try:
                await progress.look()
            except TransientError as error:
                log.info("lag_unknown", error=error.message)


async def watch_cluster(bus: Bus, cluster_id: str, look_seconds: float = _LOOK_SECONDS) -> None:
    """Raise ClusterReplacedError once another cluster answers; an absent one is waited for."""
    while True:
        await asyncio.sleep(look_seconds)
        try:
            present = await bus.cluster_id()
        except TransientError as error:
            log.info("cluster_away", error=error.message)
            continue
        if present != cluster_id:
            raise ClusterReplacedError(f"cluster {present} answers in place of {cluster_id}")


async def watch_loop(recorder: Recorder) -> None:
    """Measure how late the event loop wakes up."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + 0.5
        await asyncio.sleep(0.5)
        recorder.set(LOOP_DELAY, max(0.0, loop.time() - due))
