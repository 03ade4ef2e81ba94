"""The intake: what is accepted, what is refused and in which words, and what is left behind."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from schemas.errors import Code, PermanentError
from schemas.events import DocumentUploaded, ParseOptions
from schemas.money import Policy
from schemas.submission_events import DocumentAccepted, DocumentRefused
from streams.budgets import freeze
from streams.janitor import Janitor
from streams.settings import Defaults
from streams.token_bucket import Rate
from tests.intake_desk import NAMES_ONE, IntakeDesk, open_intake_desk, sha_of
from tests.pdfs import text_pdf

TEXT = b"some text"
TEXT_SHA = "b94f6f125c79e3a5ffaa826f584c10d52ada669e6762051b826b55776d05aed2"
TEXT_DOCUMENT = "259d1879-bd55-598a-a072-94c1c37a6681"
REAL = Defaults(mode="real", rates={"llamaparse": Rate(20.0, 10)})


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[IntakeDesk]:
    async with open_intake_desk(tmp_path) as opened:
        yield opened


async def put(desk: IntakeDesk, key: str = "submitted/acme/a-1", content: bytes = TEXT) -> str:
    return (await desk.blobs.put(key, content)).key


class TestAccepted:
    async def test_a_document_becomes_a_job(self, desk: IntakeDesk) -> None:
        trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
        answer = await desk.send(
            TEXT,
            {"pw-reference": "invoice 7", "pw-name": "x/a.md", "traceparent": trace}
            | {"pw-max-pages": "3", "pw-target_pages": "2,1"},
        )
        assert isinstance(answer, DocumentAccepted)
        (offer,) = desk.uploaded()
        job = await desk.desk.job(answer.job_id)
        assert answer == DocumentAccepted(
            "s-1", "acme", job.id, TEXT_DOCUMENT, False, "uploaded", "invoice 7"
        )
        assert (offer.job_id, offer.attempt, offer.name) == (job.id, 1, "a.md")
        assert (job.tenant, job.media_type, job.name) == ("acme", "text/markdown", "a.md")
        assert job.options == ParseOptions(max_pages=3, target_pages="1-2")
        assert (job.reference, job.source.sha256) == ("invoice 7", TEXT_SHA)
        assert (job.traceparent or "")[:36] == trace[:36]
        assert desk.files() == [f"acme/{job.id}.source"]
        assert await desk.blobs.read(job.source) == TEXT
        assert await desk.desk.untimed() == 0

    async def test_the_answer_goes_back_under_the_submissions_own_key(
        self, desk: IntakeDesk
    ) -> None:
        for number, key in enumerate((b"\xff\x00", b"", None)):
            await desk.submit(desk.record(headers={"ce_id": f"s-{number}"}, key=key))
        rows = await desk.desk.tables.write(
            lambda tx: tx.all("outbox.take_due", takeover_ms=0, most=99)
        )
        assert rows == []
        desk.desk.clock.pass_ms(5_000)
        rows = await desk.desk.tables.write(
            lambda tx: tx.all("outbox.take_due", takeover_ms=0, most=99)
        )
        keys = [(row["raw_key"], row["key"]) for row in rows if "answered" in row["topic"]]
        assert sorted(keys, key=lambda pair: pair[1]) == [
            (b"\xff\x00", "s-0"),
            (b"", "s-1"),
            (None, "s-2"),
        ]

    async def test_a_pdf_is_known_by_its_bytes(self, desk: IntakeDesk) -> None:
        answer = await desk.send(
            text_pdf([["one"]], "unique"), {"content-type": "application/octet-stream"}
        )
        assert isinstance(answer, DocumentAccepted)
        assert (await desk.desk.job(answer.job_id)).media_type == "application/pdf"

    async def test_the_only_tenant_of_a_topic_need_not_be_named(self, desk: IntakeDesk) -> None:
        answer = await desk.send(headers={"pw-tenant": ""}, topic="theirs")
        assert isinstance(answer, DocumentAccepted)
        assert answer.tenant == "team-a"
        answer = await desk.send(headers={"pw-tenant": "anybody"}, topic="ours")
        assert isinstance(answer, DocumentAccepted)
        assert answer.tenant == "anybody"

    async def test_known_bytes_join_their_job(self, desk: IntakeDesk) -> None:
        first = await desk.send()
        again = await desk.send(headers={"ce_id": "s-2", "pw-reference": "mine"})
        assert isinstance(first, DocumentAccepted)
        assert again == DocumentAccepted(
            "s-2", "acme", first.job_id, TEXT_DOCUMENT, True, "uploaded", "mine"
        )
        assert desk.files() == [f"acme/{first.job_id}.source"]
        forced = await desk.send(headers={"ce_id": "s-3", "pw-force": "true"})
        assert isinstance(forced, DocumentAccepted)
        assert (forced.duplicate, forced.job_id == first.job_id) == (False, False)
        other = await desk.send(headers={"ce_id": "s-4", "pw-tenant": "globex"})
        assert isinstance(other, DocumentAccepted)
        assert not other.duplicate
        assert len(desk.files()) == 3

    async def test_a_blob_is_copied_and_removed(self, desk: IntakeDesk) -> None:
        content = b"words " * 70_000
        key = await put(desk, content=content)
        answer = await desk.name(
            blob=key, sha256=sha_of(content), size_bytes=420_000, media_type="text/csv"
        )
        assert isinstance(answer, DocumentAccepted)
        job = await desk.desk.job(answer.job_id)
        assert desk.files() == [f"acme/{job.id}.source"]
        assert await desk.blobs.read(job.source) == content
        assert job.media_type == "text/csv"

    async def test_a_blob_that_its_producer_has_put_as_a_file(self, desk: IntakeDesk) -> None:
        folder = desk.folder / "submitted"
        folder.mkdir(parents=True)
        (folder / "acme.a-1").write_bytes(TEXT)
        assert isinstance(await desk.name(blob="submitted/acme/a-1"), DocumentAccepted)

    async def test_an_address_is_fetched(self, desk: IntakeDesk) -> None:
        desk.fetch.there["https://a.example/b"] = (TEXT, "text/csv; charset=utf-8")
        answer = await desk.name(url="https://a.example/b")
        assert isinstance(answer, DocumentAccepted)
        assert (await desk.desk.job(answer.job_id)).media_type == "text/csv"
        assert desk.fetch.asked == [("https://a.example/b", 9, TEXT_SHA)]
        # What the producer says of the type is nearer to the document than a server's guess.
        answer = await desk.name(
            {"ce_id": "s-2", "pw-force": "1"}, url="https://a.example/b", media_type="text/markdown"
        )
        assert isinstance(answer, DocumentAccepted)
        assert (await desk.desk.job(answer.job_id)).media_type == "text/markdown"


class TestRefused:
    @pytest.mark.parametrize(
        ("value", "headers", "code", "message"),
        [
            (b"", {}, "document_empty", "the document has no bytes"),
            (None, {}, "document_empty", "the document has no bytes"),
            (
                b"\x89PNG\r\n\x1a\n",
                {},
                "unsupported_media_type",
                (
                    "the bytes are a PNG image; accepted are: application/pdf, text/plain, "
                    "text/markdown, text/csv"
                ),
            ),
            (
                b"{}",
                {"content-type": "application/cloudevents+json"},
                "unsupported_media_type",
                (
                    "'application/cloudevents+json' was declared; accepted are: application/pdf, "
                    "text/plain, text/markdown, text/csv"
                ),
            ),
            (
                TEXT,
                {"pw-colour": "red"},
                "invalid_request",
                (
                    "there is no option 'colour'; known are: max_pages, target_pages, mode, tier, "
                    "languages, prompt, disable_cache, force, name"
                ),
            ),
            (
                TEXT,
                {"pw-max-pages": "2", "pw-max_pages": "2"},
                "invalid_request",
                "the option max_pages is given twice",
            ),
            (
                TEXT,
                {"pw-max-pages": "none"},
                "invalid_request",
                "max_pages must be a whole number from 1 to 1000000",
            ),
            (TEXT, {"pw-force": "perhaps"}, "invalid_request", "force must be true or false"),
            (
                TEXT,
                {"pw-mode": "mock"},
                "forbidden",
                (
                    "the tenant acme may not choose a job's mode: leave it out, or ask "
                    "the operator (PARSEWIRE_TENANT_MODES)"
                ),
            ),
            (
                TEXT,
                {"pw-tier": "agentic"},
                "option_not_served",
                (
                    "only LlamaParse can do what these ask: tier; this job would be parsed in mode "
                    "local: leave them out"
                ),
            ),
            (
                b"x" * 500_001,
                {},
                "too_large",
                "a document may have 500000 bytes, unpacked",
            ),
            (
                b"x" * 900_001,
                {},
                "too_large",
                (
                    "a record may have 900000 bytes, and this one has 900037: put a larger "
                    "document into a blob or behind an address, and name that (DocumentSubmitted)"
                ),
            ),
            (
                b"{}",
                NAMES_ONE,
                "invalid_request",
                "DocumentSubmitted: Object missing required field `sha256`",
            ),
        ],
    )
    async def test_in_the_words_of_http(
        self,
        desk: IntakeDesk,
        value: bytes | None,
        headers: dict[str, str],
        code: str,
        message: str,
    ) -> None:
        answer = await desk.send(value, {"pw-reference": "r"} | headers)
        assert answer == DocumentRefused("s-1", "acme", code, message, "r")
        assert (desk.files(), await desk.jobs()) == ([], 0)

    @pytest.mark.parametrize(
        ("headers", "tenant", "message"),
        [
            (
                {"pw-tenant": ""},
                None,
                "a record of documents.submitted must say whose it is: pw-tenant, or tenant",
            ),
            (
                {"pw-tenant": "team-a"},
                None,
                (
                    "documents.submitted may not speak for the tenant team-a: ask the operator "
                    "(PARSEWIRE_INTAKE)"
                ),
            ),
        ],
    )
    async def test_for_whom_the_topic_may_not_speak(
        self, desk: IntakeDesk, headers: dict[str, str], tenant: str | None, message: str
    ) -> None:
        answer = await desk.send(headers={"pw-reference": "r"} | headers)
        assert answer == DocumentRefused("s-1", tenant, "forbidden", message, "r")
        assert (desk.files(), await desk.jobs()) == ([], 0)

    async def test_a_record_without_an_id_by_an_id_of_its_place(self, desk: IntakeDesk) -> None:
        record = desk.record(headers={"ce_id": ""})
        message = "a record needs a ce_id of 1 to 255 printable characters"
        for _ in range(2):
            answer = await desk.submit(record)
            assert answer == DocumentRefused("", "acme", "invalid_request", message)
        rows = await desk.desk.rows("outbox.depth")
        assert rows[0]["events"] == 1
        await desk.submit(desk.record(headers={"ce_id": ""}))
        rows = await desk.desk.rows("outbox.depth")
        assert rows[0]["events"] == 2

    async def test_nobody_answers_in_anothers_name(self, desk: IntakeDesk) -> None:
        """What another's topic says of the tenant's ids takes none of them."""
        refused = await desk.send(headers={"ce_id": "s-9", "pw-tenant": "globex"}, topic="theirs")
        assert isinstance(refused, DocumentRefused)
        accepted = await desk.send(headers={"ce_id": "s-9", "pw-tenant": "globex"})
        assert isinstance(accepted, DocumentAccepted)
        refused = await desk.send(headers={"ce_id": "s-9", "pw-tenant": "globex"}, topic="theirs")
        assert isinstance(refused, DocumentRefused)

    @pytest.mark.parametrize(
        "headers", [{"ce_id": "s-9"}, {"ce_id": ""}, {"ce_id": "s-9", "pw-force": b"\xff"}]
    )
    async def test_no_refusal_speaks_for_a_tenant_that_its_topic_may_not_speak_for(
        self, desk: IntakeDesk, headers: dict[str, str | bytes]
    ) -> None:
        """Whose ids are known could be told that their documents are refused."""
        said = {"pw-tenant": "globex"} | headers
        answer = await desk.send(headers=said, topic="theirs")
        assert isinstance(answer, DocumentRefused)
        assert answer.tenant is None

    @pytest.mark.parametrize(
        "key",
        [
            "submitted/globex/a-1",
            "submitted/acme/source",
            "submitted/acme/a/b",
            "submitted/acme/",
            "submitted/acme/../globex/a-1",
            "submitted/acme/A",
            "acme/0190a0b0-0000-7000-8000-000000000000/source",
            "webhooks/0190a0b0-0000-7000-8000-000000000000",
            "",
        ],
    )
    async def test_a_blob_that_is_not_the_tenants(self, desk: IntakeDesk, key: str) -> None:
        await put(desk, "submitted/globex/a-1")
        answer = await desk.name(blob=key)
        assert isinstance(answer, DocumentRefused)
        assert answer.code == "source_not_found"
        assert answer.message.endswith(
            "is no blob of yours: submitted/acme/<name>, the name of a-z, 0-9, '-' and '_'"
        )
        assert desk.files() == ["submitted/globex.a-1"]

    @pytest.mark.parametrize(
        ("body", "code", "message"),
        [
            ({"blob": "submitted/acme/b"}, "source_not_found", "no blob submitted/acme/b"),
            ({"size_bytes": 8}, "source_mismatch", "submitted/acme/a-1 has another size or sha256"),
            (
                {"sha256": "0" * 64},
                "source_mismatch",
                "submitted/acme/a-1 has another size or sha256",
            ),
            ({"size_bytes": 500_001}, "too_large", "a document may have 500000 bytes, unpacked"),
            ({"media_type": "image/png"}, "unsupported_media_type", "'image/png' was declared"),
        ],
    )
    async def test_a_blob_that_is_not_what_was_said(
        self, desk: IntakeDesk, body: dict[str, Any], code: str, message: str
    ) -> None:
        answer = await desk.name(**{"blob": await put(desk)} | body)
        assert isinstance(answer, DocumentRefused)
        assert answer.code == code
        assert message in answer.message
        assert (desk.files(), await desk.jobs()) == (["submitted/acme.a-1"], 0)

    async def test_a_blob_that_is_no_file(self, desk: IntakeDesk) -> None:
        """Trouble that the producer has made does not hold up everybody's documents."""
        (desk.folder / "submitted" / "acme.a-1").mkdir(parents=True)
        answer = await desk.name(blob="submitted/acme/a-1")
        assert answer == DocumentRefused(
            "s-1", "acme", "source_not_found", "submitted/acme/a-1 cannot be read: Is a directory"
        )

    async def test_a_link_to_another_tenants_result(self, desk: IntakeDesk) -> None:
        """Its sha256 stands in jobs.moved for all to read."""
        await desk.blobs.put("globex/j/1/result", b"some text")
        link = desk.folder / "submitted" / "acme.a-1"
        link.parent.mkdir()
        link.symlink_to("../globex/j.1.result")
        answer = await desk.name(blob="submitted/acme/a-1")
        assert isinstance(answer, DocumentRefused)
        assert answer.code == "source_not_found"
        assert answer.message.startswith("submitted/acme/a-1 cannot be read: Too many levels of")
        assert await desk.jobs() == 0

    @pytest.mark.parametrize(
        ("kind", "code"), [("pipe", "source_mismatch"), ("socket", "source_not_found")]
    )
    async def test_what_never_gives_a_byte_is_not_waited_for(
        self, desk: IntakeDesk, kind: str, code: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = desk.folder / "submitted"
        folder.mkdir(parents=True)
        if kind == "pipe":
            os.mkfifo(folder / "acme.a-1")
        else:
            # A socket's path is short, whatever the folder's is.
            monkeypatch.chdir(folder)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind("acme.a-1")
        async with asyncio.timeout(20):
            answer = await desk.name(blob="submitted/acme/a-1")
        assert isinstance(answer, DocumentRefused)
        assert answer.code == code

    async def test_a_name_that_no_file_can_have(self, desk: IntakeDesk) -> None:
        tenant, name = "t" * 63, "a" * 200
        await put(desk)
        body = {"blob": f"submitted/{tenant}/{name}", "tenant": tenant}
        headers = NAMES_ONE | {"pw-tenant": tenant}
        value = orjson.dumps({"size_bytes": 9, "sha256": sha_of(b"some text")} | body)
        answer = await desk.send(value, headers, topic="ours")
        assert isinstance(answer, DocumentRefused)
        assert answer.code == "source_not_found"
        assert answer.message.endswith("cannot be read: File name too long")

    @pytest.mark.parametrize("code", [Code.URL_REDIRECTED, Code.SOURCE_MISMATCH, Code.URL_TOO_SLOW])
    async def test_an_address_that_gives_nothing(self, desk: IntakeDesk, code: Code) -> None:
        desk.fetch.failures["https://a.example/b"] = PermanentError(code, "so it is")
        answer = await desk.name(url="https://a.example/b")
        assert answer == DocumentRefused("s-1", "acme", code.value, "so it is")
        assert (desk.files(), await desk.jobs()) == ([], 0)

    async def test_an_address_that_is_said_to_be_too_large_is_not_asked(
        self, desk: IntakeDesk
    ) -> None:
        answer = await desk.name(url="https://a.example/b", size_bytes=500_001)
        assert isinstance(answer, DocumentRefused)
        assert (answer.code, desk.fetch.asked) == ("too_large", [])

    async def test_what_nobody_may_pay_for(self, tmp_path: Path) -> None:
        async with open_intake_desk(tmp_path, defaults=REAL) as desk:
            await desk.desk.tables.write(lambda tx: freeze(tx, Policy.REJECT, "ann@host"))
            pdf = text_pdf([["one"]], "unique")
            answer = await desk.send(pdf)
            assert isinstance(answer, DocumentRefused)
            assert answer.code == "spending_frozen"
            assert (desk.files(), await desk.jobs()) == ([], 0)
            assert isinstance(await desk.send(TEXT, {"ce_id": "s-2"}), DocumentAccepted)


async def test_what_was_taken_or_left_behind_is_counted_and_cleaned(desk: IntakeDesk) -> None:
    await put(desk)
    accepted = await desk.name(blob="submitted/acme/a-1")
    await put(desk, "submitted/acme/b-1")
    assert isinstance(accepted, DocumentAccepted)
    janitor = Janitor(desk.desk.tables, desk.blobs, orphan_seconds=3600.0)
    assert await janitor.remove_orphans() == 0
    janitor = Janitor(desk.desk.tables, desk.blobs, orphan_seconds=0.0)
    assert await janitor.remove_orphans() == 1
    assert desk.files() == [f"acme/{accepted.job_id}.source"]
    await desk.send(headers={"ce_id": "s-2"})
    await desk.send(headers={"ce_id": "s-2"})
    await desk.send(b"", headers={"ce_id": "s-3"})
    value = desk.desk.recorder.registry.get_sample_value
    counted = {
        outcome: value("parsewire_submissions_total", {"outcome": outcome})
        for outcome in ("accepted", "duplicate", "again", "document_empty")
    }
    assert counted == {"accepted": 1.0, "duplicate": 1.0, "again": 1.0, "document_empty": 1.0}
    assert value("parsewire_upload_bytes_total") == 9.0


async def test_an_offer_is_what_a_worker_needs(desk: IntakeDesk) -> None:
    answer = await desk.send()
    assert isinstance(answer, DocumentAccepted)
    (offer,) = desk.uploaded()
    assert isinstance(offer, DocumentUploaded)
    assert offer.source.key == f"acme/{answer.job_id}/source"
