"""What the windows' process answers over HTTP."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from schemas.periods import unix_ms
from services.windows_routes import serve_windows
from streams.metrics import Recorder
from streams.usage import Place, Usage
from streams.usage_vigil import Vigil
from tests.cost_stories import Payer

NOON = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)


class Desk:
    """A served usage, with a clock for its vigil."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.now = 0.0
        self.port = 0
        self.usage = Usage(UTC, lambda: unix_ms(NOON))
        self.vigil = Vigil(start_seconds=120, stall_seconds=60, clock=lambda: self.now)
        self._http = http

    async def get(self, path: str) -> tuple[int, str]:
        async with self._http.get(f"http://127.0.0.1:{self.port}{path}") as answer:
            return answer.status, await answer.text()


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with aiohttp.ClientSession() as http:
        desk = Desk(http)
        registry = Recorder(CollectorRegistry()).registry
        async with serve_windows(
            registry, desk.usage, desk.vigil, host="127.0.0.1", port=0
        ) as desk.port:
            yield desk


async def test_health_is_503_once_there_is_trouble(desk: Desk) -> None:
    assert (await desk.get("/health"))[0] == 200
    desk.now = 121
    status, body = await desk.get("/health")
    assert status == 503
    assert "not ready after 120 s" in body


async def test_windows_of_now_and_of_another_moment(desk: Desk) -> None:
    desk.usage.apply(Payer("job-1", NOON).settled(700), Place("costs.events", 0, 0))
    status, body = await desk.get("/windows")
    assert status == 200
    assert body.count('"spent_micro_usd":700') == 3
    later = unix_ms(NOON) + 7_200_000
    assert (await desk.get(f"/windows?at={later}"))[1].count('"spent_micro_usd":700') == 1


@pytest.mark.parametrize("at", ["", "-1", "now", "253402300800000", "9" * 5000, "%D9%A3"])
async def test_a_moment_that_is_none_is_refused(desk: Desk, at: str) -> None:
    assert (await desk.get(f"/windows?at={at}"))[0] == 400


async def test_the_last_moment_and_the_first_have_no_windows(desk: Desk) -> None:
    for at in ("0", "99999999999999"):
        status, body = await desk.get(f"/windows?at={at}")
        assert (status, '"windows":[]' in body) == (200, True)


async def test_metrics_are_prometheus_own(desk: Desk) -> None:
    status, body = await desk.get("/metrics")
    assert status == 200
    assert "# HELP parsewire_usage_events_total" in body
