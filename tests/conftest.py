"""Fixtures for every tier: buses, brokers, names."""

import gc
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import structlog

from services import embedded_broker
from tests.brokers import open_kafka, skip_or_fail
from tests.fakes import MemoryBus
from tests.kafka_process import NoKafkaError
from tests.shared import open_shared

TESTS = Path(__file__).parent
SLOWEST_FIRST = ("faults", "flow", "e2e", "contracts", "properties")
"""A long file that comes last keeps one process busy while the others have nothing to do."""


def pytest_configure() -> None:
    """Write log lines in the form that processes write them in, and collect no garbage."""
    # Up to the first test all that is made is kept: looking through it took a sixth of the time.
    gc.disable()
    # structlog's own form colours each traceback with all local variables: 0.2 s a line.
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by tier."""
    items.sort(key=_rank)


def pytest_collection_finish() -> None:
    """Collect garbage among what the tests make, and look at nothing older."""
    gc.freeze()
    gc.enable()


def _rank(item: pytest.Item) -> int:
    tier = item.path.relative_to(TESTS).parts[0]
    return SLOWEST_FIRST.index(tier) if tier in SLOWEST_FIRST else len(SLOWEST_FIRST)


@pytest.fixture(scope="session")
def kafka_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of the run have in common."""
    run = tmp_path_factory.getbasetemp()
    folder = (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "kafka"
    folder.mkdir(exist_ok=True)
    return folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka_bootstrap(kafka_folder: Path) -> AsyncIterator[str]:
    """Bootstrap servers of a real Kafka, one for all processes of the run."""
    try:
        async with open_shared(kafka_folder, open_kafka) as servers:
            yield servers
    except NoKafkaError as error:
        skip_or_fail(str(error))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def embedded_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Bootstrap servers of the embedded broker, one for the whole session."""
    output = tmp_path_factory.mktemp("embedded") / "broker.log"
    async with embedded_broker.open_embedded_broker(output) as broker:
        yield broker.bootstrap_servers


@pytest.fixture
def memory_bus() -> MemoryBus:
    """A bus in memory, empty."""
    return MemoryBus()


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test's topics and groups have."""
    return f"test-{uuid.uuid4().hex[:12]}."


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    return embedded_broker.free_port()
