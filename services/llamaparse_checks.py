"""Checks of LlamaParse that ask it: the key and its region, tier and version, clocks, callbacks."""

from collections.abc import Mapping, Sequence

import aiohttp
import orjson
from pydantic import SecretStr

from schemas.errors import Code, TransientError
from schemas.meanings import MEANINGS
from services.config import PREFIX, Settings
from services.doctor import Check, Finding, Level, fail, ok, warn
from services.llamaparse_settings import ADDRESS, REGIONS, settings_findings
from services.wiring import look_at_llamaparse
from streams.account import AccountRefused, AccountTaken

STATUS_PAGE = "https://llamaindex.statuspage.io"

_ACCOUNT_SECONDS = 30.0
_CALL_SECONDS = 8.0
_HEALTH_SECONDS = 10.0
_HEALTH_BYTES = 4096
_SKEW_SECONDS = 30.0
_NEWEST_SHOWN = 4
_TAKEN = 200


def llamaparse_checks(settings: Settings, regions: Mapping[str, str] = REGIONS) -> list[Check]:
    """List the checks of LlamaParse; none is made without a key.

    `regions` are the addresses that are tried, too, with a key that its own address refuses.
    """
    key = settings.llamaparse_api_key

    async def no_key() -> Sequence[Finding]:
        return [ok("LlamaParse key", f"none, and {PREFIX}MODE={settings.mode} needs none")]

    async def by_itself() -> Sequence[Finding]:
        return settings_findings(settings)

    async def account() -> Sequence[Finding]:
        try:
            return [] if key is None else await _account(settings, key, regions)
        except TransientError as error:
            return [_no_answer(error)]

    async def gateway() -> Sequence[Finding]:
        return [await _gateway(settings.webhook_url)]

    if key is None:
        return [Check("LlamaParse key", no_key)]
    checks = [Check("LlamaParse settings", by_itself)]
    found = {finding.name: finding.level for finding in settings_findings(settings)}
    if found[ADDRESS] is not Level.FAIL:
        checks.append(Check("LlamaParse key", account, _ACCOUNT_SECONDS))
    if settings.webhook_url and found["webhook URL"] is not Level.FAIL:
        checks.append(Check("gateway", gateway))
    return checks


def judge_version(tier: str, version: str, account: AccountTaken) -> Finding:
    """Say whether the tier has that version there."""
    known = account.versions.get(tier)
    if not known:
        return warn(
            "version there",
            f"LlamaParse lists no versions of {tier}",
            "See its documentation for the tier's versions.",
        )
    newest = ", ".join(known[:_NEWEST_SHOWN])
    if version != "latest" and version not in known:
        return fail(
            "version there",
            f"LlamaParse has no {tier} {version}",
            f"Set {PREFIX}LLAMAPARSE_VERSION to one of {newest}.",
        )
    latest = account.latest.get(tier, known[0])
    if version == "latest":
        return ok("version there", f"latest means {latest} today")
    newer = "" if version == latest else f"; the latest is {latest}"
    return ok("version there", f"{tier} {version} is served{newer}")


def judge_clock(ahead_seconds: float | None) -> Finding:
    """Say whether our clock and LlamaParse's agree; a lost submission is looked for by time."""
    if ahead_seconds is None:
        return ok("clock", "LlamaParse does not tell its time")
    side = "ahead of" if ahead_seconds > 0 else "behind"
    said = f"{abs(ahead_seconds):.0f} s {side} LlamaParse's"
    if abs(ahead_seconds) > _SKEW_SECONDS:
        return warn("clock", said, "Set this machine's clock by NTP.")
    return ok("clock", said)


async def _account(
    settings: Settings, key: SecretStr, regions: Mapping[str, str]
) -> Sequence[Finding]:
    url = settings.llamaparse_url.rstrip("/")
    hurried = settings.model_copy(
        update={"llamaparse_call_seconds": min(settings.llamaparse_call_seconds, _CALL_SECONDS)}
    )
    account = await look_at_llamaparse(hurried, key, url=url)
    if isinstance(account, AccountTaken):
        tier, version = settings.llamaparse_tier, settings.llamaparse_version
        return [
            ok("LlamaParse key", f"{url} takes it"),
            judge_version(tier, version, account),
            judge_clock(account.ahead_seconds),
        ]
    if account.status == 403 and settings.llamaparse_project_id:
        return [
            fail(
                "LlamaParse key",
                f"{url} refuses it for this project: {account.said or account.status}",
                f"Correct {PREFIX}LLAMAPARSE_PROJECT_ID, or leave it empty.",
            )
        ]
    return [await _elsewhere(hurried, key, account, regions)]


def _no_answer(error: TransientError) -> Finding:
    """Say what came instead of an answer; it may have nothing to do with the key."""
    if error.code is Code.VENDOR_RATE_LIMITED:
        return warn("LlamaParse key", error.message, "Look again in a minute.")
    advice = f"See whether this machine reaches it; LlamaCloud's state is at {STATUS_PAGE}."
    if error.code is Code.VENDOR_QUOTA_SPENT:
        advice = MEANINGS[error.code].advice
    return fail("LlamaParse key", error.message, advice)


async def _elsewhere(
    settings: Settings, key: SecretStr, refused: AccountRefused, regions: Mapping[str, str]
) -> Finding:
    """Try the other regions; an address that is none of them gets nobody else's key."""
    url = settings.llamaparse_url.rstrip("/")
    said = f"{url} refuses it ({refused.status}{f': {refused.said}' if refused.said else ''})"
    tried = [address for address in regions.values() if address != url]
    if url not in regions.values():
        tried = []
    unasked = []
    for address in tried:
        try:
            account = await look_at_llamaparse(settings, key, url=address)
        except TransientError:
            unasked.append(address)
            continue
        if isinstance(account, AccountTaken):
            return fail(
                "LlamaParse key",
                f"{said}, and {address} takes it",
                f"Set {PREFIX}LLAMAPARSE_URL={address}: a key belongs to one region.",
            )
    more = "".join(f"; {address} did not answer" for address in unasked)
    refusing = "".join(f"; {address} refuses it too" for address in tried if address not in unasked)
    return fail(
        "LlamaParse key",
        f"{said}{refusing}{more}",
        f"Copy the key anew, or make another, and set {PREFIX}LLAMAPARSE_API_KEY.",
    )


async def _gateway(webhook_url: str) -> Finding:
    """Say whether a gateway answers where LlamaCloud would call it, seen from here."""
    url = f"{webhook_url.rstrip('/')}/health"
    timeout = aiohttp.ClientTimeout(total=_HEALTH_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            alive = _says_alive(await response.content.read(_HEALTH_BYTES))
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return warn(
            "gateway",
            f"{url} does not answer from here: {type(error).__name__}",
            "Start the gateway and its tunnel; webhooks that are lost are polled for.",
        )
    if status == _TAKEN and alive:
        return ok("gateway", f"{url} answers")
    return warn(
        "gateway",
        f"{url} answers with {status}, and not as a gateway does",
        "See where the tunnel or proxy leads; /api/v1/webhooks/ must reach the gateway.",
    )


def _says_alive(body: bytes) -> bool:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(said, dict) and said.get("status") == "alive"
