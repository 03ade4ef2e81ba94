"""Connections that bring webhooks: by the short way and the usual one, and how they end."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from email.utils import parsedate_to_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from schemas.ids import derived_id
from services.gateway.webhook_door import Door
from streams.bus.base import Outcome, Outgoing
from tests.gateway_wire import open_wire
from tests.webhook_desk import ENVELOPE, HOOK, HeldProducer, WebhookDesk, open_webhooks, signature

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
JSON = "Content-Type: application/json\r\n"
SIGNED = f"LC-Signature: {signature(ENVELOPE)['LC-Signature']}\r\n"
ID = derived_id("webhook", "llamaparse", "5b1c1d3e")


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[WebhookDesk]:
    async with open_webhooks(tmp_path) as opened:
        yield opened


def head_of(path: str = HOOK, body: bytes = ENVELOPE, headers: str = JSON + SIGNED) -> bytes:
    line = f"POST {path} HTTP/1.1\r\nHost: x\r\n"
    return f"{line}{headers}Content-Length: {len(body)}\r\n\r\n".encode()


def webhook(number: int) -> bytes:
    body = b'{"event_id":"e%d"}' % number
    headers = f"{JSON}LC-Signature: {signature(body)['LC-Signature']}\r\n"
    return head_of(HOOK, body, headers) + body


def id_of(number: int) -> dict[str, str]:
    return {"event_id": derived_id("webhook", "llamaparse", f"e{number}")}


async def answer_to(desk: WebhookDesk, request: bytes) -> tuple[str, dict[str, str], Any]:
    """Send a request on a connection of its own: first line, headers and JSON of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", desk.gateway.port)
    async with asyncio.timeout(10):
        writer.write(request)
        line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        body = orjson.loads(await reader.readexactly(int(headers["Content-Length"])))
        if headers.get("Connection") == "close":
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    return line, headers, body


# None that is refused by its head alone: where its body is still to come, its connection ends.
KINDS = {
    "signed": 202,
    "signed in chunks": 202,
    "signed for the usual way": 202,
    "forged": 401,
    "health": 200,
}


def request_of(kind: str, number: int) -> bytes:
    """Make a request that is answered with the kind's status."""
    plain = webhook(number)
    match kind:
        case "signed in chunks":
            head, _, body = plain.partition(b"\r\n\r\n")
            head = head.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
            return b"%b\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (head, len(body), body)
        case "signed for the usual way":
            return plain.replace(HOOK.encode(), f"{HOOK}?".encode())
        case "forged":
            return plain.replace(b"sha256=", b"sha256=0")
        case "health":
            return HEALTH
    return plain


class TestBothWays:
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            (JSON + SIGNED, 202),
            (JSON + SIGNED + "Connection: close\r\n", 202),
            (JSON, 401),
            (JSON + "Connection: close\r\n", 401),
            (SIGNED, 415),
            (JSON + SIGNED + "Content-Encoding: gzip\r\n", 415),
        ],
    )
    async def test_they_answer_alike(self, desk: WebhookDesk, headers: str, status: int) -> None:
        answers = []
        for path in (HOOK, f"{HOOK}?", HOOK.replace("hook", "%68ook")):
            line, given, body = await answer_to(desk, head_of(path, headers=headers) + ENVELOPE)
            assert len(given.pop("traceparent")) == 55
            assert parsedate_to_datetime(given.pop("Date"))
            if status != 202:
                # Each has its own, which may be of another length.
                assert len(body.pop("support_id")) == 16
            answers.append((line, given, body))
        assert answers[0] == answers[1] == answers[2]
        assert int(answers[0][0].split(" ")[1]) == status
        labels = {"method": "POST", "route": HOOK, "status": str(status)}
        assert desk.gateway.metric("parsewire_http_requests_total", **labels) == 3
        assert desk.gateway.metric("parsewire_http_requests_in_progress") == 0

    async def test_a_refusal_is_logged_with_its_trace(self, desk: WebhookDesk) -> None:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        for path in (HOOK, f"{HOOK}?"):
            with capture_logs([structlog.contextvars.merge_contextvars]) as logs:
                await answer_to(
                    desk, head_of(path, headers=f"{JSON}traceparent: {trace}\r\n") + ENVELOPE
                )
            assert [line["event"] for line in logs] == ["webhook_refused", "request_refused"]
            assert {line["trace"] for line in logs} == {trace[3:35]}

    async def test_too_many_are_told_alike(self, tmp_path: Path) -> None:
        async with open_webhooks(tmp_path, per_second=0.001) as desk:
            lines = []
            for path in (HOOK, HOOK, f"{HOOK}?"):
                line, headers, body = await answer_to(desk, head_of(path) + ENVELOPE)
                lines.append((line, body.get("code"), "Retry-After" in headers))
            assert lines[0][0] == "HTTP/1.1 202 Accepted"
            assert lines[1] == lines[2]
            assert lines[1][1:] == ("too_many_requests", True)

    async def test_a_body_beyond_the_sources_limit(self, tmp_path: Path) -> None:
        async with open_webhooks(tmp_path, max_bytes=len(ENVELOPE) - 1) as desk:
            line, _, body = await answer_to(desk, head_of() + ENVELOPE)
            assert (line.split(" ")[1], body["code"]) == ("413", "too_large")
            assert desk.records() == []

    async def test_a_length_of_more_digits_than_a_number_may_have(self, desk: WebhookDesk) -> None:
        head = head_of(headers=JSON + SIGNED + "Expect: 100-continue\r\n")
        async with open_wire(desk.gateway) as wire:
            await wire.send(head.replace(b"Length: ", b"Length: " + b"0" * 5000))
            assert await wire.line() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await wire.send(ENVELOPE)
            assert await wire.answer() == (202, {"event_id": ID})

    async def test_the_short_one_does_without_the_usual_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        usual = Door.receive

        async def receive(self: Door, request: Any) -> Any:
            asked.append(request.raw_path)
            return await usual(self, request)

        monkeypatch.setattr(Door, "receive", receive)
        async with open_webhooks(tmp_path) as desk:
            for path in (HOOK, f"{HOOK}?", HOOK):
                line, _, _ = await answer_to(desk, head_of(path) + ENVELOPE)
                assert line == "HTTP/1.1 202 Accepted"
        assert asked == [f"{HOOK}?"]


class TestConnections:
    async def test_webhooks_and_other_requests_share_one(self, desk: WebhookDesk) -> None:
        async with open_wire(desk.gateway) as wire:
            for number, request in enumerate((webhook(0), webhook(1), HEALTH, webhook(3), HEALTH)):
                await wire.send(request)
                status, body = await wire.answer()
                expected = 200 if request is HEALTH else 202
                assert (status, body == id_of(number)) == (expected, request is not HEALTH)
        assert len(desk.records()) == 3

    async def test_head_and_body_apart(self, desk: WebhookDesk) -> None:
        async with open_wire(desk.gateway) as wire:
            for number in range(4):
                head, _, body = webhook(number).partition(b"\r\n\r\n")
                await wire.send(head + b"\r\n\r\n")
                await wire.send(body)
                assert await wire.answer() == (202, id_of(number))

    async def test_answers_keep_the_order_of_their_requests(self, tmp_path: Path) -> None:
        producer = HeldProducer()
        async with (
            open_webhooks(tmp_path, producer=producer) as desk,
            open_wire(desk.gateway) as wire,
        ):
            await wire.send(webhook(0))
            await producer.until_asked()
            await wire.send(webhook(1) + webhook(2) + HEALTH + webhook(3))
            producer.acknowledge.set()
            answers = [await wire.answer() for _ in range(5)]
        assert [status for status, _ in answers] == [202, 202, 202, 200, 202]
        assert [body for _, body in answers[:3]] == [id_of(0), id_of(1), id_of(2)]

    async def test_its_records_outcome_knows_when_it_is_answered(self, tmp_path: Path) -> None:
        given: asyncio.Queue[Outcome] = asyncio.Queue()

        class Broker(HeldProducer):
            def send_for(self, _record: Outgoing, outcome: Outcome) -> None:
                given.put_nowait(outcome)

        async with (
            open_webhooks(tmp_path, producer=Broker()) as desk,
            open_wire(desk.gateway) as wire,
        ):
            await wire.send(webhook(0))
            outcome = await asyncio.wait_for(given.get(), 10)
            assert not outcome.done()
            outcome.set_result(None)
            assert outcome.done()
            assert await wire.answer() == (202, id_of(0))

    async def test_a_sender_that_leaves_before_its_answer(self, tmp_path: Path) -> None:
        producer = HeldProducer()
        async with open_webhooks(tmp_path, producer=producer) as desk:
            with capture_logs() as logs:
                async with open_wire(desk.gateway) as wire:
                    await wire.send(webhook(0))
                    await producer.until_asked()
                producer.acknowledge.set()
                await desk.gateway.until_idle()
            assert len(producer.sent) == 1
            assert desk.count("accepted") == 1
            assert logs == []

    async def test_one_whose_answer_we_cannot_make_is_closed(self, tmp_path: Path) -> None:
        times = iter([time.time(), None, time.time(), time.time()])

        def clock() -> float:
            now = next(times)
            if now is None:
                raise OSError("no clock")
            return now

        async with open_webhooks(tmp_path, clock=clock) as desk:
            with capture_logs() as logs:
                async with open_wire(desk.gateway) as wire:
                    await wire.send(webhook(0))
                    assert await wire.rest() == b""
            assert [line["event"] for line in logs] == ["webhooks_unanswered"]
            async with open_wire(desk.gateway) as wire:
                await wire.send(webhook(0))
                assert await wire.answer() == (202, id_of(0))
            assert desk.gateway.metric("parsewire_http_requests_in_progress") == 0


@settings(
    max_examples=150,
    deadline=None,
    # One gateway serves all examples; each asks for webhooks of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=6))
async def test_requests_cut_anywhere(
    desk: WebhookDesk, data: st.DataObject, kinds: list[str]
) -> None:
    before = len(desk.records())
    content = b"".join(request_of(kind, number) for number, kind in enumerate(kinds))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(content) - 1), max_size=8)))
    async with open_wire(desk.gateway) as wire:
        for start, end in pairwise([0, *cuts, len(content)]):
            await wire.send(content[start:end])
            # The gateway's turn, if it wants one: how it cuts the stream itself is no matter.
            await asyncio.sleep(0)
        answers = [await wire.answer() for _ in kinds]
    assert [status for status, _ in answers] == [KINDS[kind] for kind in kinds]
    taken = [number for number, kind in enumerate(kinds) if KINDS[kind] == 202]
    assert [answers[number][1] for number in taken] == [id_of(number) for number in taken]
    assert len(desk.records()) - before == len(taken)


class TestPlaces:
    async def test_each_is_given_back(self, tmp_path: Path) -> None:
        producer = HeldProducer()
        async with (
            open_webhooks(tmp_path, producer=producer, at_once=1) as desk,
            open_wire(desk.gateway) as one,
            open_wire(desk.gateway) as other,
        ):
            await one.send(webhook(0))
            await producer.until_asked()
            await other.send(webhook(1))
            status, problem = await other.answer()
            assert (status, problem["code"]) == (503, "overloaded")
            producer.acknowledge.set()
            assert await one.answer() == (202, id_of(0))
            for request, status in ((request_of("forged", 2), 401), (webhook(3), 202)):
                for _ in range(2):
                    await other.send(request)
                    assert (await other.answer())[0] == status

    async def test_of_a_sender_that_has_left_too(self, tmp_path: Path) -> None:
        producer = HeldProducer()
        async with open_webhooks(tmp_path, producer=producer, at_once=1) as desk:
            async with open_wire(desk.gateway) as wire:
                await wire.send(webhook(0))
                await producer.until_asked()
            producer.acknowledge.set()
            await desk.gateway.until_idle()
            assert (await answer_to(desk, webhook(1)))[2] == id_of(1)


class TestTheEnd:
    async def test_what_is_under_way_is_answered(self, tmp_path: Path) -> None:
        producer = HeldProducer()
        async with AsyncExitStack() as wires, AsyncExitStack() as stack:
            desk = await stack.enter_async_context(open_webhooks(tmp_path, producer=producer))
            short, usual, idle = [
                await wires.enter_async_context(open_wire(desk.gateway)) for _ in range(3)
            ]
            await idle.send(HEALTH)
            assert (await idle.answer())[0] == 200
            await short.send(webhook(0))
            await usual.send(webhook(1).replace(HOOK.encode(), f"{HOOK}?".encode()))
            await producer.until_asked(2)
            closing = asyncio.create_task(stack.aclose())
            assert await idle.rest() == b""
            producer.acknowledge.set()
            assert await short.answer() == (202, id_of(0))
            assert await usual.answer() == (202, id_of(1))
            assert await short.rest() == await usual.rest() == b""
            await asyncio.wait_for(closing, 10)
