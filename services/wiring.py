"""The wiring: the one place that names implementations."""

import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from pydantic import SecretStr

from schemas.ids import uuid7
from schemas.webhook_source import ARTIFACTS
from services.alert_webhook import check_alert_webhook
from services.callback_url import callback_url
from services.config import PREFIX, ConfigError, Settings
from services.defaults import CALLBACK, LLAMAPARSE
from services.self_hosted import check_self_hosted
from services.webhook_sources import registered_secret
from streams.account import Account
from streams.alert_hook import open_alert_hook
from streams.alert_sender import AlertHook
from streams.blobs.base import Blobs
from streams.blobs.disk import DiskBlobs
from streams.bus.base import Bus
from streams.bus.kafka import KafkaBus
from streams.bus.kafka_calls import thin_client_logs
from streams.estimates import CountPages, uncounted
from streams.fetch_hosts import read_fetch_hosts
from streams.gate import LONGEST_WAIT_TO_GO_ON_SECONDS, SharedGate
from streams.metrics import Recorder
from streams.parsers.base import RemoteParser, Routes
from streams.parsers.callback import CallbackOptions, open_callback_parser
from streams.parsers.liteparse import open_lite_parser
from streams.parsers.llamaparse import LlamaParseOptions, open_llama_parse
from streams.parsers.llamaparse_account import look_at_account
from streams.parsers.llamaparse_wire import checked_url
from streams.parsers.mock import MockBehaviour, MockParser
from streams.parsers.router import Router
from streams.parsers.text import TextParser
from streams.settings import CurrentSettings
from streams.source_fetch import SourceFetch
from streams.source_fetch_https import FetchLimits, open_https_source_fetch
from streams.tables.base import Tables
from streams.tables.sqlite import open_sqlite
from streams.tables.sqlite_version import known_version, read_version

TABLES_FILE = "tables.db"


def process_name(kind: str) -> str:
    """Name this process for leases, logs and the broker: kind, host, a fresh id."""
    return f"{kind}-{socket.gethostname()}-{os.getpid()}-{uuid7()[-12:]}"


def build_bus(settings: Settings, client_id: str) -> Bus:
    """Make the bus, its client's flood of log lines thinned out; nothing is connected yet.

    Raise ConfigError where no broker is named.
    """
    if not settings.kafka_bootstrap_servers:
        raise ConfigError(
            f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS is empty: name the brokers, or run `parsewire up`, "
            "which starts one"
        )
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
    return open_sqlite(settings.data_dir / TABLES_FILE, recorder)


def tables_versions(settings: Settings) -> tuple[int | None, int]:
    """Tell the version of the tables, None where there are none, and the one that we know."""
    path = settings.data_dir / TABLES_FILE
    return (read_version(path) if path.exists() else None), known_version()


def build_blobs(settings: Settings) -> Blobs:
    """Make the blob store."""
    return DiskBlobs(settings.data_dir / "blobs")


def open_alerts(settings: Settings) -> AbstractAsyncContextManager[AlertHook]:
    """Open the operator's webhook for alerts; raise ConfigError where it cannot be used."""
    check_alert_webhook(settings)
    return open_alert_hook(settings.alert_webhook_url)


def open_source_fetch(
    settings: Settings, *, at_once: int
) -> AbstractAsyncContextManager[SourceFetch]:
    """Open the fetcher of documents that producers on the bus name by an address."""
    limits = FetchLimits(
        seconds=settings.fetch_seconds,
        idle_seconds=settings.upload_idle_seconds,
        most_bytes=settings.max_upload_bytes,
    )
    hosts = read_fetch_hosts(settings.fetch_hosts)
    return open_https_source_fetch(hosts, limits, at_once=at_once)


def slots(settings: Settings) -> int:
    """Tell how many documents a worker parses at once."""
    return settings.slots or os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class ParserRoom:
    """The rules by which parsers are chosen, those that are elsewhere, and who counts pages."""

    routes: Routes = field(default_factory=lambda: Router([]))
    remote: Mapping[str, RemoteParser] = field(default_factory=dict)
    count_pages: CountPages = uncounted


@asynccontextmanager
async def open_parsers(
    settings: Settings, tables: Tables, recorder: Recorder, current: CurrentSettings
) -> AsyncIterator[ParserRoom]:
    """Open every parser that the deployment may come to use; `current` says which serve."""
    async with AsyncExitStack() as stack:
        lite = await stack.enter_async_context(
            open_lite_parser(
                slots=slots(settings),
                max_pages=settings.max_pages,
                timeout_seconds=settings.parse_timeout_seconds,
            )
        )
        remote: dict[str, RemoteParser] = {}
        if settings.llamaparse_api_key:
            rate = partial(current.rate, LLAMAPARSE)
            # A turn that comes when the call's deadline has passed is paid for nothing.
            longest = min(LONGEST_WAIT_TO_GO_ON_SECONDS, settings.llamaparse_call_seconds / 2)
            gate = SharedGate(tables, LLAMAPARSE, rate, recorder, to_go_on_seconds=longest)
            options = _llamaparse_options(settings, settings.llamaparse_api_key)
            opened = open_llama_parse(options, gate)
            remote[LLAMAPARSE] = await stack.enter_async_context(opened)
        if settings.callback_parser_url:
            rate = partial(current.rate, CALLBACK)
            gate = SharedGate(tables, CALLBACK, rate, recorder, begins_by="submit")
            hosted = open_callback_parser(_callback_options(settings), gate)
            remote[CALLBACK] = await stack.enter_async_context(hosted)
        name = settings.remote_parser
        router = Router(
            [lite, TextParser(max_pages=settings.max_pages)],
            cloud=remote.get(name),
            mock=_mock(settings),
            mode=lambda: current.mode,
            health=lambda: current.health(name),
            looks_scanned=lite.looks_scanned,
            recorder=recorder,
        )
        yield ParserRoom(router, remote, lite.count_pages)


async def look_at_llamaparse(settings: Settings, key: SecretStr, *, url: str) -> Account:
    """Ask the address what it says of the key; neither rate nor circuit learns of it."""
    return await look_at_account(
        LlamaParseOptions(
            api_key=key.get_secret_value(),
            url=url,
            tier=settings.llamaparse_tier,
            version=settings.llamaparse_version,
            max_pages=settings.max_pages,
            project_id=settings.llamaparse_project_id or None,
            call_seconds=settings.llamaparse_call_seconds,
        )
    )


def llamaparse_url_problem(url: str) -> str | None:
    """Say why calls cannot go to this address; None where nothing speaks against it."""
    try:
        checked_url(url)
    except ValueError as error:
        return str(error)
    return None


def submit_seconds(settings: Settings) -> float:
    """Tell the deadline of a submission to LlamaParse."""
    return _within_lease(settings, settings.llamaparse_call_seconds)


def _within_lease(settings: Settings, call_seconds: float) -> float:
    """Shorten a submission's deadline: it must end before the lease under which it was begun."""
    return min(call_seconds, settings.lease_seconds * 2 / 3)


def _callback_options(settings: Settings) -> CallbackOptions:
    check_self_hosted(settings)
    secret = settings.callback_parser_secret
    return CallbackOptions(
        url=settings.callback_parser_url,
        secret="" if secret is None else secret.get_secret_value(),
        callback_url=callback_url(settings, ARTIFACTS.name) or "",
        max_pages=settings.max_pages,
        submit_seconds=_within_lease(settings, settings.callback_parser_call_seconds),
    )


def _mock(settings: Settings) -> MockParser | None:
    if settings.env == "production":
        return None
    behaviour = MockBehaviour(
        latency_seconds=settings.mock_latency_seconds,
        transient_rate=settings.mock_transient_rate,
        permanent_rate=settings.mock_permanent_rate,
    )
    return MockParser(max_pages=settings.max_pages, behaviour=behaviour)


def _llamaparse_options(settings: Settings, key: SecretStr) -> LlamaParseOptions:
    called_back = callback_url(settings, LLAMAPARSE)
    return LlamaParseOptions(
        api_key=key.get_secret_value(),
        url=settings.llamaparse_url,
        tier=settings.llamaparse_tier,
        version=settings.llamaparse_version,
        max_pages=settings.max_pages,
        project_id=settings.llamaparse_project_id or None,
        call_seconds=settings.llamaparse_call_seconds,
        submit_seconds=submit_seconds(settings),
        callback_url=called_back,
        webhook_secret=None if called_back is None else registered_secret(settings),
    )
