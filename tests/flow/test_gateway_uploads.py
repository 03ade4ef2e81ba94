"""Uploads over real HTTP: what is taken, what is refused, and that refusals leave nothing."""

import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from schemas.events import CancelRequested, DocumentUploaded, ParseOptions, RetryRequested
from tests.gateway_desk import UPLOAD, Answer, GatewayDesk, limits_of, open_gateway

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[GatewayDesk]:
    async with open_gateway(tmp_path) as opened:
        yield opened


def form_of(content: bytes = b"some text", /, **fields: str) -> Any:
    form = aiohttp.FormData()
    form.add_field("file", content, filename="a.txt", content_type="text/plain")
    for field, text in fields.items():
        form.add_field(field, text)
    return form


async def in_chunks(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json
    assert (answer.status, problem["code"]) == (status, code), problem
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["type"] == f"urn:parsewire:problem:{code}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["advice"]
    assert problem["detail"]
    assert len(problem["support_id"]) == 16
    return problem


async def nothing_left(desk: GatewayDesk) -> None:
    assert desk.files() == []
    assert desk.said() == []
    assert (await desk.get("/api/v1/jobs")).json["jobs"] == []


class TestTaken:
    async def test_a_raw_body_is_kept_and_its_job_offered(self, desk: GatewayDesk) -> None:
        answer = await desk.upload(b"hello", headers={"traceparent": TRACE})
        assert answer.status == 202
        job_id = answer.json["job_id"]
        assert answer.json["state"] == "uploaded"
        assert answer.json["duplicate"] is False
        assert (
            answer.headers["Location"] == answer.json["links"]["self"] == f"/api/v1/jobs/{job_id}"
        )
        job = await desk.job(job_id)
        assert (job.tenant, job.name, job.media_type) == ("acme", "a.txt", "text/plain")
        assert await desk.blobs.read(job.source) == b"hello"
        assert job.traceparent is not None
        assert job.traceparent[:36] == TRACE[:36]
        assert answer.headers["traceparent"] == job.traceparent != TRACE
        (offer,) = desk.said()
        assert isinstance(offer, DocumentUploaded)
        assert (offer.job_id, offer.attempt, offer.source) == (job_id, 1, job.source)

    async def test_a_form_with_options_after_and_before_its_file(self, desk: GatewayDesk) -> None:
        form = aiohttp.FormData()
        form.add_field("max_pages", "7")
        form.add_field("file", b"# x", filename="b.md", content_type="text/markdown")
        form.add_field("name", "../../étude\x00\n.md")
        answer = await desk.post(UPLOAD, data=form)
        assert answer.status == 202
        job = await desk.job(answer.json["job_id"])
        assert job.name == "étude.md"
        assert job.media_type == "text/markdown"
        assert job.options == ParseOptions(max_pages=7)

    async def test_raw_options_stand_in_the_query(self, desk: GatewayDesk) -> None:
        answer = await desk.upload(query="?max_pages=2&name=C%3A%5Cx%5Cy.txt")
        job = await desk.job(answer.json["job_id"])
        assert (job.name, job.options) == ("y.txt", ParseOptions(max_pages=2))

    async def test_the_bytes_decide_the_type(self, desk: GatewayDesk) -> None:
        headers = {"Content-Type": "application/octet-stream", "Content-Disposition": ""}
        answer = await desk.upload(b"%PDF-1.7 and more", headers=headers)
        job = await desk.job(answer.json["job_id"])
        assert (job.media_type, job.name) == ("application/pdf", None)

    @pytest.mark.parametrize("size", [1, 7, 4096, 300_000])
    async def test_chunked_bodies_of_any_cut(self, desk: GatewayDesk, size: int) -> None:
        content = b"0123456789abcdef\r\n--x" * (20_000 if size > 7 else 100)
        answer = await desk.post(
            UPLOAD, data=in_chunks(content, size), headers={"Content-Type": "text/plain"}
        )
        assert answer.status == 202
        job = await desk.job(answer.json["job_id"])
        assert await desk.blobs.read(job.source) == content

    @pytest.mark.parametrize("size", [3, 1000, 100_000])
    async def test_a_form_cut_anywhere(self, desk: GatewayDesk, size: int) -> None:
        content = b"\r\n--b\r\n-- " * (50 if size == 3 else 40_000)
        body = (
            b'--b-x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
            + content
            + b"\r\n--b-x--\r\n"
        )
        headers = {"Content-Type": 'multipart/form-data; boundary="b-x"'}
        answer = await desk.post(UPLOAD, data=in_chunks(body, size), headers=headers)
        assert answer.status == 202, answer.content
        job = await desk.job(answer.json["job_id"])
        assert await desk.blobs.read(job.source) == content

    @pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "GZIP", "raw-deflate"])
    async def test_packed_bodies_are_unpacked(self, desk: GatewayDesk, coding: str) -> None:
        content = b"some text, again and again. " * 30_000
        if "gzip" in coding.lower():
            half = len(content) // 2
            packed = gzip.compress(content[:half]) + gzip.compress(content[half:])
        elif coding == "deflate":
            packed = zlib.compress(content)
        else:
            packer = zlib.compressobj(wbits=-15)
            packed, coding = packer.compress(content) + packer.flush(), "deflate"
        answer = await desk.upload(packed, headers={"Content-Encoding": coding})
        assert answer.status == 202, answer.content
        job = await desk.job(answer.json["job_id"])
        assert job.source.size_bytes == len(content)
        assert await desk.blobs.read(job.source) == content

    async def test_a_packed_form_is_unpacked(self, desk: GatewayDesk) -> None:
        body = gzip.compress(
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
            + b"text " * 100_000
            + b"\r\n--x--\r\n"
        )
        headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Encoding": "gzip"}
        answer = await desk.post(UPLOAD, data=body, headers=headers)
        assert answer.status == 202, answer.content
        job = await desk.job(answer.json["job_id"])
        assert job.source.size_bytes == 500_000

    async def test_what_is_taken_is_counted(self, desk: GatewayDesk) -> None:
        await desk.upload(b"12345")
        await desk.upload(b"12345")
        await desk.upload(b"")
        assert desk.metric("parsewire_uploads_total", outcome="accepted") == 1
        assert desk.metric("parsewire_uploads_total", outcome="duplicate") == 1
        assert desk.metric("parsewire_uploads_total", outcome="document_empty") == 1
        assert desk.metric("parsewire_upload_bytes_total") == 10
        for stage in ("read", "blob", "table"):
            assert desk.metric("parsewire_upload_stage_seconds_count", stage=stage) == 2


class TestDuplicates:
    async def test_the_same_bytes_join_their_job(self, desk: GatewayDesk) -> None:
        first = await desk.upload()
        again = await desk.post(UPLOAD, data=form_of(name="other.txt"))
        assert (again.status, again.json["duplicate"]) == (200, True)
        assert again.json["job_id"] == first.json["job_id"]
        assert desk.files() == [f"acme/{first.json['job_id']}.source"]

    async def test_other_options_are_another_job(self, desk: GatewayDesk) -> None:
        first = await desk.upload()
        other = await desk.upload(query="?max_pages=1")
        assert other.status == 202
        assert other.json["document_id"] == first.json["document_id"]
        assert other.json["job_id"] != first.json["job_id"]

    async def test_force_makes_a_new_generation(self, desk: GatewayDesk) -> None:
        first = await desk.upload()
        second = await desk.upload(query="?force=true")
        third = await desk.post(UPLOAD, data=form_of(force="1"))
        assert [first.status, second.status, third.status] == [202, 202, 202]
        generations = [
            (await desk.job(a.json["job_id"])).generation for a in (first, second, third)
        ]
        assert generations == [1, 2, 3]
        assert (await desk.upload()).json["job_id"] == third.json["job_id"]

    async def test_a_failed_job_is_asked_to_retry(self, desk: GatewayDesk) -> None:
        job_id = (await desk.upload()).json["job_id"]
        await desk.fail(job_id)
        desk.said()
        again = await desk.upload()
        assert (again.status, again.json["state"]) == (200, "failed_parse")
        assert desk.said() == [RetryRequested(job_id, "acme", 1)]

    async def test_a_cancelled_job_is_asked_to_retry(self, desk: GatewayDesk) -> None:
        job_id = (await desk.upload()).json["job_id"]
        await desk.happen(CancelRequested(job_id, "acme", 1))
        desk.said()
        assert (await desk.upload()).status == 200
        assert desk.said() == [RetryRequested(job_id, "acme", 1)]

    async def test_another_tenant_never_learns_of_them(self, desk: GatewayDesk) -> None:
        ours = await desk.upload()
        theirs = await desk.upload(tenant="globex")
        assert (theirs.status, theirs.json["duplicate"]) == (202, False)
        assert theirs.json["document_id"] != ours.json["document_id"]
        assert len(desk.files()) == 2


class TestRefused:
    @pytest.mark.parametrize(
        ("content", "headers", "status", "code"),
        [
            (b"", {}, 422, "document_empty"),
            (gzip.compress(b""), {"Content-Encoding": "gzip"}, 422, "document_empty"),
            (b"\xff\xfea\x00", {}, 422, "document_not_utf8"),
            (b"\x89PNG\r\n\x1a\n..", {}, 415, "unsupported_media_type"),
            (b"text", {"Content-Type": "image/png"}, 415, "unsupported_media_type"),
            (
                b"text",
                {"Content-Type": "multipart/mixed; boundary=x"},
                415,
                "unsupported_media_type",
            ),
            (b"text", {"Content-Type": "application/pdf"}, 415, "unsupported_media_type"),
            (b"text", {"Content-Encoding": "br"}, 415, "unsupported_media_type"),
            (b"text", {"Content-Encoding": "gzip, gzip"}, 415, "unsupported_media_type"),
            (b"text", {"Content-Encoding": "gzip"}, 400, "invalid_request"),
            (b"text", {"Content-Encoding": "deflate"}, 400, "invalid_request"),
            (
                gzip.compress(b"text" * 99)[:-9],
                {"Content-Encoding": "gzip"},
                400,
                "invalid_request",
            ),
            (gzip.compress(b"text")[:-1], {"Content-Encoding": "gzip"}, 400, "invalid_request"),
            (zlib.compress(b"text")[:-1], {"Content-Encoding": "deflate"}, 400, "invalid_request"),
            (
                zlib.compress(b"text") + b"x",
                {"Content-Encoding": "deflate"},
                400,
                "invalid_request",
            ),
            (gzip.compress(b"a") * 1025, {"Content-Encoding": "gzip"}, 400, "invalid_request"),
            (b"text", {"Content-Disposition": "attachment; filename"}, 400, "invalid_request"),
            (b"text", {"Content-Disposition": "a" * 5000}, 400, "invalid_request"),
            (b"text", {"Expect": "200-ok"}, 417, "invalid_request"),
        ],
    )
    async def test_raw_bodies(
        self, desk: GatewayDesk, content: bytes, headers: dict[str, str], status: int, code: str
    ) -> None:
        problem = refused(await desk.upload(content, headers=headers), status, code)
        if status == 415:
            accepted = ["application/pdf", "text/plain", "text/markdown", "text/csv"]
            assert problem["accepted"] == accepted
        await nothing_left(desk)

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("?colour=red", "there is no option 'colour'; known are: max_pages, force, name"),
            ("?max_pages=0", "max_pages must be a whole number from 1 to 1000000"),
            ("?max_pages=-1", "max_pages must be"),
            ("?max_pages=1e3", "max_pages must be"),
            ("?max_pages=%D9%A3", "max_pages must be"),
            ("?max_pages=99999999999999999999", "max_pages must be"),
            ("?max_pages=", "max_pages must be"),
            ("?max_pages=1&max_pages=2", "the option max_pages is given twice"),
            ("?force=maybe", "force must be true or false"),
        ],
    )
    async def test_options(self, desk: GatewayDesk, query: str, words: str) -> None:
        raw = refused(await desk.upload(query=query), 400, "invalid_request")
        form = refused(await desk.post(UPLOAD + query, data=form_of()), 400, "invalid_request")
        assert words in raw["detail"]
        assert words in form["detail"]
        await nothing_left(desk)

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"colour": "red"}, "there is no option 'colour'"),
            ({"max_pages": "many"}, "max_pages must be"),
            ({"force": "perhaps"}, "force must be"),
            ({"name": "n" * 5000}, "the field 'name' has more than 4096 bytes"),
        ],
    )
    async def test_form_fields(self, desk: GatewayDesk, fields: dict[str, str], words: str) -> None:
        answer = await desk.post(UPLOAD, data=form_of(**fields))
        assert words in refused(answer, 400, "invalid_request")["detail"]
        await nothing_left(desk)

    async def test_an_option_in_both_the_query_and_the_form(self, desk: GatewayDesk) -> None:
        answer = await desk.post(UPLOAD + "?max_pages=1", data=form_of(max_pages="1"))
        assert "given twice" in refused(answer, 400, "invalid_request")["detail"]

    async def test_more_than_the_limit_said_or_not(self, tmp_path: Path) -> None:
        async with open_gateway(tmp_path, limits=limits_of(max_upload_bytes=100_000)) as desk:
            big = b"x" * 100_001
            for body in (big, in_chunks(big, 9_000), form_of(big), in_chunks(big * 30, 60_000)):
                headers = {} if isinstance(body, aiohttp.FormData) else {"Content-Type": "text/csv"}
                answer = await desk.post(UPLOAD, data=body, headers=headers)
                assert refused(answer, 413, "too_large")["max_upload_bytes"] == 100_000
            await nothing_left(desk)
            assert (await desk.upload(big[:-1])).status == 202

    async def test_a_bomb_is_refused_at_the_limit(self, tmp_path: Path) -> None:
        bomb = gzip.compress(b"\x20" * 50_000_000)
        form = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + b" " * 50_000_000
        async with open_gateway(tmp_path, limits=limits_of(max_upload_bytes=300_000)) as desk:
            raw = await desk.upload(bomb, headers={"Content-Encoding": "gzip"})
            refused(raw, 413, "too_large")
            packed = {"Content-Encoding": "gzip", "Content-Type": "multipart/form-data; boundary=x"}
            refused(
                await desk.post(UPLOAD, data=gzip.compress(form), headers=packed), 413, "too_large"
            )
            await nothing_left(desk)

    async def test_wrong_keys_do_not_upload(self, desk: GatewayDesk) -> None:
        answer = await desk.upload(b"x" * 500_000, tenant=None)
        refused(answer, 401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="parsewire"'
        await nothing_left(desk)
