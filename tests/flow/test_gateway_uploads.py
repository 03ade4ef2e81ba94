"""Uploads over real HTTP: what is taken, and what joins what was there."""

import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from schemas.events import CancelRequested, DocumentUploaded, ParseOptions, RetryRequested
from tests.gateway_bodies import form_of, in_chunks
from tests.gateway_desk import UPLOAD, GatewayDesk, open_gateway

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[GatewayDesk]:
    async with open_gateway(tmp_path) as opened:
        yield opened


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
        for stage in ("read", "hash", "blob", "table"):
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
