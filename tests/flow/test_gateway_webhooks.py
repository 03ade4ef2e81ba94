"""Webhooks over HTTP: what is taken, what the topic then holds, and what each refusal says."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from standardwebhooks.webhooks import Webhook
from structlog.testing import capture_logs

from schemas import codec
from schemas.events import WebhookReceived
from schemas.ids import derived_id
from schemas.topics import WEBHOOKS_RECEIVED
from schemas.webhook_source import ARTIFACTS, LLAMAPARSE, Credential
from streams.blobs.base import webhook_key
from streams.bus.base import Bus
from streams.bus.kafka import KafkaBus
from tests.gateway_bodies import refused
from tests.topics import read_topic
from tests.webhook_desk import (
    ENVELOPE,
    HEALTH,
    HOOK,
    SECRET,
    SOURCES,
    HeldProducer,
    WebhookDesk,
    open_webhooks,
    plain_signature,
    signature,
    source_of,
)

EVENT_ID = derived_id("webhook", "llamaparse", "5b1c1d3e")


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[WebhookDesk]:
    async with open_webhooks(tmp_path) as opened:
        yield opened


class TestTaken:
    async def test_a_webhook_of_llamacloud(self, desk: WebhookDesk) -> None:
        answer = await desk.deliver(
            headers={
                "User-Agent": "llamaindex-webhook-service/1.0",
                "X-Webhook-Event-ID": "5b1c1d3e",
                "X-Webhook-Event-Type": "parse.success",
                "X-Other": "not kept",
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            }
        )
        assert (answer.status, answer.json) == (202, {"event_id": EVENT_ID})
        ((event, body),) = desk.received()
        (record,) = desk.records()
        assert record.value == ENVELOPE
        assert record.key == b"pjb-1"
        assert (event.id, event.source) == (EVENT_ID, "/parsewire/gateway")
        assert (event.traceparent or "").startswith("00-0af7651916cd43dd8448eb211c80319c-")
        assert (body.webhook, body.subject, body.content, body.blob) == (
            "llamaparse",
            "pjb-1",
            ENVELOPE,
            None,
        )
        assert dict(body.headers) == {
            "lc-signature": signature(ENVELOPE)["LC-Signature"].encode(),
            "x-webhook-event-id": b"5b1c1d3e",
            "x-webhook-event-type": b"parse.success",
            "content-type": b"application/json",
            "user-agent": b"llamaindex-webhook-service/1.0",
        }
        assert desk.count("accepted") == 1

    async def test_the_record_verifies_again(self, desk: WebhookDesk) -> None:
        body = b'  {"event_id": "e\\u00e9", "data" : {"id":"pjb-9"}}\r\n\x00'
        assert (await desk.deliver(body)).status == 202
        ((_, received),) = desk.received()
        again = SOURCES[0].verify(received.headers, received.content, time.time())
        assert isinstance(again, Credential)
        assert again.label == "secret 1"

    @pytest.mark.parametrize("prefix", ["", "sha256="])
    async def test_the_plain_header(self, desk: WebhookDesk, prefix: str) -> None:
        headers = {"X-Webhook-Signature": prefix + plain_signature(ENVELOPE)}
        assert (await desk.post(ENVELOPE, headers)).status == 202

    async def test_both_formats_of_the_envelope_are_one_event(self, desk: WebhookDesk) -> None:
        text = orjson.dumps(ENVELOPE.decode())
        for body in (ENVELOPE, text):
            assert (await desk.deliver(body)).json == {"event_id": EVENT_ID}
        assert [body.subject for _, body in desk.received()] == ["pjb-1", "pjb-1"]
        assert {record.value for record in desk.records()} == {ENVELOPE, text}

    async def test_a_doubled_delivery_has_the_same_id(self, desk: WebhookDesk) -> None:
        for body in (ENVELOPE, ENVELOPE, b'{"data":{"id":"pjb-2"}}', b'{"data":{"id":"pjb-2"}}'):
            assert (await desk.deliver(body)).status == 202
        ids = [event.id for event, _ in desk.received()]
        assert len(ids) == 4
        assert len(set(ids)) == 2

    async def test_what_is_no_json_is_kept_too(self, desk: WebhookDesk) -> None:
        body = b"\xff\x00 no json"
        answer = await desk.deliver(body)
        assert answer.status == 202
        ((event, received),) = desk.received()
        assert (received.content, received.subject) == (body, event.id)
        assert answer.json == {"event_id": event.id}

    async def test_many_that_come_at_once_are_answered_each_for_itself(
        self, desk: WebhookDesk
    ) -> None:
        bodies = [b'{"event_id":"e%d","data":{"job_id":"j%d"}}' % (n, n) for n in range(90)]
        requests = []
        for number, body in enumerate(bodies):
            proof = signature(body, "another" if number % 3 == 1 else SECRET)["LC-Signature"]
            kind = "text/plain" if number % 3 == 2 else "application/json"
            head = (
                f"POST {HOOK} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n"
                f"LC-Signature: {proof}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            requests.append(head.encode() + body)
        statuses = await asyncio.gather(*map(desk.status_of, requests))
        assert statuses == [202, 401, 415] * 30
        assert {record.value for record in desk.records()} == set(bodies[::3])
        assert len(desk.records()) == 30
        assert desk.gateway.metric("parsewire_http_requests_in_progress") == 0

    async def test_an_empty_body(self, desk: WebhookDesk) -> None:
        assert (await desk.deliver(b"")).status == 202
        assert [record.value for record in desk.records()] == [b""]

    async def test_what_the_official_package_of_the_standard_signs(self, desk: WebhookDesk) -> None:
        webhook = Webhook("whsec_AAECAwQFBgc=")
        now = int(time.time())
        statuses = []
        for at in (now, now - 290, now + 290, now - 310, now + 310):
            headers = {
                "webhook-id": f"msg_{at}",
                "webhook-timestamp": str(at),
                "webhook-signature": webhook.sign(
                    f"msg_{at}", datetime.fromtimestamp(at, UTC), "{}"
                ),
            }
            answer = await desk.post(b"{}", headers, path="/api/v1/webhooks/standard")
            statuses.append(answer.status)
        assert statuses == [202, 202, 202, 401, 401]
        assert {event.id for event, _ in desk.received()} == {
            derived_id("webhook", "standard", f"msg_{at}") for at in (now, now - 290, now + 290)
        }


class TestLarge:
    async def test_a_body_beyond_the_record_limit_is_a_blob(self, desk: WebhookDesk) -> None:
        body = b'{"event_id":"large","data":{"id":"pjb-3"},"x":"' + b"x" * 1_500_000 + b'"}'
        answer = await desk.deliver(body)
        event_id = derived_id("webhook", "llamaparse", "large")
        assert (answer.status, answer.json) == (202, {"event_id": event_id})
        ((_, received),) = desk.received()
        assert (received.content, received.subject) == (b"", "pjb-3")
        assert received.blob is not None
        assert received.blob.key == webhook_key(event_id) == f"webhooks/{event_id}"
        assert received.blob.sha256 == hashlib.sha256(body).hexdigest()
        kept = await desk.gateway.blobs.read(received.blob)
        assert isinstance(SOURCES[0].verify(received.headers, kept, time.time()), Credential)

    async def test_the_limit_is_the_records_with_its_headers(self, desk: WebhookDesk) -> None:
        for size in (898_000, 900_000):
            body = b"x" * size
            assert (await desk.deliver(body)).status == 202
        assert sorted(body.blob is not None for _, body in desk.received()) == [False, True]


class TestRefused:
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"LC-Signature": ""},
            {"LC-Signature": "sha256="},
            {"LC-Signature": "sha256=" + "0" * 64},
            {"LC-Signature": plain_signature(ENVELOPE)},
            {"LC-Signature": "sha256=" + plain_signature(ENVELOPE, "another secret")},
            {"LC-Signature": "sha256=" + plain_signature(ENVELOPE + b" ")},
            {"X-Webhook-Signature": "sha512=" + plain_signature(ENVELOPE)},
            {"X-Webhook-Signature": "\u00e9" * 64},
            {"Authorization": "Bearer pw_x"},
        ],
    )
    async def test_a_forged_one(self, desk: WebhookDesk, headers: dict[str, str]) -> None:
        with capture_logs() as logs:
            answer = await desk.post(ENVELOPE, headers)
        problem = refused(answer, 401, "unauthorized")
        assert problem["detail"] == "the webhook is refused"
        assert b"ignature" not in answer.content
        assert desk.records() == []
        assert desk.count("unauthorized") == 1
        (line,) = [line for line in logs if line["event"] == "webhook_refused"]
        assert line["reason"] in ("no_signature", "mismatch")
        assert SECRET not in str(logs)

    async def test_a_source_without_a_secret(self, desk: WebhookDesk) -> None:
        body = b'{"job_id":"1"}'
        headers = {"X-Webhook-Signature": plain_signature(body)}
        with_no_key = hmac.new(b"", body, "sha256").hexdigest()
        for given in ({}, headers, {"X-Webhook-Signature": with_no_key}):
            answer = await desk.post(body, given, path="/api/v1/webhooks/artifacts")
            refused(answer, 401, "unauthorized")
        assert desk.records() == []

    async def test_a_source_that_is_not_there(self, desk: WebhookDesk) -> None:
        for path in ("nobody", "%2e%2e", "x" * 2000):
            answer = await desk.post(b"{}", path=f"/api/v1/webhooks/{path}")
            refused(answer, 404, "not_found")
        assert desk.count("not_found", "unknown") == 3

    async def test_another_method(self, desk: WebhookDesk) -> None:
        refused(await desk.gateway.get(HOOK), 405, "method_not_allowed")

    @pytest.mark.parametrize(
        ("content_type", "status"),
        [
            ("application/json", 202),
            ("Application/JSON; charset=utf-8", 202),
            ("application/cloudevents+json", 202),
            ("text/plain", 415),
            ("application/jsonx", 415),
            ("multipart/form-data; boundary=x", 415),
        ],
    )
    async def test_the_content_type(
        self, desk: WebhookDesk, content_type: str, status: int
    ) -> None:
        answer = await desk.deliver(headers={"Content-Type": content_type})
        assert answer.status == status
        if status == 415:
            problem = refused(answer, 415, "unsupported_media_type")
            assert problem["accepted"] == ["application/json"]

    @pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "x, identity"])
    async def test_a_packed_body(self, desk: WebhookDesk, coding: str) -> None:
        answer = await desk.deliver(headers={"Content-Encoding": coding})
        refused(answer, 415, "unsupported_media_type")
        assert answer.headers["Accept-Encoding"] == "identity"

    async def test_too_many_from_one_address(self, tmp_path: Path) -> None:
        async with open_webhooks(tmp_path, per_second=0.01) as desk:
            assert (await desk.deliver()).status == 202
            answer = await desk.deliver()
            refused(answer, 429, "too_many_requests")
            assert 1 <= int(answer.headers["Retry-After"]) <= 100
            refused(await desk.post(b"", path="/api/v1/webhooks/x"), 429, "too_many_requests")
            assert (await desk.gateway.get("/health")).status == 200


class TestSecrets:
    async def test_the_old_secret_counts_until_its_expiry(self, tmp_path: Path) -> None:
        now = [1_796_083_200.0]
        source = source_of(LLAMAPARSE, ("the new one", None), ("the old one", now[0]))
        async with open_webhooks(tmp_path, source, clock=lambda: now[0]) as desk:

            async def status(secret: str) -> int:
                return (await desk.post(ENVELOPE, signature(ENVELOPE, secret))).status

            now[0] -= 0.001
            assert [await status("the old one"), await status("the new one")] == [202, 202]
            now[0] += 0.001
            assert [await status("the old one"), await status("the new one")] == [401, 202]

    async def test_health_tells_each_source_and_no_secret(self, tmp_path: Path) -> None:
        now = [1_796_083_100.5]
        source = source_of(LLAMAPARSE, ("the new one", None), ("the old one", 1_796_083_200.0))
        sources = (source, source_of(ARTIFACTS))
        async with open_webhooks(tmp_path, *sources, clock=lambda: now[0]) as desk:
            await desk.post(ENVELOPE, signature(ENVELOPE, "the new one"))
            now[0] += 1
            await desk.post(ENVELOPE)
            answer = await desk.gateway.get(HEALTH, tenant=None)
            assert answer.status == 200
            assert answer.json["sources"] == {
                "llamaparse": {
                    "configured": True,
                    "schemes": ["lc-signature", "x-webhook-signature"],
                    "headers": ["LC-Signature", "X-Webhook-Signature"],
                    "active_secrets": 2,
                    "next_expiry": "2026-12-01T00:00:00Z",
                    "accepted": 1,
                    "refused": 1,
                    "last_accepted_at": "2026-11-30T23:58:20.500000Z",
                    "last_refused_at": "2026-11-30T23:58:21.500000Z",
                },
                "artifacts": {
                    "configured": False,
                    "schemes": ["x-webhook-signature"],
                    "headers": ["X-Webhook-Signature"],
                    "active_secrets": 0,
                    "next_expiry": None,
                    "accepted": 0,
                    "refused": 0,
                    "last_accepted_at": None,
                    "last_refused_at": None,
                },
            }
            assert b"one" not in answer.content.replace(b"none", b"")
            now[0] = 1_796_083_200.0
            shown = (await desk.gateway.get(HEALTH)).json["sources"]["llamaparse"]
            assert (shown["active_secrets"], shown["next_expiry"]) == (1, None)


class TestTrouble:
    async def test_a_broker_that_is_away(self, desk: WebhookDesk) -> None:
        desk.bus.set_away(True)
        answer = await desk.deliver()
        refused(answer, 503, "bus_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert b"memory" not in answer.content
        desk.bus.set_away(False)
        assert (await desk.deliver()).status == 202
        assert len(desk.records()) == 1
        assert (desk.count("bus_unavailable"), desk.count("accepted")) == (1, 1)

    async def test_202_waits_for_the_acknowledgement(self, tmp_path: Path) -> None:
        producer = HeldProducer()
        async with open_webhooks(tmp_path, producer=producer) as desk:
            asking = asyncio.create_task(desk.deliver())
            await producer.until_asked()
            assert not asking.done()
            producer.acknowledge.set()
            assert (await asking).status == 202

    async def test_a_broker_that_takes_less_than_we_do(self, tmp_path: Path) -> None:
        """As with `message.max.bytes` set low: the blob takes what the broker does not."""
        producer = HeldProducer(most_bytes=50)
        producer.acknowledge.set()
        async with open_webhooks(tmp_path, producer=producer) as desk:
            assert (await desk.deliver()).status == 202
            (record,) = producer.sent
            body = codec.decode(record.value, record.headers).body
            assert isinstance(body, WebhookReceived)
            assert body.blob is not None
            assert await desk.gateway.blobs.read(body.blob) == ENVELOPE


@pytest.mark.kafka
class TestRealKafka:
    async def test_another_client_reads_the_raw_bytes(
        self, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
    ) -> None:
        bus: Bus = KafkaBus(kafka_bootstrap, topic_prefix=topic_prefix, partitions=2)
        await bus.ensure_topics([WEBHOOKS_RECEIVED])
        body = b'{"event_id":"e1","data":{"job_id":"pjb-1"}}\xff\x00'
        async with (
            bus.open_producer() as producer,
            open_webhooks(tmp_path, producer=producer) as desk,
        ):
            for _ in range(2):
                assert (await desk.deliver(body)).status == 202
        seen = await read_topic(kafka_bootstrap, topic_prefix + WEBHOOKS_RECEIVED.name)
        assert [record.value for record in seen] == [body, body]
        # No JSON: the event has no other name than its own.
        (event_id,) = {record.headers["ce_id"] for record in seen}
        assert {record.key for record in seen} == {event_id}
        assert seen[0].headers["ce_type"] == "com.parsewire.WebhookReceived"
        headers: list[Any] = [
            (name.removeprefix("http-"), raw)
            for name, raw in seen[0].raw_headers
            if name.startswith("http-")
        ]
        assert isinstance(SOURCES[0].verify(headers, seen[0].value, time.time()), Credential)
