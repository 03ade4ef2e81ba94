"""A desk for the usage windows: their process, the events that it reads, and the ledger's sums."""

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from confluent_kafka import Consumer, TopicPartition
from prometheus_client import CollectorRegistry

from schemas.codec import encode
from schemas.events import Event
from schemas.money import Scope
from schemas.periods import Period, span, unix_ms
from schemas.topics import COSTS_EVENTS, TOPICS, key_of
from streams.budgets import Budget, Limits, Whose, set_budget
from streams.bus.base import Outgoing
from streams.bus.kafka import KafkaBus
from streams.costs import Costs
from streams.metrics import Recorder
from streams.tables.sqlite import SqliteTables, open_sqlite
from tests.cost_stories import Payer
from tests.processes import FleetProcess, until
from tests.topics import read_topic

Sums = dict[tuple[str, str], list[int]]
"""By tenant and service: micro-dollars, pages and requests that were spent."""

SPENT = ("spent_micro_usd", "spent_pages", "spent_requests")

_LEDGER = """
SELECT tenant, service, sum(spent_micro_usd), sum(spent_pages), sum(spent_requests)
FROM cost_ledger WHERE booked_ms >= ? AND booked_ms < ? GROUP BY tenant, service"""


class WindowsDesk:
    """One hour of money: said on the bus, folded into the ledger, counted by the process."""

    def __init__(
        self, folder: Path, servers: str, prefix: str, tables: SqliteTables, http: Any
    ) -> None:
        settings: dict[str, object] = {
            "data_dir": folder,
            "kafka_bootstrap_servers": servers,
            "topic_prefix": prefix,
            "kafka_session_timeout_seconds": 3,
            "log_format": "json",
        }
        self.process = FleetProcess("windows", "windows", folder, settings)
        self.second = FleetProcess("windows", "second", folder, settings)
        self.booked_at = datetime.now(UTC)
        self.servers = servers
        self.prefix = prefix
        self._bus = KafkaBus(servers, topic_prefix=prefix, client_id="desk")
        self._file = folder / "tables.db"
        self._tables = tables
        self._http = http
        self._jobs = 0
        self._chance = random.Random(20261124)

    async def make_topics(self) -> None:
        """Make them before anybody reads."""
        await self._bus.ensure_topics(TOPICS)

    async def limit(self, micro_usd: int) -> None:
        """Set the deployment's budget of a month."""
        whose = Whose(Scope.DEPLOYMENT, "", Period.MONTH)
        budget = Budget(whose, Limits(micro_usd=micro_usd), hard=False)
        await self._tables.write(lambda tx: set_budget(tx, budget, "test", UTC))

    def stories(self, jobs: int, micro_usd: int = 100) -> list[Event]:
        """Give jobs of several tenants and services, each reserved and settled, some corrected."""
        events: list[Event] = []
        for _ in range(jobs):
            self._jobs += 1
            number = self._jobs
            tenant, service = f"t{number % 5}", ("llamaparse", "callback")[number % 2]
            payer = Payer(f"job-{number}", self.booked_at, tenant=tenant, service=service)
            events += [payer.reserved(2 * micro_usd), payer.settled(micro_usd)]
            if number % 10 == 0:
                events.append(payer.corrected(-micro_usd // 2))
        return events

    async def say(self, events: Sequence[Event]) -> None:
        """Fold the events into the ledger, and put them on the bus out of order, a third twice."""
        await self._tables.write(lambda tx: Costs(UTC).apply(tx, events))
        doubled = [*events, *events[:: self._chance.choice((2, 3))]]
        self._chance.shuffle(doubled)
        async with self._bus.open_producer() as producer:
            for start in range(0, len(doubled), 500):
                sending = (producer.send(_outgoing(e)) for e in doubled[start : start + 500])
                await asyncio.gather(*sending)

    def ledger(self) -> Sums:
        """Sum the ledger's lines of the hour."""
        hour = span(Period.HOUR, unix_ms(self.booked_at), UTC)
        with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)) as file:
            rows = file.execute(_LEDGER, (hour.start_ms, hour.end_ms)).fetchall()
        return {(tenant, service): spent for tenant, service, *spent in rows}

    async def windows(self) -> list[Any]:
        """Ask for the windows of the hour, every step of them."""
        body = await self.ask(f"/windows?at={unix_ms(self.booked_at)}")
        return list(body["windows"]) if body else []

    async def counted(self) -> Sums:
        """Give what the windows of the hour hold."""
        return {
            (line["tenant"], line["service"]): [line[name] for name in SPENT]
            for line in await self.windows()
            if line["step"] == "hour" and "stage" not in line
        }

    async def ask(self, path: str) -> Any:
        """Ask the process; None while it does not answer."""
        lines = [orjson.loads(raw) for raw in self.process.log.read_bytes().splitlines()]
        ports = [line["port"] for line in lines if line["event"] == "windows_served"]
        try:
            async with self._http.get(f"http://127.0.0.1:{ports[-1]}{path}") as answer:
                return await answer.json()
        except (aiohttp.ClientError, OSError, IndexError):
            return None

    async def some_counted(self) -> None:
        """Wait until this life of the process has counted something."""

        async def some() -> bool:
            return bool((await self.ask("/windows") or {}).get("events_seen"))

        await until(some, "an event is counted", within_seconds=40)

    async def all_committed(self) -> None:
        """Wait until the group has committed every record there is, and the process knows it."""

        async def committed() -> bool:
            said = await self.ask("/windows") or {}
            whole = said.get("recovered") and said.get("lag") == 0
            return bool(whole) and await asyncio.to_thread(self._is_committed)

        await until(committed, "every event is counted and committed", within_seconds=40)

    async def alerts(self) -> Counter[int]:
        """Count the alerts by percent, whatever comes twice under one id taken once."""
        told = dict(await self._alerts())
        return Counter(told.values())

    async def alerts_sent(self) -> Counter[int]:
        """Count the alerts by percent, those that came twice as two."""
        return Counter(percent for _, percent in await self._alerts())

    async def _alerts(self) -> list[tuple[str, int]]:
        """Give the alerts in their order, each with its id and its percent."""
        seen = await read_topic(self.servers, f"{self.prefix}usage.alerts")
        return [(one.headers["ce_id"], orjson.loads(one.value)["percent"]) for one in seen]

    def _is_committed(self) -> bool:
        topic = self.prefix + COSTS_EVENTS.name
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": f"{self.prefix}usage"})
        try:
            places = [TopicPartition(topic, n) for n in range(COSTS_EVENTS.partitions)]
            held = {tp.partition: tp.offset for tp in consumer.committed(places, timeout=10)}
            ends = [consumer.get_watermark_offsets(tp, timeout=10)[1] for tp in places]
        finally:
            consumer.close()
        return all(max(held[n], 0) == end for n, end in enumerate(ends))


@asynccontextmanager
async def open_windows_desk(folder: Path, servers: str, prefix: str) -> AsyncIterator[WindowsDesk]:
    """Lend a desk, and end its process."""
    async with (
        open_sqlite(folder / "tables.db", Recorder(CollectorRegistry())) as tables,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
    ):
        desk = WindowsDesk(folder, servers, prefix, tables, http)
        await desk.make_topics()
        try:
            yield desk
        finally:
            await desk.process.stop()


def _outgoing(event: Event) -> Outgoing:
    value, headers = encode(event)
    return Outgoing(COSTS_EVENTS.name, key_of(event.body).encode(), value, headers)
