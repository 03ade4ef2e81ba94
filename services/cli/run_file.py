"""What a running deployment leaves in its data directory: `up.json` and the key `api-key`."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import orjson

from services.cli.terminal import CommandError
from services.config import PREFIX, Settings

RUN_FILE = "up.json"
KEY_FILE = "api-key"
LOCK_FILE = "up.lock"


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """One process of the deployment; its pid is None between two lives."""

    name: str
    pid: int | None
    starts: int
    metrics_url: str


@dataclass(frozen=True, slots=True)
class Running:
    """A running deployment; `cluster` is `embedded` or `external`."""

    pid: int
    gateway_url: str
    data_dir: str
    cluster: str
    bootstrap_servers: str
    broker_pid: int | None
    topic_prefix: str
    processes: tuple[RunningProcess, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """Where client verbs turn to, and by which key."""

    url: str
    key: str


@contextmanager
def data_directory_lock(data_dir: Path) -> Iterator[None]:
    """Hold the data directory, so that no second `up` starts on it; a dead holder frees it."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        running = read_run_file(data_dir)
        who = f" (process {running.pid}, {running.gateway_url})" if running else ""
        os.close(descriptor)
        raise CommandError(
            f"a deployment already runs on {data_dir}{who}: "
            f"end it first, or give this one another {PREFIX}DATA_DIR"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def write_run_file(running: Running) -> None:
    """Write `up.json`, whole or not at all."""
    write_private(Path(running.data_dir) / RUN_FILE, orjson.dumps(running))


def read_run_file(data_dir: Path) -> Running | None:
    """Read `up.json`; None where no deployment left a readable one."""
    try:
        return msgspec.convert(orjson.loads((data_dir / RUN_FILE).read_bytes()), Running)
    except (OSError, ValueError):
        return None


def remove_run_file(data_dir: Path) -> None:
    """Remove `up.json`."""
    (data_dir / RUN_FILE).unlink(missing_ok=True)


def read_key(data_dir: Path) -> str | None:
    """Read the key that `up` made, if it did."""
    try:
        return (data_dir / KEY_FILE).read_text().strip() or None
    except FileNotFoundError:
        return None


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)


def find_target(settings: Settings) -> Target:
    """Tell gateway and key: what was configured, else what `up` left, else the default port."""
    if settings.api_key is not None:
        # Read from a file, it has that file's last line feed.
        key: str | None = settings.api_key.get_secret_value().strip()
    else:
        key = read_key(settings.data_dir)
    if not key:
        raise CommandError(
            f"no API key: set {PREFIX}API_KEY, or start `parsewire up`, which keeps one in "
            f"{settings.data_dir / KEY_FILE}"
        )
    if not (key.isascii() and key.isprintable()):
        raise CommandError(f"{PREFIX}API_KEY is no key: there are characters in it that none has")
    return Target(find_gateway(settings), key)


def find_gateway(settings: Settings) -> str:
    """Tell the gateway's URL alone: what was configured, what `up` left, or the default port."""
    running = read_run_file(settings.data_dir)
    url = settings.gateway_url or (running and running.gateway_url)
    return (url or local_url(settings.gateway_host, settings.gateway_port)).rstrip("/")


def local_url(host: str, port: int) -> str:
    """Write the URL at which this machine reaches a listener on `host`."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104  # read, not bound
    bracketed = f"[{reached}]" if ":" in reached and not reached.startswith("[") else reached
    return f"http://{bracketed}:{port}"
