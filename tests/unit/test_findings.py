"""The doctor's judgements, each by itself, and how its checks end."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from schemas.errors import Code, TransientError
from services.config import ConfigError, Settings
from services.deployment_checks import judge_partitions, judge_versions
from services.doctor import Check, Finding, Level, examine, fail, healthy, ok, warn
from services.llamaparse_checks import judge_clock, judge_version
from services.llamaparse_settings import (
    check_start,
    judge_address,
    judge_callback,
    judge_limits,
    judge_pin,
    judge_prices,
)
from streams.account import AccountTaken
from streams.parsers.llamaparse_account import DateWatch

NOVEMBER_24 = 1_795_478_400_000
"""2026-11-24 at midnight UTC."""

ACCOUNT = AccountTaken(
    {"cost_effective": ["2026-09-28", "2026-08-19"], "agentic": ["2026-10-16"]},
    {"cost_effective": "2026-09-28", "agentic": "2026-10-16"},
    0.0,
)


def settings_of(**values: Any) -> Settings:
    return Settings(
        **{"mode": "real", "llamaparse_api_key": SecretStr("llx-test-key"), **values},
        _env_file=None,
    )


def raising(error: Exception) -> Check:
    async def look() -> Sequence[Finding]:
        raise error

    return Check("it", look)


async def test_findings_come_in_the_checks_order_whoever_ends_first() -> None:
    second_done = asyncio.Event()

    async def first() -> Sequence[Finding]:
        await second_done.wait()
        return [ok("first", "a"), warn("first", "b", "c")]

    async def second() -> Sequence[Finding]:
        second_done.set()
        return [ok("second", "d")]

    found = await examine([Check("first", first), Check("second", second)])
    assert [(f.name, f.what) for f in found] == [("first", "a"), ("first", "b"), ("second", "d")]
    assert healthy(found)


async def test_a_check_that_hangs_is_cut_off() -> None:
    async def hang() -> Sequence[Finding]:
        await asyncio.Event().wait()
        return []

    (found,) = await examine([Check("slow", hang, 0.01)])
    assert (found.name, found.level, found.what) == ("slow", "fail", "no answer in 0.01 s")


@pytest.mark.parametrize(
    ("error", "what", "advice"),
    [
        (TransientError(Code.BUS_UNAVAILABLE, "no broker"), "no broker", "Try again later."),
        (ConfigError("PARSEWIRE_X=1: no"), "PARSEWIRE_X=1: no", "Correct the variable."),
        (PermissionError(13, "denied"), "[Errno 13] denied", "Look at the path and its"),
    ],
)
async def test_trouble_is_a_finding(error: Exception, what: str, advice: str) -> None:
    (found,) = await examine([raising(error)])
    assert (found.level, found.what) == (Level.FAIL, what)
    assert found.advice.startswith(advice)
    assert not healthy([found])


@pytest.mark.parametrize(
    ("wanted", "found", "level", "what"),
    [
        ({"a": 12, "b": 6}, {"a": 12, "b": 6}, "ok", "all 2 are there"),
        ({"a": 12, "b": 6}, {"a": 12}, "ok", "1 are there; the next start makes b"),
        ({"a": 12, "b": 6}, {"a": 1}, "fail", "partitions: a has 1, not 12"),
    ],
)
def test_partitions(wanted: dict[str, int], found: dict[str, int], level: str, what: str) -> None:
    judged = judge_partitions(wanted, found)
    assert judged.level == level
    assert what in judged.what


@pytest.mark.parametrize(
    ("present", "level", "what"),
    [
        (None, "ok", "none yet"),
        (3, "ok", "version 3"),
        (2, "ok", "version 2: the next start brings them to 3"),
        (4, "fail", "they are at version 4, this program knows 3"),
    ],
)
def test_versions_of_tables(present: int | None, level: str, what: str) -> None:
    judged = judge_versions(present, 3)
    assert judged.level == level
    assert what in judged.what


@pytest.mark.parametrize(
    ("tier", "version", "level", "what"),
    [
        ("cost_effective", "2026-09-28", "ok", "cost_effective 2026-09-28 is served"),
        ("cost_effective", "2026-08-19", "ok", "is served; the latest is 2026-09-28"),
        ("agentic", "latest", "ok", "latest means 2026-10-16 today"),
        ("agentic", "2026-09-28", "fail", "LlamaParse has no agentic 2026-09-28"),
        ("agentic_plus", "2026-09-28", "warn", "lists no versions of agentic_plus"),
    ],
)
def test_versions_of_a_tier(tier: str, version: str, level: str, what: str) -> None:
    judged = judge_version(tier, version, ACCOUNT)
    assert judged.level == level
    assert what in judged.what


def test_a_version_that_is_not_there_is_answered_with_those_that_are() -> None:
    judged = judge_version("cost_effective", "2020-01-01", ACCOUNT)
    assert judged.advice == ("Set PARSEWIRE_LLAMAPARSE_VERSION to one of 2026-09-28, 2026-08-19.")


@pytest.mark.parametrize(
    ("ahead", "level", "what"),
    [
        (None, "ok", "does not tell its time"),
        (0.4, "ok", "0 s ahead of"),
        (29.9, "ok", "30 s ahead of"),
        (31.0, "warn", "31 s ahead of"),
        (-400.0, "warn", "400 s behind"),
    ],
)
def test_clocks(ahead: float | None, level: str, what: str) -> None:
    judged = judge_clock(ahead)
    assert judged.level == level
    assert what in judged.what


@pytest.mark.parametrize(
    ("date", "ahead"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.5),
        ("Sun, 06 Nov 1994 08:49:27 GMT", 10.5),
        ("Sun, 06 Nov 1994 08:50:37 -0000", -59.5),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_a_date_is_compared_with_our_clock(date: str | None, ahead: float | None) -> None:
    watch = DateWatch()
    watch.note(date, 784_111_778.0)
    assert watch.ahead_seconds == ahead


@pytest.mark.parametrize(
    ("url", "level", "what"),
    [
        ("https://api.cloud.llamaindex.ai/", "ok", "(North America)"),
        ("https://api.cloud.eu.llamaindex.ai", "ok", "(Europe)"),
        ("http://127.0.0.1:8765", "ok", "a double on this machine"),
        ("https://llama.example.org", "warn", "no region of LlamaCloud"),
        ("api.cloud.eu.llamaindex.ai", "fail", "must begin with https://"),
        ("http://api.cloud.llamaindex.ai", "fail", "must begin with https://"),
        ("https://me@api.cloud.llamaindex.ai", "fail", "hold no password"),
        ("https://[::1", "fail", "Invalid IPv6 URL"),
    ],
)
def test_addresses(url: str, level: str, what: str) -> None:
    judged = judge_address(url)
    assert judged.level == level
    assert what in judged.what


@pytest.mark.parametrize(
    ("tier", "version", "level"),
    [
        ("cost_effective", "2026-09-28", "ok"),
        ("cost_effective", "latest", "warn"),
        ("fast", "2026-06-15", "warn"),
    ],
)
def test_a_pinned_version_is_better(tier: str, version: str, level: str) -> None:
    judged = judge_pin(settings_of(llamaparse_tier=tier, llamaparse_version=version))
    assert judged.level == level


@pytest.mark.parametrize(
    ("url", "level", "what"),
    [
        ("", "warn", "none: results are polled for every 30 s"),
        ("https://hooks.example.org", "ok", "is one that LlamaCloud calls"),
        ("https://10.0.0.1", "fail", "10.0.0.1 is a private or reserved address"),
    ],
)
def test_webhook_urls(url: str, level: str, what: str) -> None:
    judged = judge_callback(settings_of(webhook_url=url))
    assert judged.level == level
    assert what in judged.what


@pytest.mark.parametrize(
    ("changes", "level", "what"),
    [
        ({}, "ok", "20 calls a minute are about 4 documents"),
        ({"llamaparse_job_seconds": 30}, "warn", "given up after 30 s, before it is first looked"),
        ({"lease_seconds": 6}, "warn", "a submission has 4 s"),
    ],
)
def test_limits(changes: dict[str, Any], level: str, what: str) -> None:
    judged = judge_limits(settings_of(**changes))
    assert judged.level == level
    assert what in judged.what


@pytest.mark.parametrize(
    ("moment", "level", "what"),
    [
        (NOVEMBER_24, "ok", "a page costs $0.0125, 2000 pages $25.00 (developers.llamaindex.ai"),
        (0, "fail", "llamaparse has no price for 1970-01-01, before its first one"),
    ],
)
def test_prices(moment: int, level: str, what: str) -> None:
    judged = judge_prices(settings_of(llamaparse_tier="agentic"), moment)
    assert judged.level == level
    assert judged.what.startswith(what)


def test_a_price_file_that_is_wrong(tmp_path: Path) -> None:
    wrong = settings_of(prices_file=tmp_path / "none.toml")
    judged = judge_prices(wrong, NOVEMBER_24)
    assert (judged.level, judged.name) == ("fail", "prices")
    assert "none.toml: No such file" in judged.what
    with pytest.raises(ConfigError, match="PARSEWIRE_PRICES_FILE"):
        check_start(wrong)


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"webhook_url": "http://10.0.0.1"}, "PARSEWIRE_WEBHOOK_URL='http://10.0.0.1'"),
        ({"llamaparse_url": "api.cloud.llamaindex.ai"}, "PARSEWIRE_LLAMAPARSE_URL='api.cloud"),
        ({"llamaparse_url": "http://llama", "mode": "local"}, "PARSEWIRE_LLAMAPARSE_URL='http"),
    ],
)
def test_what_can_never_work_refuses_the_start(changes: dict[str, Any], refused: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_start(settings_of(**changes))
    assert refused in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ({"webhook_url": "https://hooks.example.org"}, []),
        ({}, ["webhook URL"]),
        (
            {"llamaparse_url": "https://llama.example.org", "llamaparse_version": "latest"},
            ["LlamaParse address", "tier and version", "webhook URL"],
        ),
        ({"mode": "local", "webhook_url": "http://10.0.0.1"}, []),
        ({"mode": "local", "llamaparse_api_key": None, "llamaparse_url": "nonsense"}, []),
    ],
)
def test_what_works_badly_is_said_at_start(changes: dict[str, Any], warned: list[str]) -> None:
    with capture_logs() as logs:
        check_start(settings_of(**changes))
    assert [entry["check"] for entry in logs] == warned
    assert {entry["log_level"] for entry in logs} <= {"warning"}


def test_a_failed_finding_is_not_healthy() -> None:
    assert not healthy([ok("a", "b"), fail("c", "d", "e")])
    assert healthy([ok("a", "b"), warn("c", "d", "e")])
