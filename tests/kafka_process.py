"""A real Apache Kafka as a process of ours, which may be killed and started again."""

import asyncio
import base64
import hashlib
import os
import random
import re
import shutil
import socket
import uuid
from pathlib import Path

from schemas.errors import TransientError
from services.embedded_broker import dying_with_parent
from streams.bus.kafka import KafkaBus

ROOT = Path(__file__).parent.parent
POM = ROOT / "tests" / "java" / "pom.xml"
JAVA_OPTIONS = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
log.dirs={logs}
"""


class NoKafkaError(Exception):
    """There is no real Kafka to be had here; the message says why."""


async def kafka_jars() -> Path:
    """Give the folder of Kafka's jars, fetched by Maven once and kept under build/."""
    pom = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    kept = ROOT / "build" / f"kafka-{pom}"
    if kept.is_dir():
        return kept
    if await _java_version() < 17 or shutil.which("mvn") is None:
        raise NoKafkaError("there is no Java 17 with Maven")
    fetched = ROOT / "build" / f".kafka-{pom}.{uuid.uuid4().hex}"
    code, said = await _run(
        [
            *("mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"),
            f"-DoutputDirectory={fetched}",
        ],
        within_seconds=240,
    )
    if code != 0:
        shutil.rmtree(fetched, ignore_errors=True)
        raise NoKafkaError(f"Maven could not fetch Kafka: {said[-600:]}")
    if kept.is_dir():
        # Another run was faster.
        shutil.rmtree(fetched)
    else:
        fetched.rename(kept)
    return kept


class KafkaProcess:
    """A broker on a data directory and fixed ports, so that it comes back as the same one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port, self._controller_port = stable_port(), stable_port()
        self._process: asyncio.subprocess.Process | None = None
        self.bootstrap_servers = f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Tell the process id of the running broker."""
        if self._process is None:
            raise RuntimeError("the broker does not run")
        return self._process.pid

    async def start(self, within_seconds: float = 60) -> None:
        """Start, or start again on the same data, and return once it answers."""
        if await _java_version() < 17:
            raise NoKafkaError("there is no Java 17")
        jars = await kafka_jars()
        properties = self._directory / "server.properties"
        if not (self._directory / "logs" / "meta.properties").exists():
            await self._format(jars, self._configure(properties))
        with (self._directory / "kafka.out").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *dying_with_parent(
                    ["java", *JAVA_OPTIONS, "-cp", f"{jars}/*", "kafka.Kafka", str(properties)]
                ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            async with asyncio.timeout(within_seconds):
                await self._until_it_answers(self._process)
        except BaseException:
            await self.kill()
            raise

    async def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def stop(self) -> None:
        """End it; what it holds is of no more use, so it need not shut down in order."""
        await self.kill()

    def _configure(self, properties: Path) -> Path:
        self._directory.mkdir(parents=True, exist_ok=True)
        properties.write_text(
            _PROPERTIES.format(
                broker=self._port, controller=self._controller_port, logs=self._directory / "logs"
            )
        )
        return properties

    async def _format(self, jars: Path, properties: Path) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if cluster_id.startswith("-"):
            # The tool would take it for an option.
            cluster_id = "A" + cluster_id[1:]
        code, said = await _run(
            [
                *("java", *JAVA_OPTIONS, "-cp", f"{jars}/*", "kafka.tools.StorageTool"),
                *("format", "-t", cluster_id, "-c", str(properties)),
            ],
            within_seconds=60,
        )
        if code != 0:
            raise RuntimeError(f"formatting Kafka's storage failed: {said[-600:]}")

    async def _until_it_answers(self, process: asyncio.subprocess.Process) -> None:
        bus = KafkaBus(self.bootstrap_servers, client_id="readiness", call_timeout_seconds=2)
        exited = asyncio.create_task(process.wait())
        try:
            while not await _listens(self._port) or not await _has_brokers(bus):
                await asyncio.wait({exited}, timeout=0.1)
                if exited.done():
                    raise RuntimeError(f"Kafka ended; see {self._directory}/kafka.out")
        finally:
            exited.cancel()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _has_brokers(bus: KafkaBus) -> bool:
    try:
        await bus.cluster_id()
    except TransientError:
        return False
    return True


async def _java_version() -> int:
    if shutil.which("java") is None:
        return 0
    _, said = await _run(["java", "-version"], within_seconds=10)
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


async def _run(command: list[str], *, within_seconds: float) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "MAVEN_OPTS": os.environ.get("MAVEN_OPTS", "-Xmx256m")},
    )
    try:
        async with asyncio.timeout(within_seconds):
            said, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, said.decode(errors="replace")


def stable_port() -> int:
    """Choose a free port below the range that outgoing connections take theirs from.

    While a broker is down, a client that tries to reach it may else be given its very port.
    """
    for _ in range(200):
        port = random.randrange(15000, 30000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise RuntimeError("no free port found")
