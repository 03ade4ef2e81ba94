"""How a deployment's processes are started: their commands, environment, ports and health."""

import asyncio
import os
import socket
import sys
from collections.abc import Mapping, Sequence

import aiohttp

from services.child import Member, Process
from services.cli.run_file import local_url
from services.cli.terminal import CommandError
from services.config import PREFIX, Settings, environment_with
from services.embedded_broker import free_port
from services.roles import GAUGES, ROLES

_ANSWER_SECONDS = 2.0
_ASK_AGAIN_SECONDS = 0.05
EMBEDDED_SESSION_SECONDS = 6.0
"""The embedded broker lets a group's first join wait half of the session's time-out."""

_LISTENS = {"gateway": "gateway_port", "worker": "metrics_port", "windows": "windows_port"}
"""The setting that says where a process listens, by its verb."""

_BUT_GAUGES = ",".join(role for role in ROLES if role != GAUGES)


class Launch:
    """One process of the deployment: started on a port, and asked there whether it is alive.

    `verb` is `gateway`, `worker` or `windows`; `changes` are settings that the process gets;
    `only` are a worker's roles, where it has not all.
    """

    def __init__(
        self,
        name: str,
        verb: str,
        http: aiohttp.ClientSession,
        changes: Mapping[str, object],
        *,
        host: str,
        port: int,
        only: str | None = None,
    ) -> None:
        self.name = name
        self._verb = verb
        self._only = only
        self._http = http
        self._changes = changes
        self._host = host
        self._port = port
        self._health_path = "/metrics" if verb == "worker" else "/health"

    @property
    def url(self) -> str:
        """Tell where it listens."""
        return local_url(self._host, self._port)

    def member(self) -> Member:
        """Give the supervisor its view."""
        return Member(self.name, self.start, lambda: self.answers(self._health_path))

    async def start(self, bootstrap_servers: str) -> Process:
        """Start the process on this broker; but for the gateway's, a taken port is replaced.

        It has a session of its own, so that Ctrl-C reaches the supervisor alone.
        """
        listens = _LISTENS[self._verb]
        if self._verb != "gateway":
            self._port = usable_port(self._host, self._port)
        changes = {"kafka_bootstrap_servers": bootstrap_servers, listens: self._port}
        return await asyncio.create_subprocess_exec(
            *self.command(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            env=environment_with({**self._changes, **changes}),
            start_new_session=True,
        )

    def command(self) -> Sequence[str]:
        """Give the command that starts it."""
        verb = (sys.executable, "-P", "-m", "services.cli.main", self._verb)
        only = () if self._only is None else ("--only", self._only)
        return (*verb, *only, "--parent", str(os.getpid()), "--name", self.name)

    async def wait_for_answer(self, path: str) -> None:
        """Wait until the process says at `path` that it is well."""
        while not await self.answers(path):  # noqa: ASYNC110  # another process sets no event
            await asyncio.sleep(_ASK_AGAIN_SECONDS)

    async def answers(self, path: str) -> bool:
        """Tell whether the process says at `path` that it is well."""
        try:
            async with self._http.get(self.url + path) as response:
                await response.read()
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


def build_launches(
    settings: Settings, http: aiohttp.ClientSession, workers: int, changes: Mapping[str, object]
) -> list[Launch]:
    """Give the gateway, then the workers; the first alone shows what the tables hold."""
    host, port = settings.gateway_host, gateway_port(settings)
    gateway = Launch("gateway", "gateway", http, changes, host=host, port=port)
    ports = [settings.metrics_port and settings.metrics_port + n for n in range(workers)]
    return [
        gateway,
        *(
            Launch(
                f"worker-{number}",
                "worker",
                http,
                changes,
                host=settings.metrics_host,
                port=usable_port(settings.metrics_host, port),
                only=None if number == 1 else _BUT_GAUGES,
            )
            for number, port in enumerate(ports, start=1)
        ),
    ]


def build_windows_launch(
    settings: Settings, http: aiohttp.ClientSession, changes: Mapping[str, object]
) -> Launch:
    """Give the process of the usage windows, for which nobody waits."""
    host = settings.metrics_host
    port = usable_port(host, settings.windows_port)
    return Launch("windows", "windows", http, changes, host=host, port=port)


def open_health_session() -> aiohttp.ClientSession:
    """Open the session by which processes are asked; a connection is never used twice."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS),
    )


def child_changes(settings: Settings) -> dict[str, object]:
    """Tell what the children's settings must say, whatever the environment says."""
    embedded = not settings.kafka_bootstrap_servers
    usual = embedded and "kafka_session_timeout_seconds" not in settings.model_fields_set
    session_seconds = settings.kafka_session_timeout_seconds
    return {
        "data_dir": settings.data_dir.absolute(),
        "topic_prefix": settings.topic_prefix,
        "log_level": settings.log_level,
        "kafka_session_timeout_seconds": EMBEDDED_SESSION_SECONDS if usual else session_seconds,
    }


def gateway_port(settings: Settings) -> int:
    """Choose the gateway's port: the one that was asked for, or the usual one, or a free one."""
    asked = settings.gateway_port
    if "gateway_port" not in settings.model_fields_set or asked == 0:
        return usable_port(settings.gateway_host, asked)
    if not _is_free(settings.gateway_host, asked):
        raise CommandError(
            f"port {asked} of {settings.gateway_host} is taken: "
            f"give another {PREFIX}GATEWAY_PORT, or 0 for any free one"
        )
    return asked


def usable_port(host: str, preferred: int) -> int:
    """Give the port if nobody has it, else any free one."""
    return preferred if preferred and _is_free(host, preferred) else free_port()


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # Without it, connections of a process that has just ended keep the port for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
