"""Documents over the bus, against the same over HTTP: from the first byte sent to `complete`."""

import statistics
import time
import uuid
from contextlib import AsyncExitStack

import aiokafka

from bench.children import open_child
from bench.deployment import Deployment, open_deployment
from bench.document_speed import upload_all
from bench.figures import Figure, median_ratio
from bench.ground import Ground
from bench.stamps import ONE_PAGE, stamped_copy

_DOCUMENTS = 800
_WARM = 50
_RUN_SECONDS = 60.0
_TENANT = "bench"


async def measure_bus(ground: Ground) -> list[Figure]:
    """Submit one-page documents both ways in turn, again and again."""
    folder = ground.folder_of("bus")
    prefix = f"bench-{uuid.uuid4().hex[:8]}."
    settings = {"intake": f"documents.submitted:{_TENANT}", "topic_prefix": prefix}
    over_http: list[float] = []
    over_bus: list[float] = []
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        deployment = await enter(open_deployment(ground, folder, worker=True, settings=settings))
        load = await enter(open_child("load", "bench.load", folder=folder))
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=ground.servers, acks="all")
        await enter(producer)
        topic = f"{prefix}documents.submitted"
        await upload_all(deployment, load, ONE_PAGE, uuid.uuid4().hex, _WARM)
        await _submit_all(deployment, producer, topic, _WARM)
        for number in range(1, ground.repeat + 1):
            stamp = uuid.uuid4().hex
            over_http.append(await upload_all(deployment, load, ONE_PAGE, stamp, _DOCUMENTS))
            over_bus.append(await _submit_all(deployment, producer, topic, _DOCUMENTS))
            ground.say(
                f"one-page {number}: over the bus {over_bus[-1]:,.0f}/s, "
                f"over HTTP {over_http[-1]:,.0f}/s"
            )
    speeds = {"over the bus": over_bus, "over HTTP": over_http}
    return [
        *(
            Figure(f"one-page documents {way}", statistics.median(measured), "documents/s")
            for way, measured in speeds.items()
        ),
        Figure("documents: over the bus / over HTTP", median_ratio(over_bus, over_http), "ratio"),
    ]


async def _submit_all(
    deployment: Deployment, producer: aiokafka.AIOKafkaProducer, topic: str, count: int
) -> float:
    """Write so many documents to the topic, wait until all are complete, and give their rate."""
    stamp, content = uuid.uuid4().hex, ONE_PAGE.read_bytes()
    documents = [stamped_copy(content, stamp, number) for number in range(count)]
    before, started = deployment.complete(), time.perf_counter()
    for number, document in enumerate(documents):
        name = f"{stamp}-{number}".encode()
        await producer.send(topic, document, name, headers=[("ce_id", name)])
    await producer.flush()
    return count / (await deployment.wait_complete(before + count, _RUN_SECONDS) - started)
