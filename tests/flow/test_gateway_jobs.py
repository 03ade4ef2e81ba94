"""Jobs over real HTTP, as two tenants see them: shown, listed, asked to retry or cancel."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from schemas.events import (
    CancelRequested,
    ParseDeferred,
    ParseQueued,
    ParseStarted,
    RetryRequested,
)
from tests.gateway_desk import GatewayDesk, open_gateway
from tests.harness import decode_row

NOBODYS = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[GatewayDesk]:
    async with open_gateway(tmp_path) as opened:
        yield opened


async def uploaded(desk: GatewayDesk, content: bytes = b"some text") -> str:
    job_id: str = (await desk.upload(content)).json["job_id"]
    desk.said()
    return job_id


class TestOneJob:
    async def test_shows_what_its_owner_may_know(self, desk: GatewayDesk) -> None:
        job_id = await uploaded(desk)
        body = (await desk.get(f"/api/v1/jobs/{job_id}")).json
        job = await desk.job(job_id)
        assert body.pop("created_at").endswith("Z")
        assert body.pop("updated_at").endswith("Z")
        assert body == {
            "job_id": job_id,
            "document_id": job.document_id,
            "state": "uploaded",
            "attempt": 1,
            "generation": 1,
            "name": "a.txt",
            "media_type": "text/plain",
            "size_bytes": 9,
            "sha256": "b94f6f125c79e3a5ffaa826f584c10d52ada669e6762051b826b55776d05aed2",
            "options": {},
            "parser": None,
            "parser_version": None,
            "pages": None,
            "warnings": [],
            "error": None,
            "links": {
                "self": f"/api/v1/jobs/{job_id}",
                "history": f"/api/v1/jobs/{job_id}/history",
                "result": f"/api/v1/jobs/{job_id}/result",
                "retry": f"/api/v1/jobs/{job_id}/retry",
                "cancel": f"/api/v1/jobs/{job_id}/cancel",
            },
            "cost": {"estimated_micro_usd": 0, "reserved_micro_usd": 0, "billed_micro_usd": 0},
            "waits_until": None,
        }

    async def test_says_why_it_failed_and_what_to_do(self, desk: GatewayDesk) -> None:
        job_id = await uploaded(desk)
        await desk.fail(job_id, "document_encrypted")
        assert (await desk.get(f"/api/v1/jobs/{job_id}")).json["error"] == {
            "code": "document_encrypted",
            "title": "The document needs a password",
            "message": "no good",
            "advice": "Remove the password and upload it again.",
        }

    async def test_says_what_it_waits_for(self, desk: GatewayDesk) -> None:
        job_id = await uploaded(desk)
        await desk.happen(ParseDeferred(job_id, "acme", 1, "circuit_open"))
        body = (await desk.get(f"/api/v1/jobs/{job_id}")).json
        assert (body["state"], body["error"]["code"]) == ("retry_wait", "circuit_open")
        assert body["error"]["title"] == "The parser elsewhere is left alone for a while"

    async def test_says_who_has_it_and_not_under_which_id(self, desk: GatewayDesk) -> None:
        job_id = await uploaded(desk)
        await desk.happen(ParseQueued(job_id, "acme", 1, "llamaparse", "pjb-secret"))
        answer = await desk.get(f"/api/v1/jobs/{job_id}")
        assert (answer.json["state"], answer.json["parser"]) == ("parse_queued", "llamaparse")
        assert b"pjb-secret" not in answer.content

    async def test_history_has_every_move(self, desk: GatewayDesk) -> None:
        job_id = await uploaded(desk)
        await desk.happen(ParseStarted(job_id, "acme", 1, "worker"))
        await desk.happen(ParseStarted(job_id, "acme", 1, "another"))
        await desk.complete(job_id)
        history = (await desk.get(f"/api/v1/jobs/{job_id}/history")).json
        assert (history["job_id"], history["more"]) == (job_id, False)
        lines = [
            (e["type"], e["from_state"], e["to_state"], e["ignored"]) for e in history["events"]
        ]
        assert lines == [
            ("DocumentUploaded", None, "uploaded", None),
            ("ParseStarted", "uploaded", "parsing", None),
            ("ParseStarted", None, None, "not from parsing"),
            ("ParseSucceeded", "parsing", "parsed", None),
            ("ParseSucceeded", "parsed", "complete", None),
        ]

    @pytest.mark.parametrize("path", ["", "/history", "/result", "/result.md", "/result.json"])
    async def test_anothers_job_is_as_missing_as_a_missing_one(
        self, desk: GatewayDesk, path: str
    ) -> None:
        job_id = await uploaded(desk)
        await desk.complete(job_id)
        answers = [
            await desk.get(f"/api/v1/jobs/{job_id}{path}", tenant="globex"),
            await desk.get(f"/api/v1/jobs/{NOBODYS}{path}"),
            await desk.get(f"/api/v1/jobs/not-a-uuid{path}"),
            await desk.get(f"/api/v1/jobs/{NOBODYS.upper()}{path}"),
        ]
        problems = [answer.json for answer in answers]
        assert len({problem.pop("support_id") for problem in problems}) == 4
        assert [answer.status for answer in answers] == [404] * 4
        assert problems == [problems[0]] * 4
        assert problems[0]["detail"] == "there is no such job"

    @pytest.mark.parametrize("verb", ["retry", "cancel"])
    async def test_nobody_asks_for_anothers_job(self, desk: GatewayDesk, verb: str) -> None:
        job_id = await uploaded(desk)
        answer = await desk.post(f"/api/v1/jobs/{job_id}/{verb}", tenant="globex")
        assert (answer.status, answer.json["code"]) == (404, "not_found")
        assert desk.said() == []


class TestManyJobs:
    async def test_pages_go_from_the_newest_to_the_oldest(self, desk: GatewayDesk) -> None:
        ids = [await uploaded(desk, b"document %d" % number) for number in range(5)]
        await desk.upload(b"another tenant's", tenant="globex")
        first = (await desk.get("/api/v1/jobs?limit=2")).json
        second = (await desk.get(f"/api/v1/jobs?limit=2&before={first['next']}")).json
        third = (await desk.get(f"/api/v1/jobs?limit=2&before={second['next']}")).json
        pages = [[job["job_id"] for job in page["jobs"]] for page in (first, second, third)]
        assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
        assert third["next"] is None
        exact = (await desk.get("/api/v1/jobs?limit=5")).json
        assert (len(exact["jobs"]), exact["next"]) == (5, None)

    async def test_by_state(self, desk: GatewayDesk) -> None:
        ids = [await uploaded(desk, b"document %d" % number) for number in range(3)]
        await desk.fail(ids[1])
        found = (await desk.get("/api/v1/jobs?state=failed_parse")).json["jobs"]
        assert [job["job_id"] for job in found] == [ids[1]]
        assert len((await desk.get("/api/v1/jobs?state=uploaded&limit=1")).json["jobs"]) == 1

    @pytest.mark.parametrize(
        "query",
        [
            "limit=0",
            "limit=201",
            "limit=x",
            "limit=%2B5",
            "limit=",
            "state=lost",
            "state=deleted",
            "before=x",
            "before=~~",
            "order=asc",
        ],
    )
    async def test_bad_parameters(self, desk: GatewayDesk, query: str) -> None:
        answer = await desk.get(f"/api/v1/jobs?{query}")
        assert (answer.status, answer.json["code"]) == (400, "invalid_request")


class TestAsking:
    async def test_cancel_is_an_event(self, desk: GatewayDesk) -> None:
        job_id = await uploaded(desk)
        answer = await desk.post(f"/api/v1/jobs/{job_id}/cancel")
        assert (answer.status, answer.json["asked"], answer.json["state"]) == (
            202,
            "cancel",
            "uploaded",
        )
        assert desk.said() == [CancelRequested(job_id, "acme", 1)]
        assert (await desk.job(job_id)).state == "uploaded"
        await desk.happen(CancelRequested(job_id, "acme", 1))
        again = await desk.post(f"/api/v1/jobs/{job_id}/cancel")
        assert (again.status, again.json["code"]) == (409, "conflict")
        assert again.json["state"] == "cancelled"

    async def test_retry_is_an_event_of_the_jobs_attempt(self, desk: GatewayDesk) -> None:
        job_id = await uploaded(desk)
        await desk.fail(job_id)
        await desk.happen(RetryRequested(job_id, "acme", 1))
        await desk.fail(job_id)
        desk.said()
        answer = await desk.post(f"/api/v1/jobs/{job_id}/retry")
        assert (answer.status, answer.json["asked"]) == (202, "retry")
        assert (answer.json["state"], answer.json["attempt"]) == ("failed_parse", 2)
        assert desk.said() == [RetryRequested(job_id, "acme", 2)]

    @pytest.mark.parametrize("state", ["uploaded", "retry_wait", "complete"])
    async def test_no_retry_of_what_has_not_failed(self, desk: GatewayDesk, state: str) -> None:
        job_id = await uploaded(desk)
        if state == "retry_wait":
            await desk.happen(ParseDeferred(job_id, "acme", 1, "shutdown"))
        if state == "complete":
            await desk.complete(job_id)
        desk.said()
        answer = await desk.post(f"/api/v1/jobs/{job_id}/retry")
        assert (answer.status, answer.json["code"], answer.json["state"]) == (
            409,
            "conflict",
            state,
        )
        assert desk.said() == []

    async def test_no_retry_without_the_source(self, desk: GatewayDesk) -> None:
        job_id = await uploaded(desk)
        await desk.fail(job_id)
        desk.said()
        (desk.folder / f"acme/{job_id}.source").unlink()
        answer = await desk.post(f"/api/v1/jobs/{job_id}/retry")
        assert (answer.status, answer.json["code"]) == (409, "source_missing")
        assert desk.said() == []

    async def test_the_trace_goes_along(self, desk: GatewayDesk) -> None:
        job_id = await uploaded(desk)
        trace = "00-" + "c" * 32 + "-" + "d" * 16 + "-01"
        await desk.post(f"/api/v1/jobs/{job_id}/cancel", headers={"traceparent": trace})
        (row,) = desk.announced
        event = decode_row(row)
        assert event.traceparent is not None
        assert event.traceparent.startswith("00-" + "c" * 32)
