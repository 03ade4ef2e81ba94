"""Documents fetched over real TLS: what comes, who is asked, and what is never connected to."""

import asyncio
import hashlib
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from schemas.errors import Code, PermanentError, TransientError
from services import wiring
from services.config import Settings
from services.intake_role import AT_ONCE
from streams.source_fetch_https import FetchLimits
from tests.doubles.https_origin import HOST, PUBLIC, Certificate, make_certificate
from tests.source_desk import DOCUMENT, URL, SourceDesk, answered, open_source_desk


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(Path(tmp_path_factory.mktemp("tls")))


@pytest.fixture
async def desk(certificate: Certificate) -> AsyncIterator[SourceDesk]:
    async with open_source_desk(certificate) as opened:
        opened.origin.answers["/a.pdf"] = [answered(DOCUMENT)]
        yield opened


async def test_a_document_comes_whole(desk: SourceDesk) -> None:
    assert await desk.fetch() == "application/pdf"
    assert desk.written == DOCUMENT
    assert desk.roads.looked_up == [HOST]
    assert desk.roads.taken == [(PUBLIC, 443)]


async def test_what_is_sent_says_nothing_of_us(desk: SourceDesk) -> None:
    await desk.fetch(f"https://{HOST.upper()}./a.pdf?sig=%2F+%2f&x=a%20b#page=2")
    expected = (
        b"GET /a.pdf?sig=%2F+%2f&x=a%20b HTTP/1.1\r\nHost: docs.example.com\r\n"
        b"User-Agent: parsewire\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
        b"Connection: close\r\n\r\n"
    )
    assert desk.origin.requests == [expected]


async def test_each_fetch_is_a_stranger(desk: SourceDesk) -> None:
    desk.origin.answers["/a.pdf"] = [answered(DOCUMENT, "Set-Cookie: a=b; Path=/")]
    await desk.fetch()
    await desk.fetch()
    assert len(desk.roads.taken) == len(desk.roads.looked_up) == 2
    assert not [request for request in desk.origin.requests if b"ookie" in request]


async def test_a_proxy_of_the_environment_is_not_used(
    desk: SourceDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    await desk.fetch()
    assert desk.roads.taken == [(PUBLIC, 443)]


@pytest.mark.parametrize("declared", ["", "text/plain; charset=utf-8", "text/pl\xe4in"])
async def test_the_declared_type_is_told_where_it_can_be(desk: SourceDesk, declared: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {declared}\r\n\r\n".encode("latin-1")
    desk.origin.answers["/a.pdf"] = [head + DOCUMENT]
    expected = declared if declared.startswith("text/plain") else None
    assert await desk.fetch() == expected


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
@pytest.mark.parametrize(
    "location", ["https://169.254.169.254/", "http://127.0.0.1/", f"https://{HOST}/b.pdf", "/b.pdf"]
)
async def test_a_redirect_is_not_followed(desk: SourceDesk, status: int, location: str) -> None:
    moved = answered(b"", f"Location: {location}", status=f"{status} Moved")
    desk.origin.answers |= {"/a.pdf": [moved], "/b.pdf": [answered(DOCUMENT)]}
    code, _ = await desk.refused()
    assert code is Code.URL_REDIRECTED
    assert desk.origin.paths() == ["/a.pdf"]
    assert desk.roads.taken == [(PUBLIC, 443)]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "224.0.0.1", "0.0.0.0"),
        *("::1", "fd00:ec2::254", "fe80::1", "::ffff:127.0.0.1", "64:ff9b::a01:203"),
        *("2002:7f00:1::", "::ffff:169.254.169.254", ""),
    ],
)
async def test_a_private_address_is_not_connected_to(desk: SourceDesk, address: str) -> None:
    for addresses in ([address], [PUBLIC, address], [address, PUBLIC], [PUBLIC, PUBLIC, address]):
        desk.roads.addresses = [addresses]
        code, message = await desk.refused()
        assert code is Code.URL_ADDRESS_PRIVATE
        assert not address or address not in message
    assert desk.roads.taken == []
    assert desk.origin.requests == []


async def test_the_address_that_was_checked_is_the_one_connected_to(desk: SourceDesk) -> None:
    desk.roads.addresses = [[PUBLIC], ["127.0.0.1"]]
    await desk.fetch()
    assert desk.roads.looked_up == [HOST]
    assert desk.roads.taken == [(PUBLIC, 443)]
    assert (await desk.refused())[0] is Code.URL_ADDRESS_PRIVATE
    assert desk.roads.taken == [(PUBLIC, 443)]


async def test_a_name_that_leads_to_loopback_at_the_second_try_is_refused(
    desk: SourceDesk,
) -> None:
    desk.roads.addresses = [[PUBLIC], ["127.0.0.1"]]
    desk.origin.answers["/a.pdf"] = [answered(b"", status="500 Later"), answered(DOCUMENT)]
    assert (await desk.refused())[0] is Code.URL_ADDRESS_PRIVATE
    assert desk.roads.taken == [(PUBLIC, 443)]


async def test_the_next_address_serves_where_the_first_does_not(desk: SourceDesk) -> None:
    desk.roads.addresses = [["2606:4700::1111", PUBLIC]]
    await desk.fetch()
    assert (PUBLIC, 443) in desk.roads.taken


@pytest.mark.parametrize(
    "url",
    [
        f"http://{HOST}/a.pdf",
        f"https://{HOST}:8443/a.pdf",
        f"https://user:pass@{HOST}/a.pdf",
        "https://example.org/a.pdf",
        f"https://{PUBLIC}/a.pdf",
        "https://0x7f.1/a.pdf",
        "https://2130706433/a.pdf",
        "https://[::ffff:127.0.0.1]/a.pdf",
    ],
)
async def test_what_is_not_on_the_list_is_not_even_looked_up(desk: SourceDesk, url: str) -> None:
    assert (await desk.refused(url))[0] is Code.URL_NOT_ALLOWED
    assert desk.roads.looked_up == []


async def test_a_host_below_a_listed_one_serves(desk: SourceDesk) -> None:
    await desk.fetch("https://files.example.org/a.pdf")
    assert desk.written == DOCUMENT


async def test_a_certificate_of_somebody_else_is_refused_at_once(desk: SourceDesk) -> None:
    code, message = await desk.refused("https://other.example.com/a.pdf")
    assert code is Code.URL_FAILED
    assert message == "other.example.com: no TLS: ClientConnectorCertificateError"
    assert desk.origin.requests == []
    assert len(desk.roads.taken) == 1


async def test_a_certificate_that_nobody_trusts_is_refused(certificate: Certificate) -> None:
    async with open_source_desk(certificate, trusted=False) as desk:
        assert (await desk.refused())[0] is Code.URL_FAILED
        assert desk.origin.requests == []


async def test_a_server_without_tls_is_refused(desk: SourceDesk) -> None:
    server = await asyncio.get_running_loop().create_server(_MailServer, "127.0.0.1", 0)
    desk.roads.port = server.sockets[0].getsockname()[1]
    assert (await desk.refused())[0] is Code.URL_FAILED
    server.close()
    await server.wait_closed()


async def test_trouble_of_our_own_disk_is_ours(desk: SourceDesk) -> None:
    async def write(_: bytes) -> None:
        raise TransientError(Code.STORAGE_UNAVAILABLE, "the disk is full")

    with pytest.raises(TransientError, match="the disk is full"):
        await desk.fetcher.fetch(URL, write, size_bytes=len(DOCUMENT), sha256="0" * 64)


async def test_the_time_of_our_own_disk_is_not_the_senders(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = FetchLimits(seconds=30.0, idle_seconds=100_000.0, most_bytes=1_000_000)
    async with open_source_desk(certificate, limits=limits) as slow:
        slow.origin.answers["/a.pdf"] = [answered(DOCUMENT)]
        loop, passed = asyncio.get_running_loop(), 0.0
        time = loop.time

        async def write(chunk: bytes) -> None:
            nonlocal passed
            passed += 100.0
            await slow.write(chunk)

        monkeypatch.setattr(loop, "time", lambda: time() + passed)
        sha256 = hashlib.sha256(DOCUMENT).hexdigest()
        await slow.fetcher.fetch(URL, write, size_bytes=len(DOCUMENT), sha256=sha256)
        monkeypatch.undo()
    assert (bytes(slow.written), passed >= 200.0) == (DOCUMENT, True)


async def test_who_fetches_may_be_cancelled(desk: SourceDesk) -> None:
    begun = asyncio.Event()

    async def write(_: bytes) -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(
        desk.fetcher.fetch(URL, write, size_bytes=len(DOCUMENT), sha256="0" * 64)
    )
    await asyncio.wait_for(begun.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_more_than_we_take_is_not_asked_for(desk: SourceDesk) -> None:
    with pytest.raises(PermanentError, match="may have 1000000 bytes") as caught:
        await desk.fetcher.fetch(URL, desk.write, size_bytes=1_000_001, sha256="0" * 64)
    assert caught.value.code is Code.TOO_LARGE
    assert desk.roads.looked_up == []


async def test_a_signed_address_is_told_to_nobody(desk: SourceDesk) -> None:
    desk.origin.answers["/hunter2"] = [answered(b"", status="500 Later")]
    desk.origin.answers["/a.pdf"] = [answered(b"", status="404 Gone")]
    with capture_logs() as logs:
        told = [
            await desk.refused(f"https://{HOST}/hunter2?sig=hunter2"),
            await desk.refused(f"https://{HOST}/a.pdf?sig=hunter2"),
            await desk.refused("https://evil.test/?sig=hunter2"),
            await desk.refused("https://user:hunter2@docs.example.com/"),
        ]
    assert [code for code, _ in told] == [
        *(Code.URL_FAILED, Code.URL_FAILED, Code.URL_NOT_ALLOWED, Code.URL_NOT_ALLOWED)
    ]
    assert {line["host"] for line in logs} == {HOST}
    assert "hunter2" not in str(told) + str(logs)


@pytest.mark.parametrize(
    ("hosts", "code"),
    [("", Code.URL_NOT_ALLOWED), ("localhost:8443", Code.URL_ADDRESS_PRIVATE)],
)
async def test_a_deployment_fetches_from_listed_public_hosts(hosts: str, code: Code) -> None:
    async def write(_: bytes) -> None:
        pytest.fail("something came")

    async with wiring.open_source_fetch(Settings(fetch_hosts=hosts), at_once=1) as fetcher:
        with pytest.raises(PermanentError) as caught:
            await fetcher.fetch("https://localhost:8443/a", write, size_bytes=1, sha256="0" * 64)
    assert caught.value.code is code


async def test_a_slow_name_server_keeps_nobody_else_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = threading.Event()

    def addresses(host: str, *_: object, **__: object) -> list[Any]:
        if host.startswith("slow"):
            answer.wait(60)
            raise OSError("no answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    async def write(_: bytes) -> None:
        pytest.fail("something came")

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    opened = wiring.open_source_fetch(Settings(fetch_hosts="*.example.org"), at_once=AT_ONCE)
    async with opened as fetcher:

        async def fetch(host: str) -> None:
            await fetcher.fetch(f"https://{host}/a", write, size_bytes=1, sha256="0" * 64)

        slow = [
            asyncio.create_task(fetch(f"slow{number}.example.org")) for number in range(AT_ONCE - 1)
        ]
        last = asyncio.create_task(fetch("quick.example.org"))
        with pytest.raises(PermanentError) as caught:
            async with asyncio.timeout(20):
                await last
        assert caught.value.code is Code.URL_ADDRESS_PRIVATE
        assert not any(task.done() for task in slow)
        for task in slow:
            task.cancel()
        answer.set()
        await asyncio.wait(slow)


class _MailServer(asyncio.Protocol):
    """Speaks first, and not TLS."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(b"220 mail.example.com ESMTP\r\n" * 3)
        transport.close()
