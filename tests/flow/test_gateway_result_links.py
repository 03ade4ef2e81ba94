"""Result links over real HTTP: made with a key, opened without one, and refused in one way."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import structlog

from schemas.events import DeleteRequested
from schemas.result_link import Grant, LinkKeys
from services.result_links import ResultLinks
from tests.gateway_desk import LINK_SECRET, Answer, GatewayDesk, open_gateway
from tests.harness import NOW, FakeClock

MARKDOWN = b"<!-- page 1 -->\n\n# One\n\n<!-- page 2 -->\n\nTwo\n"
TEXT = b"One\n\x0cTwo\n"
NO_SUCH_JOB = "01890000-0000-7000-8000-00000000000a"
REFUSAL = "this link opens nothing: it is wrong or old, or the result is gone"
KEYS = LinkKeys([LINK_SECRET])


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def desk(tmp_path: Path, clock: FakeClock) -> AsyncIterator[GatewayDesk]:
    links = ResultLinks(KEYS, "https://docs.example.com/pw")
    async with open_gateway(tmp_path, clock=clock, links=links) as opened:
        yield opened


async def finished(desk: GatewayDesk) -> str:
    job_id: str = (await desk.upload()).json["job_id"]
    await desk.complete(job_id)
    return job_id


async def linked(desk: GatewayDesk, job_id: str, body: bytes = b"") -> Answer:
    return await desk.post(f"/api/v1/jobs/{job_id}/link", data=body)


async def opened(desk: GatewayDesk, token: str, query: str = "", **more: str) -> Answer:
    return await desk.get(f"/api/v1/results/{token}{query}", tenant=None, headers=more)


def token_of(answer: Answer) -> str:
    assert answer.status == 200, answer.content
    return str(answer.json["url"]).rpartition("/")[2]


def assert_opens_nothing(answer: Answer) -> None:
    assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert answer.json["detail"] == REFUSAL


async def test_a_link_opens_the_result_without_a_key(desk: GatewayDesk) -> None:
    answer = await linked(desk, await finished(desk))
    assert answer.json["url"].startswith("https://docs.example.com/pw/api/v1/results/")
    # FakeClock begins at 2027-01-15T08:00:00Z; a link lives for an hour unless told otherwise.
    assert answer.json["expires_at"] == "2027-01-15T09:00:00Z"
    result = await opened(desk, token_of(answer))
    assert (result.status, result.content) == (200, MARKDOWN)
    assert result.headers["Cache-Control"] == "private, no-store"
    assert result.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("query", "accept", "kind", "content"),
    [
        ("", "text/plain", "text/plain; charset=utf-8", TEXT),
        ("?format=txt", "application/json", "text/plain; charset=utf-8", TEXT),
        ("?format=md", "text/plain", "text/markdown; charset=utf-8", MARKDOWN),
    ],
)
async def test_formats(
    desk: GatewayDesk, query: str, accept: str, kind: str, content: bytes
) -> None:
    token = token_of(await linked(desk, await finished(desk)))
    result = await opened(desk, token, query, Accept=accept)
    assert (result.status, result.headers["Content-Type"]) == (200, kind)
    assert result.content == content


async def test_json_and_unknown_formats(desk: GatewayDesk) -> None:
    token = token_of(await linked(desk, await finished(desk)))
    assert [p["number"] for p in (await opened(desk, token, "?format=json")).json["pages"]] == [
        1,
        2,
    ]
    for query in ("?format=html", "?format="):
        answer = await opened(desk, token, query)
        assert (answer.status, answer.json["code"]) == (406, "not_acceptable")
    # Who has no good link learns no more by a wrong format.
    assert_opens_nothing(await opened(desk, "x" + token, "?format=html"))


async def test_a_link_ends_to_the_second(desk: GatewayDesk, clock: FakeClock) -> None:
    job_id = await finished(desk)
    answer = await linked(desk, job_id, b'{"seconds": 60}')
    assert answer.json["expires_at"] == "2027-01-15T08:01:00Z"
    clock.now_ms = NOW + 59_999
    assert (await opened(desk, token_of(answer))).status == 200
    clock.now_ms = NOW + 60_000
    assert_opens_nothing(await opened(desk, token_of(answer)))


@pytest.mark.parametrize("seconds", [b"0", b"-1", b"86401", b"1.5", b'"60"', b"true"])
async def test_a_links_life_is_bounded(desk: GatewayDesk, seconds: bytes) -> None:
    answer = await linked(desk, await finished(desk), b'{"seconds": ' + seconds + b"}")
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")


async def test_no_byte_of_a_token_may_change(desk: GatewayDesk) -> None:
    token = token_of(await linked(desk, await finished(desk)))
    for at in range(len(token)):
        for other in {"A", "z", "_", ".", chr(ord(token[at]) ^ 1)} - set(token[at] + "/?#{}"):
            assert_opens_nothing(await opened(desk, token[:at] + other + token[at + 1 :]))
    for wrong in (token[:-1], token + "A", token + "=", token * 4, "%C3%A9." + token, "..."):
        assert_opens_nothing(await opened(desk, wrong))


async def test_only_what_this_deployment_signed_is_taken(desk: GatewayDesk) -> None:
    job_id = await finished(desk)
    later = NOW // 1000 + 60
    good = Grant(job_id, 1, "acme", later)
    assert (await opened(desk, KEYS.sign(good))).status == 200
    for token in (
        LinkKeys(["some other secret"]).sign(good),
        KEYS.sign(Grant(job_id, 1, "globex", later)),
        KEYS.sign(Grant(job_id, 2, "acme", later)),
        KEYS.sign(Grant(NO_SUCH_JOB, 1, "acme", later)),
    ):
        assert_opens_nothing(await opened(desk, token))


async def test_a_job_without_a_result_has_no_link(desk: GatewayDesk) -> None:
    job_id: str = (await desk.upload()).json["job_id"]
    answer = await linked(desk, job_id)
    assert (answer.status, answer.json["code"]) == (409, "result_not_ready")
    assert_opens_nothing(await opened(desk, KEYS.sign(Grant(job_id, 1, "acme", NOW))))


async def test_a_link_is_made_for_ones_own_jobs_alone(desk: GatewayDesk) -> None:
    job_id = await finished(desk)
    for tenant, status in (("globex", 404), (None, 401)):
        answer = await desk.post(f"/api/v1/jobs/{job_id}/link", tenant=tenant)
        assert answer.status == status


async def test_a_deleted_jobs_link_opens_nothing(desk: GatewayDesk) -> None:
    job_id = await finished(desk)
    token = token_of(await linked(desk, job_id))
    await desk.happen(DeleteRequested(job_id, "acme", 1))
    assert_opens_nothing(await opened(desk, token))


async def test_a_result_that_is_gone_opens_nothing(desk: GatewayDesk) -> None:
    job_id = await finished(desk)
    token = token_of(await linked(desk, job_id))
    result = (await desk.job(job_id)).result
    assert result is not None
    await desk.blobs.delete(result.key)
    assert_opens_nothing(await opened(desk, token))


async def test_no_token_is_logged(desk: GatewayDesk) -> None:
    job_id = await finished(desk)
    with structlog.testing.capture_logs() as lines:
        token = token_of(await linked(desk, job_id))
        assert (await opened(desk, token)).status == 200
        assert (await opened(desk, token[:-1])).status == 404
        await desk.post(f"/api/v1/results/{token}", tenant=None)
    assert [line["route"] for line in lines] == ["/api/v1/results/{token}", "unmatched"]
    assert token[:-1] not in repr(lines)
