"""The end of a worker whose cluster is replaced: what it holds stays its own until it is done."""

import asyncio
import hashlib
from pathlib import Path

from prometheus_client import CollectorRegistry

from schemas.events import BlobRef
from schemas.job import offer
from schemas.topics import TOPICS
from services import wiring
from services.config import Settings
from services.money_settings import read_money
from services.process import EXIT_START_ANEW
from services.worker import _run_until_replaced
from services.worker_parts import Process
from streams.admission import Terms, admit
from streams.blobs.base import source_key
from streams.bus.base import Outgoing
from streams.leases import Leases
from streams.metrics import Recorder
from streams.telemetry import open_telemetry
from tests.fakes import MemoryBus
from tests.harness import event_of, record_of, submission_of
from tests.processes import until

TEXT = b"a document of one line\n"


async def test_leases_are_renewed_until_the_drain_is_over(tmp_path: Path) -> None:
    settings = Settings(
        mode="mock",
        data_dir=tmp_path,
        mock_latency_seconds=4,
        lease_seconds=1,
        renew_seconds=0.1,
        drain_seconds=20,
    )
    recorder, bus = Recorder(CollectorRegistry()), MemoryBus(partitions=1)
    await bus.ensure_topics(TOPICS)
    source = BlobRef("", hashlib.sha256(TEXT).hexdigest(), len(TEXT))
    submission = submission_of(source=source, media_type="text/plain")
    source = BlobRef(source_key("acme", submission.job_id), source.sha256, source.size_bytes)
    submission = submission_of(job_id=submission.job_id, source=source, media_type="text/plain")
    async with (
        asyncio.timeout(60),
        wiring.open_tables(settings, recorder) as tables,
        bus.open_producer() as producer,
        open_telemetry(producer, recorder, source="/test") as telemetry,
    ):
        leases = Leases(tables, "w", 1_000, settings.renew_seconds)
        cluster_id = await bus.cluster_id()
        money = read_money(settings)
        process = Process(
            settings, "w", recorder, tables, bus, cluster_id, telemetry, leases, money
        )
        await wiring.build_blobs(settings).put(source.key, TEXT)
        job = (await tables.write(lambda tx: admit(tx, submission, Terms(settings.timings())))).job
        record = record_of(event_of(offer(job)), "documents.uploaded")
        assert record.value is not None
        headers = tuple((name, raw or b"") for name, raw in record.headers)
        bus.append(Outgoing("documents.uploaded", record.key, record.value, headers))
        running = asyncio.create_task(
            _run_until_replaced(process, frozenset({"parse"}), asyncio.Event())
        )

        async def claimed() -> bool:
            return bool(await tables.read(lambda tx: tx.all("attempts.of_job", job_id=job.id)))

        await until(claimed, "the worker has claimed the attempt", within_seconds=20)
        bus.replace()
        assert await running == EXIT_START_ANEW
        (attempt,) = await tables.read(lambda tx: tx.all("attempts.of_job", job_id=job.id))
    assert attempt["ended_ms"] is not None
    assert attempt["ended_ms"] < attempt["deadline_ms"]
