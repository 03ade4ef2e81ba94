"""An alert's way through a worker: from the topic to the operator's webhook, once."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from schemas.alert_events import SpendRateUnusual
from schemas.topics import TOPICS, USAGE_ALERTS
from services import wiring
from services.config import Settings
from services.money_settings import read_money
from services.worker import _run_until_replaced
from services.worker_parts import Process
from streams.bus.base import Outgoing
from streams.leases import Leases
from streams.metrics import Recorder
from streams.telemetry import open_telemetry
from tests.doubles.alert_receiver import open_alert_receiver
from tests.fakes import MemoryBus
from tests.harness import event_of, record_of

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOUR = datetime(2027, 1, 15, 8, tzinfo=UTC)
ALERT = SpendRateUnusual("acme", "llamaparse", HOUR, 12_500_000, 2_000_000)


async def test_from_the_topic_to_the_webhook(tmp_path: Path) -> None:
    recorder, bus = Recorder(CollectorRegistry()), MemoryBus(partitions=1)
    await bus.ensure_topics(TOPICS)
    record = record_of(event_of(ALERT, "a1"), USAGE_ALERTS.name)
    headers = tuple((name, raw or b"") for name, raw in record.headers)
    for _ in range(2):
        bus.append(Outgoing(USAGE_ALERTS.name, b"acme", record.value or b"", headers))
    cluster_id, stopping = await bus.cluster_id(), asyncio.Event()
    async with asyncio.timeout(30), open_alert_receiver(SECRET) as receiver:
        settings = Settings(
            _env_file=None,
            data_dir=tmp_path,
            alert_webhook_url=receiver.url,
            alert_webhook_secret=SecretStr(SECRET),
        )
        money = read_money(settings)
        async with (
            wiring.open_tables(settings, recorder) as tables,
            open_telemetry(bus, recorder, source="/test") as telemetry,
        ):
            leases = Leases(tables, "w", 1_000, 0.1)
            process = Process(
                settings, "w", recorder, tables, bus, cluster_id, telemetry, leases, money
            )
            running = asyncio.create_task(
                _run_until_replaced(process, frozenset({"alerts"}), stopping)
            )
            await receiver.arrived.wait()
            stopping.set()
            assert await running == 0
            stored = await tables.read(
                lambda tx: tx.all(
                    "positions.stored", cluster_id=cluster_id, consumer_group="alerts"
                )
            )
    assert receiver.ids() == ["a1"]
    assert [(row["topic"], row["next_offset"]) for row in stored] == [("usage.alerts", 2)]
