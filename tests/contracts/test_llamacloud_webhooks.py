"""Webhooks of the double: the documented envelope and headers, and what goes wrong with them."""

import asyncio
import hashlib
import hmac
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.catalogue import Status
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.content import Plan
from tests.doubles.llamacloud.faults import Fault
from tests.doubles.llamacloud.official import Official, open_official
from tests.doubles.llamacloud.receiver import Receiver, open_receiver
from tests.doubles.llamacloud.server import open_llama_cloud

LETTER = ("letter.txt", b"first\fsecond")
SECRET = "whsec-of-the-test"
QUICK = Behaviour(hold=True, webhook_backoff_seconds=(0.01, 0.01))
MISHAPS = (Fault.LOST, Fault.DOUBLED, Fault.LATE, Fault.REORDERED)
ENDS = ["parse.success", "parse.error", "parse.partial_success", "parse.cancelled"]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with open_receiver() as receiver:
        yield receiver


@pytest.fixture
async def cloud() -> AsyncIterator[LlamaCloud]:
    async with open_llama_cloud(QUICK) as cloud:
        yield cloud


@pytest.fixture
async def sdk(cloud: LlamaCloud) -> AsyncIterator[Official]:
    async with open_official(cloud.url, cloud.api_key, synchronous=False) as official:
        yield official


def hook(receiver: Receiver, **changes: Any) -> dict[str, Any]:
    return {
        "webhook_url": receiver.url,
        "webhook_events": ENDS,
        "webhook_output_format": "json",
        "webhook_signing_secret": SECRET,
    } | changes


async def created(sdk: Official, *hooks: dict[str, Any], **options: Any) -> Any:
    file = await sdk.call("files.create", file=LETTER, purpose="parse")
    options = {"tier": "agentic", "version": "latest", "disable_cache": True} | options
    return await sdk.call(
        "parsing.create", file_id=file.id, webhook_configurations=list(hooks), **options
    )


def signature(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def test_a_webhook_is_as_documented(
    cloud: LlamaCloud, sdk: Official, receiver: Receiver
) -> None:
    custom = {"X-Tenant": "acme", "Authorization": "Bearer mine"}
    job = await created(sdk, hook(receiver, webhook_headers=custom))
    cloud.finish(job.id)
    await cloud.settled()
    ((headers, body),) = receiver.received
    event = json.loads(body)
    assert list(event) == ["event_id", "event_type", "timestamp", "data"]
    assert str(uuid.UUID(event["event_id"])) == event["event_id"]
    assert event["event_type"] == "parse.success"
    assert isinstance(event["timestamp"], float)
    assert event["data"] == {"id": job.id, "job_id": job.id}
    told = {
        name: headers[name] for name in headers if name.startswith(("X-", "LC-", "User", "Auth"))
    }
    assert told == {
        "X-Tenant": "acme",
        "Authorization": "Bearer mine",
        "User-Agent": "llamaindex-webhook-service/1.0",
        "X-Webhook-Event-ID": event["event_id"],
        "X-Webhook-Event-Type": "parse.success",
        "LC-Signature": signature(body),
    }
    assert headers["Content-Type"] == "application/json"


async def test_the_default_is_a_string_without_signature_for_every_event(
    cloud: LlamaCloud, sdk: Official, receiver: Receiver
) -> None:
    job = await created(sdk, {"webhook_url": receiver.url})
    for step in (cloud.start, cloud.finish):
        await cloud.settled()
        step(job.id)
    await cloud.settled()
    told = [json.loads(json.loads(body))["event_type"] for _, body in receiver.received]
    assert told == ["parse.pending", "parse.running", "parse.success"]
    assert not any("LC-Signature" in headers for headers, _ in receiver.received)


async def test_each_end_has_its_event_and_only_the_first_configuration_counts(
    cloud: LlamaCloud, sdk: Official, receiver: Receiver
) -> None:
    second = hook(receiver, webhook_events=None)
    cloud.plan(Plan(failed_pages={1: "OCR failed"}))
    control = {"job_failure_conditions": {"allowed_page_failure_ratio": 0.5}}
    partial = await created(sdk, hook(receiver), second, processing_control=control)
    failed, cancelled = await created(sdk, hook(receiver)), await created(sdk, hook(receiver))
    cloud.finish(partial.id)
    await cloud.settled()
    cloud.fail(failed.id, "TIMEOUT")
    await cloud.settled()
    await sdk.call("parsing.cancel", cancelled.id)
    await cloud.settled()
    assert receiver.told() == [
        ("parse.partial_success", partial.id),
        ("parse.error", failed.id),
        ("parse.cancelled", cancelled.id),
    ]


async def test_a_stored_configuration_is_told_and_so_is_a_cached_result(
    cloud: LlamaCloud, sdk: Official, receiver: Receiver
) -> None:
    stored = await sdk.call("webhook_configs.create", **hook(receiver))
    ids = {"webhook_configuration_ids": [stored.id], "disable_cache": False}
    first = await created(sdk, **ids)
    cloud.finish(first.id)
    again = await created(sdk, **ids)
    assert again.status == "COMPLETED"
    await cloud.settled()
    assert set(receiver.told()) == {("parse.success", first.id), ("parse.success", again.id)}


@pytest.mark.parametrize(
    ("statuses", "seen"), [([500], [500, 200]), ([500, 302, 404, 200], [500, 302, 404])]
)
async def test_three_tries_and_then_it_is_dropped(
    cloud: LlamaCloud, sdk: Official, receiver: Receiver, statuses: list[int], seen: list[int]
) -> None:
    receiver.statuses = statuses
    job = await created(sdk, hook(receiver))
    cloud.finish(job.id)
    await cloud.settled()
    assert [delivery.status for delivery in cloud.deliveries] == seen
    assert [delivery.attempt for delivery in cloud.deliveries] == list(range(1, len(seen) + 1))
    assert len({json.loads(body)["event_id"] for _, body in receiver.received}) == 1


async def test_a_receiver_that_is_away(cloud: LlamaCloud, sdk: Official, free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}/hook"
    job = await created(sdk, {"webhook_url": url, "webhook_events": ENDS})
    cloud.finish(job.id)
    await cloud.settled()
    assert [delivery.status for delivery in cloud.deliveries] == [None, None, None]
    assert all("ClientConnectorError" in (d.error or "") for d in cloud.deliveries)


async def test_an_early_webhook_comes_before_its_job_is_known(
    cloud: LlamaCloud, sdk: Official, receiver: Receiver
) -> None:
    cloud.inject("webhook", Fault.EARLY)
    submission = asyncio.create_task(created(sdk, hook(receiver)))
    await cloud.until(lambda: bool(cloud.deliveries and cloud.deliveries[-1].status == 200))
    assert [call.status for call in cloud.calls_of("create")] == [None]
    job = await submission
    assert receiver.told() == [("parse.success", job.id)]
    assert (job.status, cloud.jobs[job.id].status) == ("PENDING", Status.COMPLETED)


async def test_lost_doubled_late_and_reordered(
    cloud: LlamaCloud, sdk: Official, receiver: Receiver
) -> None:
    jobs = {fault: (await created(sdk, hook(receiver))).id for fault in MISHAPS}
    for fault in (Fault.LOST, Fault.DOUBLED, Fault.LATE):
        cloud.inject("webhook", fault, seconds=0.01)
        cloud.finish(jobs[fault])
        await cloud.settled()
    doubled, late = ("parse.success", jobs[Fault.DOUBLED]), ("parse.success", jobs[Fault.LATE])
    assert receiver.told() == [doubled, doubled, late]
    bodies = [body for _, body in receiver.received]
    assert bodies[0] == bodies[1]
    cloud.inject("webhook", Fault.REORDERED)
    cloud.finish(jobs[Fault.REORDERED])
    cloud.finish(other := (await created(sdk, hook(receiver))).id)
    await cloud.settled()
    assert [job_id for _, job_id in receiver.told()[3:]] == [other, jobs[Fault.REORDERED]]


async def drifted(
    cloud: LlamaCloud, sdk: Official, receiver: Receiver, fault: Fault
) -> tuple[str, dict[str, str], bytes]:
    cloud.inject("webhook", fault)
    job = await created(sdk, hook(receiver))
    cloud.finish(job.id)
    await cloud.settled()
    ((headers, body),) = receiver.received
    return job.id, headers, body


async def test_forged_and_unsigned(cloud: LlamaCloud, sdk: Official, receiver: Receiver) -> None:
    _, headers, body = await drifted(cloud, sdk, receiver, Fault.FORGED)
    assert headers["LC-Signature"].startswith("sha256=")
    assert headers["LC-Signature"] != signature(body)
    receiver.received.clear()
    _, headers, body = await drifted(cloud, sdk, receiver, Fault.UNSIGNED)
    assert "LC-Signature" not in headers


@pytest.mark.parametrize(
    ("fault", "fields", "data"),
    [
        (Fault.EXTRA_FIELDS,
         {"event_id", "event_type", "timestamp", "data", "api_version", "attempt"},
         {"id", "job_id", "status", "page_count", "links"}),
        (Fault.MISSING_JOB_ID, {"event_id", "event_type", "timestamp", "data"}, {"id"}),
        (Fault.MISSING_FIELDS, {"event_type", "data"}, set()),
        (Fault.UNKNOWN_EVENT, {"event_id", "event_type", "timestamp", "data"}, {"id", "job_id"}),
        (Fault.WRONG_REGION, {"event_id", "event_type", "timestamp", "data"}, {"id", "job_id"}),
    ],
)  # fmt: skip
async def test_drifted_webhooks_are_signed_rightly(
    cloud: LlamaCloud,
    sdk: Official,
    receiver: Receiver,
    fault: Fault,
    fields: set[str],
    data: set[str],
) -> None:
    job_id, headers, body = await drifted(cloud, sdk, receiver, fault)
    assert headers["LC-Signature"] == signature(body)
    event = json.loads(body)
    assert (set(event), set(event["data"])) == (fields, data)
    unknown = fault is Fault.UNKNOWN_EVENT
    assert event["event_type"] == ("parse.archived" if unknown else "parse.success")
    if fault is Fault.WRONG_REGION:
        assert event["data"]["job_id"] not in cloud.jobs
    elif data:
        assert event["data"]["id"] == job_id
