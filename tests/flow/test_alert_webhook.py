"""Alerts over the wire: signed, sent until they are taken, given up after a day."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from schemas.alert_events import SpendRateUnusual
from schemas.signature_scheme import STANDARD_WEBHOOKS
from streams.alert_hook import open_alert_hook
from streams.alert_sender import MOST_TRIES, AlertSender
from streams.alerts import Alerts
from streams.tables.base import Row, Transaction
from tests.doubles.alert_receiver import HANG, AlertReceiver, open_alert_receiver
from tests.harness import Desk, event_of, open_desk

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = STANDARD_WEBHOOKS.key_of(SECRET)
HOUR = datetime(2027, 1, 15, 8, tzinfo=UTC)
ALERT = SpendRateUnusual("acme", "llamaparse", HOUR, 12_500_000, 2_000_000)


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path) as opened:
        # The official library compares the signature's time with this machine's.
        opened.clock.now_ms = int(time.time() * 1000)
        yield opened


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[AlertReceiver]:
    async with open_alert_receiver(SECRET) as opened:
        yield opened


@asynccontextmanager
async def open_senders(
    desk: Desk, url: str, *, many: int = 1, seconds: float = 10.0, key: bytes = KEY
) -> AsyncIterator[list[AlertSender]]:
    """Open senders whose jitter always is the longest."""
    async with AsyncExitStack() as stack:
        senders = []
        for _ in range(many):
            hook = await stack.enter_async_context(open_alert_hook(url, seconds=seconds))
            senders.append(
                AlertSender(
                    desk.tables, hook, key, desk.recorder, every_seconds=1, chance=lambda: 1.0
                )
            )
        yield senders


async def raise_alert(desk: Desk, event_id: str = "a1") -> None:
    alerts = Alerts(desk.recorder, send=True)
    await desk.tables.write(lambda tx: alerts.apply(tx, [event_of(ALERT, event_id)]))


async def row_of(desk: Desk, event_id: str = "a1") -> Row:
    rows = await desk.rows("alerts.latest", most=99)
    return next(row for row in rows if row["id"] == event_id)


async def take(tx: Transaction, due_ms: int) -> None:
    assert await tx.run("alerts.take", id="a1", due_ms=due_ms, held_ms=tx.now_ms) == 1


def counted(desk: Desk, outcome: str) -> float | None:
    labels = {"type": "SpendRateUnusual", "outcome": outcome}
    return desk.recorder.registry.get_sample_value("parsewire_alerts_total", labels)


async def test_the_official_library_verifies_an_alert(desk: Desk, receiver: AlertReceiver) -> None:
    await raise_alert(desk)
    async with open_senders(desk, receiver.url) as (sender,):
        assert await sender.tick() == 1
        assert await sender.tick() == 0
    assert receiver.alerts == [
        {
            "type": "SpendRateUnusual",
            "id": "a1",
            "raised_at": "2027-01-15T08:00:00+00:00",
            "text": "Tenant acme spends unusually much at llamaparse: $12.50 in the hour from "
            "2027-01-15 08:00 UTC, where its hours before had $2.00 on average. For a while after "
            "a crash of the usage windows, this may be more than the ledger says.",
            "data": {
                "tenant": "acme",
                "service": "llamaparse",
                "window_start": "2027-01-15T08:00:00+00:00",
                "micro_usd": 12_500_000,
                "usual_micro_usd": 2_000_000,
            },
        }
    ]
    (headers,) = receiver.headers
    assert headers["webhook-id"] == "a1"
    assert headers["webhook-timestamp"] == str(desk.clock.now_ms // 1000)
    assert headers["content-type"] == "application/json"
    row = await row_of(desk)
    assert (row["next_try_ms"], row["delivered_ms"]) == (None, desk.clock.now_ms)
    assert (row["tries"], row["last_error"]) == (1, None)
    assert counted(desk, "delivered") == 1


async def test_a_raw_secret_signs_by_its_letters(desk: Desk) -> None:
    raw = b"sixteen letters."
    await raise_alert(desk)
    async with (
        open_alert_receiver(raw) as receiver,
        open_senders(desk, receiver.url, key=raw) as (sender,),
    ):
        await sender.tick()
    assert [alert["id"] for alert in receiver.alerts] == ["a1"]


async def test_a_refused_alert_is_sent_again_after_its_wait(
    desk: Desk, receiver: AlertReceiver
) -> None:
    receiver.statuses, receiver.says[500] = [500], b'{"oops": "see https://internal/x"}'
    await raise_alert(desk)
    async with open_senders(desk, receiver.url) as (sender,):
        with capture_logs() as logs:
            await sender.tick()
        row = await row_of(desk)
        assert row["last_error"] == 'answered 500: {"oops": "see [url]'
        assert (row["next_try_ms"], row["tries"]) == (desk.clock.now_ms + 30_000, 1)
        desk.clock.pass_ms(29_999)
        assert await sender.tick() == 0
        desk.clock.pass_ms(1)
        assert await sender.tick() == 1
        assert await sender.tick() == 0
    assert receiver.ids() == ["a1", "a1"]
    assert receiver.alerts[0] == receiver.alerts[1]
    assert (await row_of(desk))["delivered_ms"] == desk.clock.now_ms
    assert (counted(desk, "failed"), counted(desk, "delivered")) == (1, 1)
    assert "oops" not in str(logs)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 413, 429, 503])
async def test_whatever_is_no_2xx_is_tried_again_and_no_redirect_is_followed(
    desk: Desk, receiver: AlertReceiver, status: int
) -> None:
    receiver.statuses = [status]
    await raise_alert(desk)
    async with open_senders(desk, receiver.url) as (sender,):
        await sender.tick()
    row = await row_of(desk)
    assert (row["last_error"], row["delivered_ms"]) == (f"answered {status}", None)
    assert row["next_try_ms"] == desk.clock.now_ms + 30_000
    assert (receiver.ids(), receiver.elsewhere) == (["a1"], 0)


async def test_a_receiver_that_is_gone_is_not_asked_again(
    desk: Desk, receiver: AlertReceiver
) -> None:
    receiver.statuses = [410]
    await raise_alert(desk)
    async with open_senders(desk, receiver.url) as (sender,):
        await sender.tick()
        desk.clock.pass_ms(86_400_000)
        assert await sender.tick() == 0
    row = await row_of(desk)
    assert (row["next_try_ms"], row["delivered_ms"], row["tries"]) == (None, None, 1)
    assert row["last_error"] == "answered 410"
    assert counted(desk, "given_up") == 1


async def test_a_receiver_that_hangs_is_left_after_the_time_limit(
    desk: Desk, receiver: AlertReceiver
) -> None:
    receiver.statuses = [HANG]
    await raise_alert(desk)
    async with open_senders(desk, receiver.url, seconds=0.1) as (sender,):
        async with asyncio.timeout(5):
            await sender.tick()
        assert (await row_of(desk))["last_error"] == "no answer in 0.1 s"
        desk.clock.pass_ms(30_000)
        await sender.tick()
    assert (await row_of(desk))["delivered_ms"] == desk.clock.now_ms


async def test_an_answer_without_an_end_is_read_to_a_bound(
    desk: Desk, receiver: AlertReceiver
) -> None:
    await raise_alert(desk)
    async with open_senders(desk, receiver.url.replace("alerts", "endless")) as (sender,):
        async with asyncio.timeout(5):
            await sender.tick()
    assert (await row_of(desk))["last_error"] == "answered 500: " + "x" * 197 + "..."


async def test_nobody_listens(desk: Desk, free_port: int) -> None:
    await raise_alert(desk)
    async with open_senders(desk, f"http://127.0.0.1:{free_port}/a-token") as (sender,):
        with capture_logs() as logs:
            await sender.tick()
    assert (await row_of(desk))["last_error"] == "no connection: ClientConnectorError"
    assert "a-token" not in str(logs)


async def test_after_a_day_of_tries_an_alert_is_given_up(desk: Desk, free_port: int) -> None:
    await raise_alert(desk)
    began_ms = desk.clock.now_ms
    async with open_senders(desk, f"http://127.0.0.1:{free_port}/") as (sender,):
        while (due_ms := (await row_of(desk))["next_try_ms"]) is not None:
            desk.clock.now_ms = due_ms
            assert await sender.tick() == 1
    row = await row_of(desk)
    assert (row["tries"], row["delivered_ms"]) == (20, None)
    assert row["last_error"] == "no connection: ClientConnectorError"
    # 30 s doubling nine times, then ten times 4 h: with the jitter's mean, a day.
    assert desk.clock.now_ms - began_ms == (30 * (2**9 - 1) + 10 * 4 * 3600) * 1000
    assert (counted(desk, "failed"), counted(desk, "given_up")) == (19, 1)


async def test_of_two_senders_at_once_one_sends(desk: Desk, receiver: AlertReceiver) -> None:
    for number in range(5):
        await raise_alert(desk, f"a{number}")
    async with open_senders(desk, receiver.url, many=2) as (one, other):
        await asyncio.gather(one.tick(), other.tick(), one.tick())
    assert sorted(receiver.ids()) == ["a0", "a1", "a2", "a3", "a4"]
    assert counted(desk, "delivered") == 5


async def test_what_a_dead_sender_held_another_one_sends(
    desk: Desk, receiver: AlertReceiver
) -> None:
    receiver.statuses = [HANG]
    await raise_alert(desk)
    async with open_senders(desk, receiver.url, many=2) as (dying, other):
        ticking = asyncio.create_task(dying.tick())
        async with asyncio.timeout(5):
            await receiver.arrived.wait()
        ticking.cancel()
        await asyncio.wait([ticking])
        desk.clock.pass_ms(59_999)
        assert await other.tick() == 0
        desk.clock.pass_ms(1)
        assert await other.tick() == 1
    assert receiver.ids() == ["a1", "a1"]
    assert (await row_of(desk))["delivered_ms"] == desk.clock.now_ms


async def test_a_last_try_that_nobody_survived_is_not_repeated(
    desk: Desk, receiver: AlertReceiver
) -> None:
    await raise_alert(desk)
    for _ in range(MOST_TRIES):
        due_ms = (await row_of(desk))["next_try_ms"]
        await desk.tables.write(partial(take, due_ms=due_ms))
    async with open_senders(desk, receiver.url) as (sender,):
        await sender.tick()
    row = await row_of(desk)
    assert (row["next_try_ms"], row["last_error"]) == (None, "nobody lived to tell of the last try")
    assert receiver.ids() == []
