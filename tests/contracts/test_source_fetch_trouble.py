"""Senders of documents that lie, hang, send for ever or break: each refused by its own code."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import Code
from tests.doubles.https_origin import Certificate, make_certificate
from tests.source_desk import DOCUMENT, LIMITS, SourceDesk, answered, open_source_desk

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
QUICK = replace(LIMITS, seconds=0.4)
IMPATIENT = replace(LIMITS, idle_seconds=0.2)

Writes = Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(Path(tmp_path_factory.mktemp("tls")))


@pytest.fixture
async def desk(certificate: Certificate) -> AsyncIterator[SourceDesk]:
    async with open_source_desk(certificate) as opened:
        yield opened


def drips(head: bytes, drop: bytes) -> Writes:
    """Write the head, then a drop every now and then, for ever."""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.01)

    return write


def floods(head: bytes, water: bytes) -> Writes:
    """Write the head, then as much as is taken, for ever."""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(water)
            await writer.drain()
            # Draining gives nobody else a turn while the other side still takes everything.
            await asyncio.sleep(0)

    return write


def falls_silent(said: bytes) -> Writes:
    """Write that much, and nothing more."""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        await asyncio.Event().wait()

    return write


SLOW = {
    "the head, letter by letter": drips(OK, b"X: y\r\n"),
    "one field without an end": drips(OK + b"X: ", b"y"),
    "interim answers for ever": drips(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "the body, byte by byte": drips(OK + b"\r\n", b"y"),
    "the body, in tiny chunks": drips(CHUNKED, b"1\r\ny\r\n"),
    "within a chunk's own size": drips(CHUNKED + b"1;", b"y"),
}

SILENT = {
    "before the head": falls_silent(b""),
    "within the head": falls_silent(OK + b"Content-Le"),
    "before the body": falls_silent(answered(b"", length=len(DOCUMENT))),
    "within the body": falls_silent(answered(DOCUMENT[:-1], length=len(DOCUMENT))),
    "without a last chunk": falls_silent(CHUNKED + b"1\r\ny\r\n"),
}


@pytest.mark.parametrize("how", SLOW)
async def test_who_sends_for_ever_is_given_up(certificate: Certificate, how: str) -> None:
    async with open_source_desk(certificate, limits=QUICK) as desk:
        desk.origin.answers["/a.pdf"] = [SLOW[how]]
        async with asyncio.timeout(20):
            assert (await desk.refused())[0] is Code.URL_TOO_SLOW


@pytest.mark.parametrize("how", SILENT)
async def test_who_falls_silent_is_given_up(certificate: Certificate, how: str) -> None:
    async with open_source_desk(certificate, limits=IMPATIENT) as desk:
        desk.origin.answers["/a.pdf"] = [SILENT[how]]
        async with asyncio.timeout(20):
            code, message = await desk.refused()
    assert code is Code.URL_TOO_SLOW
    assert message == ("docs.example.com was silent for 0.2 s, or took more than 30 s in all")


async def test_who_never_greets_is_given_up(certificate: Certificate) -> None:
    async with open_source_desk(certificate, limits=QUICK) as desk:
        server = await _open_mute_server()
        desk.roads.port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(20):
            assert (await desk.refused())[0] is Code.URL_TOO_SLOW
        server.close()
        await server.wait_closed()


async def test_a_name_that_is_looked_up_for_ever_is_given_up(certificate: Certificate) -> None:
    async with open_source_desk(certificate, limits=QUICK) as desk:
        desk.roads.addresses = [None]
        async with asyncio.timeout(20):
            assert (await desk.refused())[0] is Code.URL_TOO_SLOW


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (answered(DOCUMENT + b"y"), "it has 300010 bytes, and 300009 were named"),
        (answered(DOCUMENT[:-1]), "it has 300008 bytes, and 300009 were named"),
        (answered(b""), "it has 0 bytes, and 300009 were named"),
        (OK + b"\r\n" + DOCUMENT + b"y", "it has more than the 300009 bytes that were named"),
        (OK + b"\r\n" + DOCUMENT[:-1], "it has 300008 bytes, and 300009 were named"),
        (answered(DOCUMENT[:-1] + b"?"), "its sha256 is not the one that was named"),
        (floods(OK + b"\r\n", b"y" * 65_536), "it has more than the 300009 bytes that were named"),
        (
            floods(CHUNKED, b"10000\r\n" + b"y" * 65_536 + b"\r\n"),
            "it has more than the 300009 bytes that were named",
        ),
    ],
    ids=[
        "more",
        "less",
        "none",
        "more_untold",
        "less_untold",
        "other",
        "endless",
        "endless_chunks",
    ],
)
async def test_another_document_is_refused(
    desk: SourceDesk, answer: bytes | Writes, says: str
) -> None:
    desk.origin.answers["/a.pdf"] = [answer]
    assert await desk.refused() == (
        Code.SOURCE_MISMATCH,
        f"the document is another one: {says}",
    )
    assert len(desk.written) <= len(DOCUMENT)


async def test_who_sends_for_ever_is_hung_up_on(desk: SourceDesk) -> None:
    flood, ended = floods(OK + b"\r\n", b"y" * 65_536), asyncio.Event()

    async def write(writer: asyncio.StreamWriter) -> None:
        try:
            await flood(writer)
        except ConnectionError:
            ended.set()

    desk.origin.answers["/a.pdf"] = [write]
    await desk.refused()
    async with asyncio.timeout(10):
        await ended.wait()


@pytest.mark.parametrize(
    "answer",
    [
        answered(DOCUMENT[:1000], length=len(DOCUMENT)),
        CHUNKED + b"3e8\r\n" + DOCUMENT[:1000] + b"\r\n",
        CHUNKED + b"3e8\r\n" + DOCUMENT[:500],
    ],
    ids=["by_length", "between_chunks", "within_a_chunk"],
)
async def test_a_body_that_is_cut_off_is_refused(desk: SourceDesk, answer: bytes) -> None:
    desk.origin.answers["/a.pdf"] = [answer]
    code, message = await desk.refused()
    assert code is Code.URL_FAILED
    assert message.startswith("docs.example.com: the body was cut off")
    assert len(desk.origin.requests) == 1


@pytest.mark.parametrize("packing", ["gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip"])
async def test_a_packed_body_is_not_read(desk: SourceDesk, packing: str) -> None:
    bomb = gzip.compress(bytes(20_000_000))
    desk.origin.answers["/a.pdf"] = [answered(bomb, f"Content-Encoding: {packing}")]
    code, message = await desk.refused(document=bomb)
    assert code is Code.URL_FAILED
    assert "packed" in message
    assert not desk.written


async def test_an_archive_that_is_called_one_is_bytes_like_others(desk: SourceDesk) -> None:
    bomb = gzip.compress(bytes(20_000_000))
    desk.origin.answers["/a.pdf"] = [answered(bomb, "Content-Encoding: identity")]
    await desk.fetch(document=bomb)
    assert desk.written == bomb


@pytest.mark.parametrize("status", [201, 204, 206, 400, 401, 403, 404, 410, 416, 418])
async def test_a_refusal_is_final(desk: SourceDesk, status: int) -> None:
    body = b"" if status == 204 else DOCUMENT
    desk.origin.answers["/a.pdf"] = [answered(body, status=f"{status} No")]
    code, message = await desk.refused()
    assert (code, message) == (Code.URL_FAILED, f"docs.example.com: it answered {status}")
    assert len(desk.origin.requests) == 1
    assert not desk.written


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_trouble_that_may_pass_is_tried_again(desk: SourceDesk, status: int) -> None:
    trouble = answered(DOCUMENT, status=f"{status} Later")
    desk.origin.answers["/a.pdf"] = [trouble, trouble, answered(DOCUMENT)]
    assert await desk.fetch() == "application/pdf"
    assert desk.written == DOCUMENT
    assert len(desk.origin.requests) == 3


async def test_trouble_that_does_not_pass_is_an_answer(desk: SourceDesk) -> None:
    desk.origin.answers["/a.pdf"] = [answered(b"", status="500 Later")]
    assert await desk.refused() == (
        Code.URL_FAILED,
        "docs.example.com: it answered 500 (3 tries)",
    )
    assert len(desk.origin.requests) == 3


async def test_a_wait_beyond_the_time_limit_is_not_waited(desk: SourceDesk) -> None:
    desk.origin.answers["/a.pdf"] = [answered(b"", "Retry-After: 31", status="429 Later")]
    assert await desk.refused() == (
        Code.URL_FAILED,
        "docs.example.com: it answered 429 (1 tries)",
    )


@pytest.mark.parametrize("wait", ["-1", "soon", "9" * 400, "\xb2", "Wed, 21 Oct 2015 07:28:00 GMT"])
async def test_a_wait_that_cannot_be_read_is_our_own(desk: SourceDesk, wait: str) -> None:
    trouble = answered(b"", f"Retry-After: {wait}", status="503 Later")
    desk.origin.answers["/a.pdf"] = [trouble, answered(DOCUMENT)]
    await desk.fetch()
    assert len(desk.origin.requests) == 2


async def test_a_connection_that_ends_before_the_answer_is_tried_again(desk: SourceDesk) -> None:
    desk.origin.answers["/a.pdf"] = [b"", OK + b"Content-", answered(DOCUMENT)]
    await desk.fetch()
    assert desk.written == DOCUMENT


async def test_a_port_where_nobody_listens_is_an_answer(desk: SourceDesk) -> None:
    server = await _open_mute_server()
    desk.roads.port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    assert await desk.refused() == (
        Code.URL_FAILED,
        "docs.example.com: no connection: ClientConnectorError (3 tries)",
    )
    assert len(desk.roads.taken) == 3


async def test_a_name_without_an_address_is_an_answer(desk: SourceDesk) -> None:
    desk.roads.addresses = [[]]
    assert await desk.refused() == (
        Code.URL_FAILED,
        "docs.example.com: no connection: ClientConnectorDNSError (3 tries)",
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example.com ESMTP\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        OK + b"X: " + b"y" * 10_000 + b"\r\n\r\n",
        OK + b"X: y\r\n" * 200 + b"\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        CHUNKED + b"not a size\r\n" + DOCUMENT,
        floods(OK + b"X: ", b"y" * 65_536),
        floods(OK, b"X: y\r\n" * 10_000),
    ],
    ids=[
        *("mail", "version", "long_field", "many_fields", "no_length", "two_lengths"),
        *("length_and_chunks", "nonsense_chunks", "endless_field", "endless_fields"),
    ],
)
async def test_what_is_no_http_is_refused(desk: SourceDesk, answer: bytes | Writes) -> None:
    desk.origin.answers["/a.pdf"] = [answer]
    async with asyncio.timeout(20):
        assert (await desk.refused())[0] is Code.URL_FAILED
    assert not desk.written


async def _open_mute_server() -> asyncio.Server:
    """Take guests on a free port, and never speak."""
    return await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
