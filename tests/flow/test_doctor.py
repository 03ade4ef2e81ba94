"""The doctor on real ground: doubles of LlamaCloud, a gateway, a broker; and its verb."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from pydantic import SecretStr

from schemas.topics import TOPICS
from services.child import EXIT_CONFIG
from services.config import Settings
from services.deployment_checks import Cluster, deployment_checks
from services.doctor import Finding, examine
from services.llamaparse_checks import llamaparse_checks
from streams.bus.kafka import KafkaBus
from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.faults import Fault
from tests.doubles.llamacloud.server import open_llama_cloud
from tests.processes import environment_of, run_verb

OTHER_KEY = "llx-other-1111111111111111111111111111"
SECONDS = 40


def settings_for(cloud: LlamaCloud, **changes: Any) -> Settings:
    values = {
        "mode": "real",
        "llamaparse_api_key": SecretStr(cloud.api_key),
        "llamaparse_url": cloud.url,
        **changes,
    }
    return Settings(**values, _env_file=None)


async def seen_of(
    settings: Settings, regions: dict[str, str] | None = None
) -> dict[str, tuple[str, str]]:
    """Examine LlamaParse, and give level and words by the check's name."""
    async with asyncio.timeout(SECONDS):
        findings = await examine(llamaparse_checks(settings, regions or {}))
    key = settings.llamaparse_api_key
    assert key is not None
    for finding in findings:
        assert key.get_secret_value() not in repr(finding)
    return {finding.name: (finding.level.value, told(finding)) for finding in findings}


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def told(finding: Finding) -> str:
    return f"{finding.what}. {finding.advice}".removesuffix(". ")


@asynccontextmanager
async def open_site(answer: web.Response) -> AsyncIterator[str]:
    """Serve one answer at /health."""

    async def health(_request: web.Request) -> web.Response:
        return answer

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_good_key_is_taken() -> None:
    async with open_llama_cloud() as cloud:
        seen = await seen_of(settings_for(cloud))
        assert {name: level for name, (level, _) in seen.items()} == {
            "LlamaParse address": "ok",
            "tier and version": "ok",
            "webhook URL": "warn",
            "prices": "ok",
            "limits": "ok",
            "LlamaParse key": "ok",
            "version there": "ok",
            "clock": "ok",
        }
        assert seen["LlamaParse key"][1] == f"{cloud.url} takes it"
        assert seen["version there"][1] == "cost_effective 2026-09-28 is served"
        assert [(call.operation, call.method) for call in cloud.calls] == [
            ("list", "GET"),
            ("versions", "GET"),
        ]


async def test_a_key_that_nobody_takes_is_said_without_it() -> None:
    async with open_llama_cloud() as here, open_llama_cloud() as there:
        regions = {"here": here.url, "there": there.url}
        settings = settings_for(here, llamaparse_api_key=SecretStr(OTHER_KEY))
        level, words = (await seen_of(settings, regions))["LlamaParse key"]
        assert level == "fail"
        assert f"{here.url} refuses it (401" in words
        assert f"{there.url} refuses it too" in words
        assert "PARSEWIRE_LLAMAPARSE_API_KEY" in words


async def test_the_region_that_takes_the_key_is_named() -> None:
    other = Behaviour(api_key=OTHER_KEY)
    async with open_llama_cloud() as here, open_llama_cloud(other) as there:
        regions = {"here": here.url, "there": there.url}
        settings = settings_for(here, llamaparse_api_key=SecretStr(OTHER_KEY))
        level, words = (await seen_of(settings, regions))["LlamaParse key"]
        assert level == "fail"
        assert f"and {there.url} takes it" in words
        assert f"Set PARSEWIRE_LLAMAPARSE_URL={there.url}" in words


async def test_an_address_that_is_no_region_keeps_the_key_to_itself() -> None:
    other = Behaviour(api_key=OTHER_KEY)
    async with open_llama_cloud() as here, open_llama_cloud(other) as there:
        settings = settings_for(here, llamaparse_api_key=SecretStr(OTHER_KEY))
        level, _ = (await seen_of(settings, {"there": there.url}))["LlamaParse key"]
        assert level == "fail"
        assert there.calls == []


async def test_another_project_is_named() -> None:
    async with open_llama_cloud() as cloud:
        seen = await seen_of(settings_for(cloud, llamaparse_project_id="prj-of-somebody-else"))
        level, words = seen["LlamaParse key"]
        assert level == "fail"
        assert "PARSEWIRE_LLAMAPARSE_PROJECT_ID" in words


async def test_an_unknown_version_is_named() -> None:
    async with open_llama_cloud() as cloud:
        settings = settings_for(cloud, llamaparse_tier="agentic", llamaparse_version="2020-01-01")
        seen = await seen_of(settings)
        assert seen["LlamaParse key"][0] == "ok"
        assert seen["version there"] == (
            "fail",
            (
                "LlamaParse has no agentic 2020-01-01. Set PARSEWIRE_LLAMAPARSE_VERSION to one of "
                "2026-10-16, 2026-10-15, 2026-09-29, 2026-09-28."
            ),
        )


@pytest.mark.parametrize(("skew", "word"), [(-300, "ahead of"), (300, "behind")])
async def test_a_skewed_clock_is_warned_of(skew: int, word: str) -> None:
    async with open_llama_cloud(clock=lambda: time.time() + skew) as cloud:
        level, words = (await seen_of(settings_for(cloud)))["clock"]
        assert level == "warn"
        assert word in words
        assert "NTP" in words


@pytest.mark.parametrize(
    ("fault", "level", "advice"),
    [
        (Fault.SERVER_ERROR, "fail", "statuspage"),
        (Fault.CREDITS_SPENT, "fail", "close-circuit"),
        (Fault.RATE_LIMITED, "warn", "Look again in a minute"),
        (Fault.CUT_BEFORE, "fail", "statuspage"),
        (Fault.GARBLED, "fail", "statuspage"),
    ],
)
async def test_trouble_there_is_a_finding(fault: Fault, level: str, advice: str) -> None:
    async with open_llama_cloud() as cloud:
        cloud.inject("list", fault, times=None)
        found, words = (await seen_of(settings_for(cloud)))["LlamaParse key"]
        assert found == level
        assert advice in words


async def test_nobody_there_is_a_finding(free_port: int) -> None:
    async with open_llama_cloud() as cloud:
        settings = settings_for(cloud, llamaparse_url=f"http://127.0.0.1:{free_port}")
        assert (await seen_of(settings))["LlamaParse key"][0] == "fail"


@pytest.mark.parametrize(
    ("answer", "level", "word"),
    [
        (web.json_response({"status": "alive"}), "ok", "answers"),
        (web.Response(text="<html>Welcome to the tunnel</html>"), "warn", "answers with 200"),
        (web.Response(status=302, headers={"Location": "/"}), "warn", "answers with 302"),
        (web.json_response(["alive"]), "warn", "answers with 200"),
    ],
)
async def test_the_gateway_is_looked_for_where_webhooks_go(
    answer: web.Response, level: str, word: str
) -> None:
    async with open_llama_cloud() as cloud, open_site(answer) as url:
        found, words = (await seen_of(settings_for(cloud, webhook_url=url)))["gateway"]
        assert found == level
        assert word in words


async def test_no_gateway_there_is_a_warning(free_port: int) -> None:
    async with open_llama_cloud() as cloud:
        settings = settings_for(cloud, webhook_url=f"http://127.0.0.1:{free_port}")
        assert (await seen_of(settings))["gateway"][0] == "warn"


async def test_nothing_is_called_at_an_unsafe_address() -> None:
    async with open_llama_cloud() as cloud:
        seen = await seen_of(settings_for(cloud, llamaparse_url="http://llama.example.org"))
        assert seen["LlamaParse address"][0] == "fail"
        assert "LlamaParse key" not in seen
        assert cloud.calls == []


@pytest.mark.embedded
async def test_topics_are_counted_and_none_is_made(
    embedded_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, topic_partitions=2, _env_file=None)
    cluster = Cluster(embedded_bootstrap, topic_prefix)

    async def topics() -> tuple[str, str]:
        found = {f.name: f for f in await examine(deployment_checks(settings, cluster))}
        assert (found["broker"].level, found["data directory"].level) == ("ok", "ok")
        return found["topics"].level.value, found["topics"].what

    level, words = await topics()
    assert (level, words.startswith("0 are there; the next start makes")) == ("ok", True)
    bus = KafkaBus(embedded_bootstrap, topic_prefix=topic_prefix, partitions=1)
    await bus.ensure_topics(TOPICS[:1])
    level, words = await topics()
    assert (level, words) == ("fail", f"partitions: {TOPICS[0].name} has 1, not 2")
    assert names_in(tmp_path) == []


async def run_doctor(folder: Path, settings: dict[str, object]) -> tuple[int, Any, str]:
    environment = environment_of({"data_dir": folder / "data", **settings})
    ended = await run_verb("doctor", "--json", environment=environment, folder=folder)
    said = ended.printed + ended.complained
    return ended.code, orjson.loads(ended.printed), said.decode()


@pytest.mark.processes
async def test_the_verb_says_all_of_it_and_touches_nothing(tmp_path: Path) -> None:
    async with open_llama_cloud() as cloud:
        settings: dict[str, object] = {
            "mode": "hybrid",
            "llamaparse_api_key": cloud.api_key,
            "llamaparse_url": cloud.url,
        }
        code, printed, everything = await run_doctor(tmp_path, settings)
        assert (code, printed["ok"]) == (0, True)
        assert [finding["name"] for finding in printed["findings"]] == [
            *("configuration", "data directory", "tables", "embedded broker", "broker"),
            *("LlamaParse address", "tier and version", "prices", "webhook URL", "limits"),
            *("LlamaParse key", "version there", "clock"),
        ]
        assert cloud.api_key not in everything

        settings["llamaparse_api_key"] = OTHER_KEY
        code, printed, everything = await run_doctor(tmp_path, settings)
        assert (code, printed["ok"]) == (1, False)
        assert OTHER_KEY not in everything
    assert names_in(tmp_path) == []


@pytest.mark.processes
async def test_the_verb_reports_a_wrong_configuration(tmp_path: Path) -> None:
    code, printed, _ = await run_doctor(tmp_path, {"mode": "real"})
    assert code == 1
    (finding,) = printed["findings"]
    assert (finding["name"], finding["level"]) == ("configuration", "fail")
    assert "PARSEWIRE_LLAMAPARSE_API_KEY" in finding["what"]


async def test_nobody_at_the_brokers_address_is_a_finding(tmp_path: Path, free_port: int) -> None:
    settings = Settings(data_dir=tmp_path, _env_file=None)
    cluster = Cluster(f"127.0.0.1:{free_port}", "parsewire.")
    async with asyncio.timeout(SECONDS):
        found = {f.name: f for f in await examine(deployment_checks(settings, cluster))}
    assert found["broker"].level == "fail"
    assert "PARSEWIRE_KAFKA_BOOTSTRAP_SERVERS" in found["broker"].advice
    assert "topics" not in found


@pytest.mark.processes
async def test_a_worker_refuses_what_can_never_work(tmp_path: Path, free_port: int) -> None:
    environment = environment_of(
        {
            "data_dir": tmp_path / "data",
            "mode": "real",
            "llamaparse_api_key": OTHER_KEY,
            "webhook_url": "http://10.0.0.1",
            "kafka_bootstrap_servers": f"127.0.0.1:{free_port}",
        }
    )
    ended = await run_verb("worker", environment=environment, folder=tmp_path)
    assert ended.code == EXIT_CONFIG
    said = b"PARSEWIRE_WEBHOOK_URL='http://10.0.0.1': LlamaCloud would not call it"
    assert said in ended.printed + ended.complained
    assert names_in(tmp_path) == []
