"""Uploads that are refused over real HTTP: each with its code, and nothing left behind."""

import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.gateway_bodies import form_of, in_chunks, nothing_left, refused
from tests.gateway_desk import UPLOAD, GatewayDesk, limits_of, open_gateway


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[GatewayDesk]:
    async with open_gateway(tmp_path) as opened:
        yield opened


def packed(content: bytes) -> bytes:
    """Pack it without the time of day, which would give a test another name each second."""
    return gzip.compress(content, mtime=0)


class TestRefused:
    @pytest.mark.parametrize(
        ("content", "headers", "status", "code"),
        [
            (b"", {}, 422, "document_empty"),
            (packed(b""), {"Content-Encoding": "gzip"}, 422, "document_empty"),
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
                packed(b"text" * 99)[:-9],
                {"Content-Encoding": "gzip"},
                400,
                "invalid_request",
            ),
            (packed(b"text")[:-1], {"Content-Encoding": "gzip"}, 400, "invalid_request"),
            (zlib.compress(b"text")[:-1], {"Content-Encoding": "deflate"}, 400, "invalid_request"),
            (
                zlib.compress(b"text") + b"x",
                {"Content-Encoding": "deflate"},
                400,
                "invalid_request",
            ),
            (packed(b"a") * 1025, {"Content-Encoding": "gzip"}, 400, "invalid_request"),
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
            ("?colour=red", "there is no option 'colour'; known are: max_pages, target_pages"),
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
            ({"name": "n" * 17000}, "the field 'name' has more than 16384 bytes"),
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
