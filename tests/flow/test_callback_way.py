"""A document's way through a self-hosted parser: real processes, a real broker, a double there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streams.parsers.llamaparse_wire import open_session
from tests.doubles.callback_service import (
    SECRET,
    CallbackService,
    artifact,
    open_callback_service,
    signed,
)
from tests.fleet import Client, Fleet, open_fleet
from tests.pdfs import text_pdf
from tests.processes import until

pytestmark = [pytest.mark.processes, pytest.mark.kafka]

WAIT_SECONDS = 40
MARKDOWN = "<!-- page 1 -->\n\n# One\n\n<!-- page 2 -->\n\n# Two\n"


@asynccontextmanager
async def open_hosted_fleet(
    folder: Path, servers: str, prefix: str, service: CallbackService, **settings: object
) -> AsyncIterator[Fleet]:
    given = {
        "mode": "real",
        "remote_parser": "callback",
        "callback_parser_url": service.url,
        "callback_parser_secret": SECRET,
    }
    # The address is known when the fleet is, and the gateway's own start asks for it.
    first = {"webhook_url": "http://127.0.0.1:1"}
    opened = open_fleet(folder, servers, prefix, workers=0, **(given | first | settings))
    async with opened as fleet:
        await fleet.add_worker(webhook_url=fleet.url)
        yield fleet


async def upload(client: Client, word: str) -> str:
    answer = await client.upload(text_pdf([[word], ["two"]], "unique"), "a.pdf")
    return str(answer.json["job_id"])


async def settled(fleet: Fleet) -> bool:
    return not fleet.sql("SELECT 1 FROM timers")


def dead_letters(fleet: Fleet) -> list[Any]:
    return fleet.sql("SELECT code FROM dead_letters")


async def test_a_signed_post_goes_out_and_a_signed_result_comes_back(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with (
        open_callback_service() as service,
        open_hosted_fleet(tmp_path, kafka_bootstrap, topic_prefix, service) as fleet,
    ):
        client = await fleet.client()
        pdf = text_pdf([["one"], ["two"]], "unique")
        job_id = str((await client.upload(pdf, "a.pdf")).json["job_id"])
        order = await service.order()
        assert service.files == [pdf]
        assert (order["job_id"], order["correlation_id"]) == (job_id, "1")
        assert order["callback_url"] == f"{fleet.url}/api/v1/webhooks/artifacts"
        job = await client.reaches(job_id, "parse_queued", within_seconds=WAIT_SECONDS)
        assert job["parser"] == "callback"

        assert await service.tell(order, "parsed", secret="not the secret") == 401
        body = b'{"job_id": "%s", "status": "parsed"}' % job_id.encode()
        async with open_session() as session:
            headers = signed(body) | {"X-Webhook-Signature": "sha256=" + "0" * 64}
            async with session.post(order["callback_url"], data=body, headers=headers) as got:
                assert got.status == 401
        assert (await client.job(job_id))["state"] == "parse_queued"

        assert await service.tell(order, "processing") == 202
        artifacts = [artifact("markdown", MARKDOWN), artifact("text", "One\fTwo")]
        assert await service.tell(order, "parsed", artifacts=artifacts) == 202
        job = await client.reaches(job_id, "complete", "failed_parse", within_seconds=WAIT_SECONDS)
        assert (job["state"], job["parser"], job["pages"]) == ("complete", "callback", 2)
        assert (await client.result(job_id, ".txt")).content == b"One\n\fTwo\n"
        found = (await client.result(job_id, ".json")).json
        assert found["parser_version"] == "inkling 2.1"

        # Told once more, and told otherwise: the end is the end.
        assert await service.tell(order, "parsed", artifacts=artifacts) == 202
        assert await service.tell(order, "failed", error="too late") == 202
        await until(lambda: settled(fleet), "nothing is left to do", within_seconds=WAIT_SECONDS)
        assert fleet.sql("SELECT vendor_job_id, outcome, credits FROM vendor_jobs") == [
            (f"{job_id}.1.p-1", "billed", 0.0)
        ]
        assert (len(service.orders), dead_letters(fleet)) == (1, [])


async def test_a_result_with_another_hash_fails_by_its_own_code(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with (
        open_callback_service() as service,
        open_hosted_fleet(tmp_path, kafka_bootstrap, topic_prefix, service) as fleet,
    ):
        client = await fleet.client()
        job_id = await upload(client, "one")
        order = await service.order()
        wrong = [artifact("markdown", "# One", sha256="0" * 64)]
        assert await service.tell(order, "parsed", artifacts=wrong) == 202
        job = await client.reaches(job_id, "failed_parse", within_seconds=WAIT_SECONDS)
        assert job["error"]["code"] == "artifact_unusable"
        # A person asks again, the first attempt's result comes late, the second's in time.
        await client.ask("POST", f"/api/v1/jobs/{job_id}/retry")
        second = await service.order(2)
        assert second["correlation_id"] == "2"
        late, good = artifact("markdown", "# Late"), artifact("markdown", "# Good")
        assert await service.tell(order, "parsed", artifacts=[late]) == 202
        assert await service.tell(second, "parsed", artifacts=[good]) == 202
        job = await client.reaches(job_id, "complete", within_seconds=WAIT_SECONDS)
        assert (await client.result(job_id, ".txt")).content == b"# Good\n"
        assert job["attempt"] == 2


async def test_a_result_too_large_for_a_record_arrives(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with (
        open_callback_service() as service,
        open_hosted_fleet(tmp_path, kafka_bootstrap, topic_prefix, service) as fleet,
    ):
        client = await fleet.client()
        job_id = await upload(client, "one")
        order = await service.order()
        long = "\f".join(f"page {number} " + "word " * 2000 for number in range(300))
        assert await service.tell(order, "parsed", artifacts=[artifact("text", long)]) == 202
        job = await client.reaches(job_id, "complete", within_seconds=WAIT_SECONDS)
        assert job["pages"] == 300
        assert any(key.startswith("webhooks/") for key in await fleet.blob_keys())
        result = (await client.result(job_id, ".txt")).content
        assert result.startswith(b"page 0 word word")
        assert len(result) > 3_000_000


async def test_a_result_faster_than_the_answer_to_our_call_stays(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with (
        open_callback_service() as service,
        open_hosted_fleet(
            tmp_path, kafka_bootstrap, topic_prefix, service, lease_seconds=20
        ) as fleet,
    ):
        service.silent.clear()
        client = await fleet.client()
        job_id = await upload(client, "one")
        order = await service.order()
        assert (
            await service.tell(
                order, "parsed", artifacts=[artifact("markdown", "# Early")], parse_job_id=None
            )
            == 202
        )
        await client.reaches(job_id, "complete", within_seconds=WAIT_SECONDS)
        service.silent.set()

        async def both_settled() -> bool:
            rows = fleet.sql("SELECT outcome, credits FROM vendor_jobs ORDER BY outcome")
            once = [("billed", 0.0), ("unbilled", None)]
            return rows == once and await settled(fleet)

        await until(both_settled, "both names of the job settled", within_seconds=WAIT_SECONDS)
        assert (await client.result(job_id, ".txt")).content == b"# Early\n"


async def test_an_answer_that_was_lost_is_made_good_by_the_result(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with (
        open_callback_service() as service,
        open_hosted_fleet(tmp_path, kafka_bootstrap, topic_prefix, service) as fleet,
    ):
        service.cut = True
        client = await fleet.client()
        job_id = await upload(client, "one")
        order = await service.order()
        assert await service.tell(order, "processing") == 202
        await client.reaches(job_id, "parse_queued", within_seconds=WAIT_SECONDS)
        good = [artifact("markdown", "# Good")]
        assert await service.tell(order, "parsed", artifacts=good) == 202
        job = await client.reaches(job_id, "complete", within_seconds=WAIT_SECONDS)
        assert (job["attempt"], len(service.orders)) == (1, 1)


async def test_a_service_that_never_calls_back_gets_another_attempt(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with (
        open_callback_service() as service,
        open_hosted_fleet(
            tmp_path,
            kafka_bootstrap,
            topic_prefix,
            service,
            llamaparse_job_seconds=1,
            llamaparse_poll_seconds=0.5,
        ) as fleet,
    ):
        client = await fleet.client()
        job_id = await upload(client, "one")
        second = await service.order(2)
        assert (second["job_id"], second["correlation_id"]) == (job_id, "2")
        assert ("ParseFailed", "vendor_stuck") in [
            (line["type"], line["code"]) for line in await client.history(job_id)
        ]


async def test_in_hybrid_this_machine_serves_while_the_service_is_down(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with open_callback_service() as service:
        pass
    async with open_hosted_fleet(
        tmp_path, kafka_bootstrap, topic_prefix, service, mode="hybrid"
    ) as fleet:
        client = await fleet.client()
        job_id = await upload(client, "one")
        job = await client.reaches(job_id, "complete", within_seconds=WAIT_SECONDS)
        assert (job["parser"], job["attempt"]) == ("liteparse", 1)
