"""Configuration: read once from the environment and `.env` into one frozen value."""

import os
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher

from dotenv import dotenv_values
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.events import Tier
from schemas.timings import Timings
from services.deployment_settings import DeploymentSettings
from services.setting_kinds import (
    Count,
    HostList,
    MaybeCount,
    MaybePath,
    MaybeSecret,
    NotNegative,
    Port,
    Positive,
    ZoneName,
)

PREFIX = "PARSEWIRE_"

_FILE = ".env"


class ConfigError(Exception):
    """A variable has a value that cannot be; the message names it and says what is right."""


class Settings(DeploymentSettings, BaseSettings):
    """Every variable, with its default and meaning; the README's table is made from this."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=_FILE, extra="ignore", frozen=True
    )

    gateway_host: str = Field("127.0.0.1", description="Where the gateway listens.")
    gateway_port: Port = Field(8080, description="Its port; 0: any free one.")
    metrics_host: str = Field("127.0.0.1", description="Where workers show their metrics.")
    metrics_port: Port = Field(0, description="A worker's metrics port; 0: any free one.")
    windows_port: Port = Field(0, description="Port of the usage windows there; 0: any free one.")
    max_upload_bytes: Count = Field(
        512 * 1024 * 1024 + 64 * 1024,
        description="Largest document, after decompression.",
    )
    upload_idle_seconds: Positive = Field(
        30.0, description="How long a sender may be silent within a body before it gets 408."
    )
    upload_total_seconds: Positive = Field(3600.0, description="How long one upload may last.")
    uploads_at_once: Count = Field(256, description="Uploads read at once; more get 503.")
    fetch_hosts: HostList = Field(
        "",
        description="Hosts that producers on the bus may name documents at, by https: "
        "`docs.example.com,*.example.org,files.example.net:8443`; empty: none.",
    )
    fetch_seconds: Positive = Field(60.0, description="How long fetching one of them may take.")

    slots: MaybeCount = Field(
        None, description="Documents parsed at once by a worker; empty: the cores."
    )
    max_pages: Count = Field(2000, description="Most pages of a document.")
    parse_timeout_seconds: Positive = Field(120.0, description="Hard limit of one parse.")
    lease_seconds: Positive = Field(15.0, description="How long a silent worker keeps a document.")
    renew_seconds: Positive = Field(1.0, description="How often a worker renews its leases.")
    sweep_seconds: Positive = Field(0.5, description="How often due timers are looked at.")
    drain_seconds: Positive = Field(10.0, description="How long a stopping worker may finish.")
    offer_again_seconds: Positive = Field(
        30.0, description="After how long an unclaimed document is offered again, doubling to 1 h."
    )
    retry_base_seconds: Positive = Field(2.0, description="Longest wait before the first retry.")
    retry_cap_seconds: Positive = Field(300.0, description="Longest wait before any retry.")

    mock_latency_seconds: NotNegative = Field(0.0, description="Mock: how long a parse takes.")
    mock_transient_rate: float = Field(
        0.0, ge=0, le=1, description="Mock: share of attempts that fail and are tried again."
    )
    mock_permanent_rate: float = Field(
        0.0, ge=0, le=1, description="Mock: share of documents that fail for good."
    )

    llamaparse_api_key: MaybeSecret = Field(
        None, description="The key of a LlamaCloud project; `real` and `hybrid` need it."
    )
    llamaparse_url: str = Field(
        "https://api.cloud.llamaindex.ai",
        description="The region's address; Europe: `https://api.cloud.eu.llamaindex.ai`.",
    )
    llamaparse_tier: Tier = Field(
        "cost_effective", description="Credits a page: 3, `agentic` 10, `agentic_plus` 45."
    )
    llamaparse_version: str = Field(
        "2026-09-28", description="The tier's dated version; `latest` changes under your feet."
    )
    llamaparse_project_id: str = Field("", description="Empty: the key's own project.")
    llamaparse_requests_per_minute: Positive = Field(
        20.0, description="Calls of all processes together; the free plan allows 20."
    )
    llamaparse_burst: Count = Field(10, description="Calls that may come at once.")
    llamaparse_call_seconds: Positive = Field(
        30.0, description="Deadline of one call; a submission's ends before the lease too."
    )
    llamaparse_job_seconds: Positive = Field(
        1800.0, description="After how long a job elsewhere is cancelled and tried again."
    )
    llamaparse_poll_seconds: Positive = Field(
        30.0, description="How often a job there is looked at when no webhook comes."
    )
    llamaparse_delete: bool = Field(
        default=True, description="Delete job and result there once the result is kept here."
    )
    callback_parser_url: str = Field(
        "",
        description="Where a self-hosted parser takes documents; plain http in one's own network.",
    )
    callback_parser_secret: MaybeSecret = Field(
        None, description="Signs what is sent to it, and what it sends back."
    )
    callback_parser_requests_per_minute: Positive = Field(
        600.0, description="Documents sent to it by all processes together."
    )
    callback_parser_burst: Count = Field(20, description="Documents that may be sent at once.")
    callback_parser_call_seconds: Positive = Field(
        30.0, description="Deadline of sending one; it ends before two thirds of the lease too."
    )
    webhook_url: str = Field(
        "",
        description="The gateway's public https address for LlamaCloud's webhooks, without a "
        "path; empty: results are polled for. A self-hosted parser needs it, as it sees it.",
    )
    webhook_file: MaybePath = Field(
        None, description="TOML file of webhook sources and secrets; see docs/webhooks.md."
    )
    webhooks_per_second: Positive = Field(
        200.0, description="Webhooks taken from one address; more get 429."
    )
    max_webhook_bytes: Count = Field(
        16 * 1024 * 1024, description="Largest webhook; packed ones are refused."
    )
    alert_webhook_url: str = Field(
        "", description="Where alerts about money go, signed; empty: to the log alone."
    )
    alert_webhook_secret: MaybeSecret = Field(
        None, description="Signs them by Standard Webhooks: `whsec_...`, or 16 letters and more."
    )

    prices_file: MaybePath = Field(
        None, description="TOML file of prices instead of those that come along; docs/money.md."
    )
    time_zone: ZoneName = Field(
        "UTC", description="Whose days and months budgets and reports count: `Europe/Berlin`."
    )

    gateway_url: str = Field(
        "", description="Command line: where the gateway is; empty: the one that `up` started."
    )
    api_key: MaybeSecret = Field(
        None, description="Command line: the key to use; empty: the one that `up` made."
    )

    def choosing_tenants(self) -> frozenset[str]:
        """Give the tenants that may choose a job's mode; `*` stands for all."""
        return frozenset(name.strip() for name in self.tenant_modes.split(",")) - {""}

    def timings(self) -> Timings:
        """Give the moves their waits."""
        return Timings(
            offer_again_ms=_ms(self.offer_again_seconds),
            lease_ms=_ms(self.lease_seconds),
            poll_ms=_ms(self.llamaparse_poll_seconds),
            retry_base_ms=_ms(self.retry_base_seconds),
            retry_cap_ms=_ms(self.retry_cap_seconds),
        )


def load_settings() -> Settings:
    """Read the environment; raise ConfigError, a line for each wrong variable."""
    try:
        settings = Settings()
    except ValidationError as error:
        lines = [
            f"{PREFIX}{str(item['loc'][0]).upper()}={item['input']!r}: {item['msg']}"
            for item in error.errors()
        ]
        raise ConfigError("\n".join(lines)) from None
    if wrong := [*_misspelt(), *_at_odds(settings)]:
        raise ConfigError("\n".join(wrong))
    return settings


def _misspelt() -> Iterator[str]:
    """Say which variables mean a setting and are none: what they say would be passed over."""
    known = [name.upper() for name in Settings.model_fields]
    given = {name.upper() for name in (*os.environ, *dotenv_values(_FILE))}
    for name in sorted(name for name in given if name.startswith(PREFIX)):
        own = name.removeprefix(PREFIX)
        meant = [] if own in known else [other for other in known if _is_slip(own, other)]
        if meant:
            yield f"{name} is no setting: {PREFIX}{meant[0]} may be meant"


def _is_slip(given: str, meant: str) -> bool:
    """Tell whether one letter is missing, too much, another or in the wrong place.

    What differs by more may be a name of somebody's own, as the file of webhooks may have them.
    """
    blocks = SequenceMatcher(None, given, meant).get_matching_blocks()
    alien = len(given) + len(meant) - 2 * sum(block.size for block in blocks)
    return alien == 1 or (alien == 2 and len(given) == len(meant))


def _at_odds(settings: Settings) -> Iterator[str]:
    """Say which values are wrong beside each other."""
    if settings.mode == "mock" and settings.env == "production":
        yield f"{PREFIX}MODE=mock is refused while {PREFIX}ENV=production: use 'local'"
    needed = "llamaparse_api_key"
    if settings.remote_parser == "callback":
        needed = "callback_parser_url"
    if settings.mode in ("real", "hybrid") and not getattr(settings, needed):
        yield f"{PREFIX}MODE={settings.mode} needs {PREFIX}{needed.upper()}, or use 'local'"
    if settings.renew_seconds * 2 > settings.lease_seconds:
        yield (
            f"{PREFIX}LEASE_SECONDS={settings.lease_seconds:g} must be at least twice "
            f"{PREFIX}RENEW_SECONDS={settings.renew_seconds:g}"
        )


def environment_with(changes: Mapping[str, object]) -> dict[str, str]:
    """Give this process's environment with these settings changed, for a process it starts."""
    names = {PREFIX + field.upper(): str(value) for field, value in changes.items()}
    return {**os.environ, **names}


def read_variable(name: str) -> str | None:
    """Give the value of a variable that a configuration file refers to."""
    return os.environ.get(name)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
