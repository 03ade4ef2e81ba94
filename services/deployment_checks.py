"""Checks of a deployment's own ground: data directory, tables, broker, topics."""

import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import PermanentError, TransientError
from schemas.topics import TOPICS
from services.config import PREFIX, Settings
from services.doctor import Check, Finding, fail, ok, warn
from services.embedded_broker import embedded_broker_binary
from services.wiring import build_bus, tables_versions

_BROKER_SECONDS = 25.0
_LEAST_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Cluster:
    """The broker of a deployment: where it is, empty for none, and its topics' prefix."""

    bootstrap_servers: str
    topic_prefix: str


def deployment_checks(settings: Settings, cluster: Cluster) -> list[Check]:
    """List the checks of what every deployment stands on."""

    async def data_dir() -> Sequence[Finding]:
        return await asyncio.to_thread(_data_dir, settings.data_dir)

    async def tables() -> Sequence[Finding]:
        return await asyncio.to_thread(_tables, settings)

    async def embedded() -> Sequence[Finding]:
        return [_embedded(needed=not settings.kafka_bootstrap_servers)]

    async def broker() -> Sequence[Finding]:
        return await _broker(settings, cluster)

    return [
        Check("data directory", data_dir),
        Check("tables", tables),
        Check("embedded broker", embedded),
        Check("broker", broker, _BROKER_SECONDS),
    ]


def judge_partitions(wanted: Mapping[str, int], found: Mapping[str, int]) -> Finding:
    """Say whether the topics that are there have the partitions that they must have."""
    wrong = [
        f"{name} has {count}, not {wanted[name]}"
        for name, count in found.items()
        if count != wanted[name]
    ]
    if wrong:
        return fail(
            "topics",
            f"partitions: {'; '.join(wrong)}",
            f"Delete those topics, or give this deployment another {PREFIX}TOPIC_PREFIX.",
        )
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        return ok("topics", f"{len(found)} are there; the next start makes {', '.join(missing)}")
    return ok("topics", f"all {len(found)} are there, with the right partitions")


def judge_versions(present: int | None, known: int) -> Finding:
    """Say whether this program can work on tables of that version."""
    if present is None:
        return ok("tables", "none yet: the first start makes them")
    if present > known:
        return fail(
            "tables",
            f"they are at version {present}, this program knows {known}",
            f"Run the newer program, or give this one another {PREFIX}DATA_DIR.",
        )
    if present < known:
        return ok("tables", f"version {present}: the next start brings them to {known}")
    return ok("tables", f"version {present}")


def _data_dir(path: Path) -> list[Finding]:
    place = path.absolute()
    while not place.exists():
        place = place.parent
    if place != path.absolute() and os.access(place, os.W_OK | os.X_OK):
        return [ok("data directory", f"{path} is not there yet: the first start makes it")]
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        advice = f"Make it writable for this user, or give another {PREFIX}DATA_DIR."
        return [fail("data directory", f"{place} cannot be written to", advice)]
    # Permissions alone say nothing of a full or read-only disk.
    with tempfile.TemporaryFile(dir=place) as probe:
        probe.write(b"parsewire doctor")
        probe.flush()
        os.fsync(probe.fileno())
    free = os.statvfs(place)
    free_bytes = free.f_bavail * free.f_frsize
    said = f"{path} is writable, {free_bytes / (1 << 30):.1f} GiB are free"
    if free_bytes < _LEAST_FREE_BYTES:
        return [warn("data directory", said, "Make room: documents and results are kept here.")]
    return [ok("data directory", said)]


def _tables(settings: Settings) -> list[Finding]:
    return [judge_versions(*tables_versions(settings))]


def _embedded(*, needed: bool) -> Finding:
    try:
        binary = embedded_broker_binary()
    except PermanentError as error:
        if needed:
            advice = f"Give a Kafka by {PREFIX}KAFKA_BOOTSTRAP_SERVERS."
            return fail("embedded broker", error.message, advice)
        return ok("embedded broker", "none for this platform, and none is needed")
    return ok("embedded broker", binary if needed else f"{binary} (not used: a Kafka is given)")


async def _broker(settings: Settings, cluster: Cluster) -> list[Finding]:
    if not cluster.bootstrap_servers:
        return [ok("broker", "none runs here: `parsewire up` starts the embedded one")]
    bus = build_bus(
        settings.model_copy(
            update={
                "kafka_bootstrap_servers": cluster.bootstrap_servers,
                "topic_prefix": cluster.topic_prefix,
            }
        ),
        "doctor",
    )
    try:
        cluster_id = await bus.cluster_id()
    except TransientError as error:
        advice = f"See whether it runs there: {PREFIX}KAFKA_BOOTSTRAP_SERVERS."
        return [fail("broker", f"{cluster.bootstrap_servers}: {error.message}", advice)]
    wanted = {topic.name: settings.topic_partitions or topic.partitions for topic in TOPICS}
    return [
        ok("broker", f"{cluster.bootstrap_servers} answers, cluster {cluster_id}"),
        judge_partitions(wanted, await bus.partition_counts(TOPICS)),
    ]
