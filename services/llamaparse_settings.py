"""What can be said of the LlamaParse settings by themselves, before anybody is called."""

import time
from urllib.parse import urlsplit

import structlog

from schemas.errors import PermanentError
from schemas.events import ParseOptions
from schemas.money import dollars
from services.callback_url import callback_problem, is_loopback
from services.config import PREFIX, ConfigError, Settings
from services.defaults import LLAMAPARSE
from services.doctor import Finding, Level, fail, ok, warn
from services.money_settings import read_money
from services.wiring import llamaparse_url_problem, submit_seconds

log = structlog.get_logger(__name__)

ADDRESS = "LlamaParse address"

REGIONS = {
    "North America": "https://api.cloud.llamaindex.ai",
    "Europe": "https://api.cloud.eu.llamaindex.ai",
}
"""Source: LlamaCloud's documentation, "Regions"; a key belongs to one of them."""

_CALLS_PER_DOCUMENT = 5
"""Upload, submission, result, bill, deletion."""

_LEAST_SUBMIT_SECONDS = 5.0


def check_start(settings: Settings) -> None:
    """Raise ConfigError for what can never work, and warn of what works badly; call nobody."""
    if settings.llamaparse_api_key is None:
        return
    asked_for = settings.mode in ("real", "hybrid") and settings.remote_parser == "llamaparse"
    for finding in settings_findings(settings):
        if finding.level is Level.FAIL and (asked_for or finding.name == ADDRESS):
            raise ConfigError(f"{finding.what}. {finding.advice}")
        if finding.level is not Level.OK and asked_for:
            log.warning(
                "start_check", check=finding.name, found=finding.what, advice=finding.advice
            )


def settings_findings(settings: Settings) -> list[Finding]:
    """Judge address, pinned version, prices, webhook URL and limits."""
    return [
        judge_address(settings.llamaparse_url),
        judge_pin(settings),
        judge_prices(settings, int(time.time() * 1000)),
        judge_callback(settings),
        judge_limits(settings),
    ]


def judge_address(url: str) -> Finding:
    """Say whether calls can go to that address, and whether it is a region's."""
    variable = f"{PREFIX}LLAMAPARSE_URL={url!r}"
    problem = llamaparse_url_problem(url)
    if problem is not None:
        return fail(ADDRESS, f"{variable}: {problem}", f"Name a region's: {_regions()}.")
    for region, address in REGIONS.items():
        if url.rstrip("/") == address:
            return ok(ADDRESS, f"{address} ({region})")
    if is_loopback(urlsplit(url).hostname or ""):
        return ok(ADDRESS, f"{url} (a double on this machine)")
    return warn(ADDRESS, f"{variable} is no region of LlamaCloud", f"They are {_regions()}.")


def judge_pin(settings: Settings) -> Finding:
    """Say whether the version is a dated one, and the tier one that is worth its price."""
    tier, version = settings.llamaparse_tier, settings.llamaparse_version
    if version == "latest":
        return warn(
            "tier and version",
            f"{tier} latest: results and price may change from one day to the next",
            f"Pin a date by {PREFIX}LLAMAPARSE_VERSION.",
        )
    if tier == "fast":
        return warn(
            "tier and version",
            "fast costs a credit a page for what the local parser does for nothing",
            f"Use {PREFIX}MODE=local, or another {PREFIX}LLAMAPARSE_TIER.",
        )
    return ok("tier and version", f"{tier} {version}")


def judge_prices(settings: Settings, at_ms: int) -> Finding:
    """Say what a page and the longest document cost, and where that is from."""
    tier, most = settings.llamaparse_tier, settings.max_pages
    try:
        prices = read_money(settings).prices
        page, document = (
            prices.quote(LLAMAPARSE, tier, pages, at_ms, ParseOptions()) for pages in (1, most)
        )
        source = prices.source(LLAMAPARSE, at_ms)
    except (ConfigError, PermanentError) as error:
        return fail("prices", str(error), "Correct the file; docs/money.md tells its format.")
    return ok(
        "prices",
        f"a page costs {dollars(page.micro_usd)}, {most} pages {dollars(document.micro_usd)} "
        f"({source})",
    )


def judge_callback(settings: Settings) -> Finding:
    """Say whether LlamaCloud would call the webhook URL."""
    if not settings.webhook_url:
        return warn(
            "webhook URL",
            f"none: results are polled for every {settings.llamaparse_poll_seconds:g} s",
            f"Name the gateway's public https address by {PREFIX}WEBHOOK_URL, if it has one.",
        )
    problem = callback_problem(settings)
    if problem is not None:
        return fail(
            "webhook URL",
            f"{PREFIX}WEBHOOK_URL={settings.webhook_url!r}: LlamaCloud would not call it: "
            f"{problem}",
            "Name the gateway's public https address, or leave it empty: results are polled for.",
        )
    return ok("webhook URL", f"{settings.webhook_url} is one that LlamaCloud calls")


def judge_limits(settings: Settings) -> Finding:
    """Say whether deadlines, rate and page limit fit together."""
    job_seconds, poll_seconds = settings.llamaparse_job_seconds, settings.llamaparse_poll_seconds
    if job_seconds <= poll_seconds:
        return warn(
            "limits",
            f"a job there is given up after {job_seconds:g} s, before it is first looked at",
            f"Make {PREFIX}LLAMAPARSE_JOB_SECONDS larger than {PREFIX}LLAMAPARSE_POLL_SECONDS.",
        )
    if submit_seconds(settings) < _LEAST_SUBMIT_SECONDS:
        return warn(
            "limits",
            f"a submission has {submit_seconds(settings):g} s, and must end before its lease",
            f"Raise {PREFIX}LEASE_SECONDS or {PREFIX}LLAMAPARSE_CALL_SECONDS.",
        )
    per_minute = settings.llamaparse_requests_per_minute
    documents = per_minute / _CALLS_PER_DOCUMENT
    return ok("limits", f"{per_minute:g} calls a minute are about {documents:.3g} documents")


def _regions() -> str:
    return ", ".join(f"{address} ({region})" for region, address in REGIONS.items())
