"""The wiring: the one place that names implementations."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from schemas.ids import uuid7
from services.config import Settings
from streams.blobs.base import Blobs
from streams.blobs.disk import DiskBlobs
from streams.bus.base import Bus
from streams.bus.kafka import KafkaBus
from streams.bus.kafka_calls import thin_client_logs
from streams.metrics import Recorder
from streams.parsers.base import ChooseParser
from streams.parsers.liteparse import open_lite_parser
from streams.parsers.mock import MockBehaviour, MockParser
from streams.parsers.router import Router
from streams.parsers.text import TextParser
from streams.tables.base import Tables
from streams.tables.sqlite import open_sqlite


def process_name(kind: str) -> str:
    """Name this process for leases, logs and the broker: kind, host, a fresh id."""
    return f"{kind}-{socket.gethostname()}-{os.getpid()}-{uuid7()[-12:]}"


def build_bus(settings: Settings, client_id: str) -> Bus:
    """Make the bus, its client's flood of log lines thinned out; nothing is connected yet."""
    thin_client_logs()
    return KafkaBus(
        settings.kafka_bootstrap_servers,
        topic_prefix=settings.topic_prefix,
        client_id=client_id,
        send_timeout_seconds=settings.kafka_send_timeout_seconds,
        session_timeout_seconds=settings.kafka_session_timeout_seconds,
        max_bytes_in_flight=settings.kafka_bytes_in_flight,
        partitions=settings.topic_partitions,
        replication_factor=settings.topic_replication,
    )


def open_tables(settings: Settings, recorder: Recorder) -> AbstractAsyncContextManager[Tables]:
    """Open the tables, their schema brought up to date."""
    return open_sqlite(settings.data_dir / "tables.db", recorder)


def build_blobs(settings: Settings) -> Blobs:
    """Make the blob store."""
    return DiskBlobs(settings.data_dir / "blobs")


def slots(settings: Settings) -> int:
    """Tell how many documents a worker parses at once."""
    return settings.slots or os.cpu_count() or 1


@asynccontextmanager
async def open_parsers(settings: Settings) -> AsyncIterator[ChooseParser]:
    """Open the parsers that the mode asks for."""
    if settings.mode == "mock":
        behaviour = MockBehaviour(
            latency_seconds=settings.mock_latency_seconds,
            transient_rate=settings.mock_transient_rate,
            permanent_rate=settings.mock_permanent_rate,
        )
        yield Router([MockParser(max_pages=settings.max_pages, behaviour=behaviour)]).choose
        return
    async with open_lite_parser(
        slots=slots(settings),
        max_pages=settings.max_pages,
        timeout_seconds=settings.parse_timeout_seconds,
    ) as lite:
        yield Router([lite, TextParser(max_pages=settings.max_pages)]).choose
