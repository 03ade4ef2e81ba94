"""A document's way through real processes: HTTP in, topics across, results out."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.fleet import Client, Fleet, open_fleet
from tests.pdfs import text_pdf
from tests.processes import until
from tests.topics import Seen, read_topic

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

SAMPLES = Path(__file__).parent.parent.parent / "samples"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
FINISHED = ("complete", "failed_parse", "cancelled")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("embedded", marks=pytest.mark.embedded),
        pytest.param("kafka", marks=pytest.mark.kafka),
    ],
)
def servers(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_bootstrap"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(servers: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    # The folder's name is this module's own on the broker that all tests share.
    prefix = f"test-{folder.parent.name}-{folder.name}-{servers.rpartition(':')[2]}."
    async with open_fleet(folder, servers, prefix) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(fleet: Fleet) -> Client:
    return await fleet.client()


async def finished(client: Client, content: bytes, name: str, **more: Any) -> Any:
    answer = await client.upload(content, name, **more)
    assert answer.status == 202, answer.content
    return await client.reaches(answer.json["job_id"], *FINISHED)


def moves(history: list[Any]) -> list[tuple[str | None, str | None]]:
    return [(line["from_state"], line["to_state"]) for line in history]


class TestSamples:
    async def test_a_report_is_parsed_and_given_in_three_formats(self, client: Client) -> None:
        job = await finished(client, (SAMPLES / "report.pdf").read_bytes(), "report.pdf")
        assert (job["state"], job["parser"], job["pages"]) == ("complete", "liteparse", 3)
        assert (job["media_type"], job["attempt"]) == ("application/pdf", 1)
        assert (job["warnings"], job["error"]) == ([], None)
        markdown = (await client.result(job["job_id"], ".md")).content.decode()
        text = (await client.result(job["job_id"], ".txt")).content.decode()
        assert markdown.startswith("<!-- page 1 -->\n\n# Harbour Water Report\n")
        assert "- Salinity, in grams of salt per kilogram of water\n" in markdown
        assert text.startswith("Harbour Water Report\n")
        assert text.count("\f") == 2
        json = (await client.result(job["job_id"], ".json")).json
        assert [page["number"] for page in json["pages"]] == [1, 2, 3]
        assert "Two surprises" in json["pages"][1]["text"]
        assert moves(await client.history(job["job_id"])) == [
            (None, "uploaded"),
            ("uploaded", "parsing"),
            ("parsing", "parsed"),
            ("parsed", "complete"),
        ]

    async def test_a_half_scanned_document_is_complete_with_a_warning(self, client: Client) -> None:
        job = await finished(client, (SAMPLES / "mixed.pdf").read_bytes(), "mixed.pdf")
        assert (job["state"], job["pages"]) == ("complete", 3)
        assert job["warnings"] == ["page_has_no_text:2"]
        json = (await client.result(job["job_id"], ".json")).json
        assert json["pages"][1]["text"].strip() == ""
        assert "Page three was typed again" in json["pages"][2]["text"]

    async def test_wanted_pages_come_alone(self, client: Client) -> None:
        content = (SAMPLES / "report.pdf").read_bytes()
        query = {"target_pages": "2-3,9", "max_pages": "3"}
        job = await finished(client, content, "some.pdf", params=query)
        assert (job["state"], job["pages"]) == ("complete", 2)
        assert job["warnings"] == ["page_missing:9"]
        assert job["options"] == {"target_pages": "2-3,9", "max_pages": 3}
        json = (await client.result(job["job_id"], ".json")).json
        assert [page["number"] for page in json["pages"]] == [2, 3]
        markdown = (await client.result(job["job_id"], ".md")).content.decode()
        assert markdown.startswith("<!-- page 2 -->\n\n# What It Means\n")

    async def test_no_wanted_page_is_there(self, client: Client) -> None:
        content = (SAMPLES / "report.pdf").read_bytes()
        job = await finished(client, content, "none.pdf", params={"target_pages": "8"})
        assert (job["state"], job["attempt"]) == ("failed_parse", 1)
        assert job["error"]["code"] == "invalid_request"
        assert job["error"]["message"] == "target_pages is 8, the document's last page is 3"

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("scan.pdf", "document_has_no_text"),
            ("encrypted.pdf", "document_encrypted"),
            ("broken.pdf", "document_broken"),
            ("latin1.txt", "document_not_utf8"),
        ],
    )
    async def test_a_bad_document_ends_in_its_own_code(
        self, client: Client, name: str, code: str
    ) -> None:
        job = await finished(client, (SAMPLES / name).read_bytes(), name)
        assert (job["state"], job["error"]["code"]) == ("failed_parse", code)
        assert job["error"]["advice"]
        refused = await client.result(job["job_id"])
        assert (refused.status, refused.json["code"]) == (409, "result_not_ready")
        assert refused.json["error_code"] == code
        last = (await client.history(job["job_id"]))[-1]
        assert (last["type"], last["to_state"], last["code"]) == (
            "ParseFailed",
            "failed_parse",
            code,
        )

    @pytest.mark.parametrize(
        ("name", "media_type", "pages", "line"),
        [
            ("notes.md", "text/markdown", 1, "2. Keep the bytes.\n"),
            ("table.csv", "text/csv", 1, "| South pier | 9,9 | ferry \\| pump |\n"),
            ("letter.txt", "text/plain", 2, "<!-- page 2 -->\n\nPostscript\n"),
        ],
    )
    async def test_text_is_served_by_the_text_parser(
        self, client: Client, name: str, media_type: str, pages: int, line: str
    ) -> None:
        job = await finished(client, (SAMPLES / name).read_bytes(), name)
        assert (job["state"], job["parser"], job["pages"]) == ("complete", "text", pages)
        assert job["media_type"] == media_type
        assert line in (await client.result(job["job_id"])).content.decode()


class TestAgain:
    async def test_the_same_bytes_join_their_job(self, client: Client) -> None:
        content = text_pdf([["# Once"]], "joined")
        first = await finished(client, content, "once.pdf")
        again = await client.upload(content, "twice.pdf")
        assert (again.status, again.json["duplicate"]) == (200, True)
        assert (again.json["job_id"], again.json["state"]) == (first["job_id"], "complete")

    async def test_force_makes_a_new_generation(self, client: Client) -> None:
        content = text_pdf([["# Twice"]], "forced")
        first = await finished(client, content, "a.pdf")
        second = await finished(client, content, "a.pdf", force=True)
        assert second["job_id"] != first["job_id"]
        assert (first["generation"], second["generation"]) == (1, 2)
        assert (first["state"], second["state"]) == ("complete", "complete")
        assert first["document_id"] == second["document_id"]

    async def test_a_failed_job_runs_again_when_asked(self, client: Client) -> None:
        content = (SAMPLES / "broken.pdf").read_bytes() + b"% again"
        failed = await finished(client, content, "broken.pdf")
        asked = await client.ask("POST", f"/api/v1/jobs/{failed['job_id']}/retry")
        assert (asked.status, asked.json["asked"]) == (202, "retry")

        async def failed_again() -> bool:
            job = await client.job(failed["job_id"])
            return bool(job["state"] == "failed_parse" and job["attempt"] == 2)

        await until(failed_again, "the second attempt fails", within_seconds=20)
        assert moves(await client.history(failed["job_id"])) == [
            (None, "uploaded"),
            ("uploaded", "parsing"),
            ("parsing", "failed_parse"),
            ("failed_parse", "uploaded"),
            ("uploaded", "parsing"),
            ("parsing", "failed_parse"),
        ]

    async def test_another_tenant_learns_nothing(self, client: Client, fleet: Fleet) -> None:
        content = text_pdf([["# Secret"]], "between two")
        job = await finished(client, content, "secret.pdf")
        other = await fleet.client("globex")
        for path in ("", "/history", "/result"):
            answer = await other.ask("GET", f"/api/v1/jobs/{job['job_id']}{path}")
            assert (answer.status, answer.json["code"]) == (404, "not_found")
        for verb in ("retry", "cancel"):
            answer = await other.ask("POST", f"/api/v1/jobs/{job['job_id']}/{verb}")
            assert answer.status == 404
        theirs = await finished(other, content, "ours.pdf")
        assert theirs["job_id"] != job["job_id"]
        assert theirs["document_id"] != job["document_id"]
        listed = (await other.ask("GET", "/api/v1/jobs")).json["jobs"]
        assert [one["job_id"] for one in listed] == [theirs["job_id"]]


class TestTopics:
    async def test_the_records_are_what_the_topics_promise(
        self, client: Client, fleet: Fleet, servers: str
    ) -> None:
        content = text_pdf([["# Traced"]], "traced")
        job = await finished(client, content, "traced.pdf", headers={"traceparent": TRACE})
        await fleet.calm(within_seconds=20)
        job_id = job["job_id"]
        uploaded, events, moved = [
            await records_of(servers, fleet.prefix + topic, job_id)
            for topic in ("documents.uploaded", "jobs.events", "jobs.moved")
        ]
        assert [r.type for r in uploaded] == ["com.parsewire.DocumentUploaded"]
        assert {r.type for r in events} == {
            "com.parsewire.ParseStarted",
            "com.parsewire.ParseSucceeded",
        }
        states = {(r.type, orjson.loads(r.value)["to_state"]) for r in moved}
        assert states == {
            ("com.parsewire.JobMoved", state) for state in ("parsing", "parsed", "complete")
        }
        source = orjson.loads(uploaded[0].value)["source"]
        assert source == {
            "key": f"acme/{job_id}/source",
            "sha256": job["sha256"],
            "size_bytes": len(content),
        }
        records = uploaded + events + moved
        for record in records:
            assert record.headers["ce_specversion"] == "1.0"
            assert record.headers["content-type"] == "application/json"
            assert record.headers["ce_source"].startswith("/parsewire/")
            assert record.headers["ce_time"].endswith("+00:00")
            assert orjson.loads(record.value)["job_id"] == job_id
            assert b"Traced" not in record.value
        assert len({record.headers["ce_id"] for record in records}) == 6
        assert len({record.partition for record in records}) == 1
        # The gateway's own span in the sender's trace, said by every record after it.
        (trace,) = {record.headers["traceparent"] for record in records}
        assert (trace[:36], trace[-3:]) == (f"00-{TRACE_ID}-", "-01")


async def records_of(servers: str, topic: str, job_id: str) -> list[Seen]:
    """Read the records of one job, each once: what is sent again is the same event."""
    seen = {r.headers["ce_id"]: r for r in await read_topic(servers, topic) if r.key == job_id}
    return list(seen.values())


@pytest.mark.asyncio(loop_scope="function")
async def test_a_running_job_is_cancelled(servers: str, tmp_path: Path, topic_prefix: str) -> None:
    opened = open_fleet(tmp_path, servers, topic_prefix, mode="mock", mock_latency_seconds=60)
    async with opened as fleet:
        client = await fleet.client()
        uploaded = await client.upload(b"some text", "slow.txt")
        job_id = uploaded.json["job_id"]
        await client.reaches(job_id, "parsing")
        asked = await client.ask("POST", f"/api/v1/jobs/{job_id}/cancel")
        assert (asked.status, asked.json["asked"]) == (202, "cancel")
        await client.reaches(job_id, "cancelled")

        async def thrown_away() -> bool:
            return b"lease_lost" in fleet.workers[0].log.read_bytes()

        # A worker learns of a cancel by its failed renewal.
        await until(thrown_away, "the worker lets go of it", within_seconds=10)
        await fleet.calm(within_seconds=15)
        assert await fleet.blob_keys() == [f"acme/{job_id}/source"]
        assert moves(await client.history(job_id))[-1] == ("parsing", "cancelled")
        refused = await client.ask("POST", f"/api/v1/jobs/{job_id}/cancel")
        assert (refused.status, refused.json["code"]) == (409, "conflict")
