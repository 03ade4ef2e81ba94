"""The double of LlamaCloud under any request and all its faults at once: it never breaks itself."""

import asyncio
import json
import random
from typing import Any

import aiohttp
import llama_cloud
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.catalogue import EXPANDS, VERSIONS, Status
from tests.doubles.llamacloud.checks import flaws_of, hook_flaws
from tests.doubles.llamacloud.content import Plan
from tests.doubles.llamacloud.faults import CALL_FAULTS, EVERY_CALL, WEBHOOK_FAULTS
from tests.doubles.llamacloud.jobs import JobStore, hook_from
from tests.doubles.llamacloud.official import Official, open_official
from tests.doubles.llamacloud.receiver import open_receiver
from tests.doubles.llamacloud.results import answer
from tests.doubles.llamacloud.server import open_llama_cloud
from tests.doubles.llamacloud.shape import HOOK, PARSE

JOBS = 40
CHANCE = 0.02

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
junk = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*PARSE, *HOOK, "timeouts", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
ranges = st.fixed_dictionaries(
    {},
    optional={
        "max_pages": st.none() | st.integers(),
        "target_pages": st.none() | st.text("0123456789,- ", max_size=9),
    },
)
sane = {
    "tier": st.sampled_from(sorted(VERSIONS)),
    "version": st.just("latest"),
    "file_id": st.text(max_size=4),
}
bodies = st.fixed_dictionaries(
    sane,
    optional={
        "page_ranges": ranges | junk,
        "user_metadata": st.dictionaries(st.text(max_size=70), st.text(), max_size=3) | junk,
        "processing_control": junk,
        "processing_options": junk,
        "webhook_configurations": st.lists(
            st.fixed_dictionaries({}, optional=dict.fromkeys(HOOK, junk)), max_size=2
        ),
        "disable_cache": junk,
    },
)


@settings(max_examples=300, deadline=None)
@given(body=bodies | junk, public_only=st.booleans())
def test_any_parse_request_is_refused_with_reasons_or_parsed(body: Any, public_only: bool) -> None:
    found = flaws_of(body, has_file=False, public_hooks_only=public_only)
    for detail in found:
        assert detail.keys() == {"type", "loc", "msg", "input"}
    json.dumps(found)
    if found:
        return
    store = JobStore("prj", lambda: 0.0)
    hooks = [hook_from(config or {}) for config in body.get("webhook_configurations") or []]
    hook = hooks[0] if hooks else None
    job = store.create("a.txt", b"one\ftwo", body, plan=Plan, hook=hook)
    store.move(job, *job.outcome())
    told = answer(job, EXPANDS, lambda content, content_type: f"{content_type} {len(content)}")
    json.dumps([told, job.price(), job.end_event()])


@settings(max_examples=200, deadline=None)
@given(body=st.fixed_dictionaries({}, optional=dict.fromkeys(HOOK, junk)) | junk)
def test_any_webhook_configuration_is_refused_or_read(body: Any) -> None:
    if not hook_flaws(body, public_only=True):
        hook_from(body)


async def test_no_body_and_no_query_breaks_it() -> None:
    async with open_llama_cloud() as cloud, aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {cloud.api_key}"}
        seen = set()
        for method, path, body in [
            ("POST", "/api/v2/parse", b"\xff\xfe"),
            ("POST", "/api/v2/parse", b"[1]"),
            ("POST", "/api/v2/parse/upload", b"--x\r\n"),
            ("POST", "/api/v1/beta/files", b"file"),
            ("POST", "/api/v1/beta/webhook-configs", b"7"),
            ("PUT", "/api/v1/beta/webhook-configs/unknown", b"{}"),
            ("POST", "/api/v2/parse/unknown/cancel", b""),
            ("GET", "/api/v2/parse?page_size=many", b""),
            ("GET", "/api/v2/parse?page_token=%ff", b""),
            ("GET", "/api/v2/parse?created_at_on_or_after=yesterday", b""),
            ("GET", "/api/v2/parse?status=DONE", b""),
            ("GET", "/api/v2/parse/unknown?expand=everything", b""),
            ("GET", "/nowhere", b""),
            ("PATCH", "/api/v2/parse", b""),
        ]:
            async with http.request(method, cloud.url + path, data=body, headers=headers) as reply:
                assert "detail" in await reply.json()
                seen.add(reply.status)
        assert seen == {400, 404, 405, 422}


async def one_job(sdk: Official, number: int, hook: dict[str, Any]) -> None:
    file = await sdk.call("files.create", file=("a.txt", b"%d" % number), purpose="parse")
    options = {"tier": "agentic", "version": "latest", "webhook_configurations": [hook]}
    job = await sdk.call("parsing.create", file_id=file.id, **options)
    await sdk.call("parsing.get", job.id, expand=["markdown", "usage"])
    await sdk.call("parsing.list", job_ids=[job.id])
    if number % 3 == 0:
        await sdk.call("parsing.cancel", job.id)
    await sdk.call("parsing.delete", job.id)


async def test_all_faults_at_once() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    behaviour = Behaviour(seed=seed, webhook_backoff_seconds=(0.0,), run_seconds=0.01)
    async with (
        open_llama_cloud(behaviour) as cloud,
        open_receiver() as receiver,
        open_official(cloud.url, cloud.api_key, synchronous=False) as sdk,
    ):
        for fault in sorted(CALL_FAULTS):
            cloud.inject("*", fault, times=None, probability=CHANCE, seconds=0.01)
        for fault in sorted(WEBHOOK_FAULTS):
            cloud.inject("webhook", fault, times=None, probability=CHANCE, seconds=0.01)
        hook = {"webhook_url": receiver.url, "webhook_output_format": "json"}
        ends = await asyncio.gather(
            *(one_job(sdk, number, hook) for number in range(JOBS)), return_exceptions=True
        )
        await cloud.until(lambda: all(j.status is not Status.PENDING for j in cloud.jobs.values()))
        cloud.courier.release()
        assert not cloud.crashes
        expected = llama_cloud.APIError | json.JSONDecodeError | AttributeError
        assert [end for end in ends if end is not None and not isinstance(end, expected)] == []
        made = {call.job_id for call in cloud.calls_of("create") if call.job_id}
        deleted = {call.job_id for call in cloud.calls_of("delete") if call.job_id in made}
        assert made >= cloud.jobs.keys() >= made - deleted
        assert {call.operation for call in cloud.calls} <= EVERY_CALL
        assert all(call.status is not None or call.fault is not None for call in cloud.calls)
