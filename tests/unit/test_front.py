"""The front: what it serves by itself, what it hands over and how whole, and how it ends."""

import asyncio
import gc
import socket
import weakref
from typing import Any

import pytest
from aiohttp.http import RawRequestMessage

from services.gateway.front import Connection, Front
from services.gateway.ways import Peer, Way

HEAD = b"POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nX-Own: \xe9\r\n\r\n"
REQUEST = HEAD + b"hello"
LINE = len(b"POST /hook HTTP/1.1\r\n")


class FakeTransport(asyncio.Transport):
    """A transport that keeps what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.options: list[tuple[int, ...]] = []
        self.written: list[bytes] = []
        self.reading = True
        self.closed = ""
        self.ended = asyncio.Event()
        self.protocol: asyncio.Protocol | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("10.0.0.9", 4711), "socket": self}.get(name, default)

    def setsockopt(self, *option: int) -> None:
        """Play the socket."""
        self.options.append(option)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def write(self, data: Any) -> None:
        self.written.append(data)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return bool(self.closed)

    def close(self) -> None:
        self._end("closed")

    def abort(self) -> None:
        self._end("aborted")

    def _end(self, how: str) -> None:
        self.closed = how
        self.ended.set()


class Usual(asyncio.Protocol):
    """What aiohttp would be given."""

    def __init__(self) -> None:
        self.transport: asyncio.BaseTransport | None = None
        self.pieces: list[bytes] = []
        self.given = asyncio.Event()

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self.given.set()


class Hook(Way):
    """A way that keeps what it took until the test answers."""

    def __init__(self) -> None:
        self.most_bytes = 100_000
        self.taken: list[tuple[Peer, bytes]] = []
        self.headers: list[tuple[tuple[bytes, bytes], ...]] = []

    def take(self, peer: Peer, message: RawRequestMessage, content: bytes) -> None:
        self.headers.append(message.raw_headers)
        self.taken.append((peer, content))

    def contents(self) -> list[bytes]:
        return [content for _, content in self.taken]

    def answer(self, content: bytes) -> None:
        """Answer the last that was taken."""
        self.taken[-1][0].answer(content)


class Desk:
    """A front with one way, one connection to it, and what stands behind it."""

    def __init__(self, *, rest_seconds: float = 60.0, idle_seconds: float = 60.0) -> None:
        self.hook = Hook()
        self.usual = Usual()
        self.front = Front(
            {"/hook": self.hook},
            lambda: self.usual,
            rest_seconds=rest_seconds,
            idle_seconds=idle_seconds,
        )
        self.connection, self.transport = self.connect()

    def connect(self) -> tuple[Connection, FakeTransport]:
        connection, transport = self.front(), FakeTransport()
        connection.connection_made(transport)
        return connection, transport

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            (self.transport.protocol or self.connection).data_received(piece)


@pytest.fixture
async def desk() -> Desk:
    return Desk()


def pieces(content: bytes, *cuts: int) -> list[bytes]:
    return [content[a:b] for a, b in zip((0, *cuts), (*cuts, len(content)), strict=True)]


async def a_turn() -> None:
    """Return once what was called for this turn of the loop has run."""
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    await turned.wait()


class TestServed:
    async def test_requests_one_after_the_other(self, desk: Desk) -> None:
        for number in range(3):
            desk.send(REQUEST)
            assert desk.hook.contents() == [b"hello"] * (number + 1)
            desk.hook.answer(b"answer %d" % number)
        assert desk.transport.written == [b"answer 0", b"answer 1", b"answer 2"]
        assert (desk.transport.closed, desk.transport.protocol) == ("", None)
        peer = desk.hook.taken[0][0]
        assert peer.remote == "10.0.0.9"
        assert desk.transport.options == [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        assert desk.hook.headers[0] == (
            (b"Host", b"x"),
            (b"Content-Length", b"5"),
            (b"X-Own", b"\xe9"),
        )

    async def test_two_pieces_cut_anywhere_behind_the_first_line(self) -> None:
        for cut in range(LINE, len(REQUEST)):
            desk = Desk()
            desk.send(*pieces(REQUEST, cut))
            desk.hook.answer(b"answer")
            desk.send(REQUEST)
            assert (cut, desk.hook.contents()) == (cut, [b"hello"] * 2)

    async def test_a_packed_body_as_it_is(self, desk: Desk) -> None:
        desk.send(REQUEST.replace(b"X-Own: \xe9", b"Content-Encoding: gzip"))
        assert desk.hook.contents() == [b"hello"]

    async def test_no_body(self, desk: Desk) -> None:
        desk.send(HEAD.replace(b"5", b"0"))
        assert desk.hook.contents() == [b""]

    async def test_the_last_one_closes_after_its_answer(self, desk: Desk) -> None:
        desk.send(REQUEST.replace(b"X-Own: \xe9", b"Connection: close"))
        assert desk.transport.closed == ""
        desk.hook.answer(b"answer")
        assert (desk.transport.written, desk.transport.closed) == ([b"answer"], "closed")

    async def test_no_answer_closes(self, desk: Desk) -> None:
        desk.send(REQUEST)
        desk.hook.answer(b"")
        assert desk.transport.closed == "closed"

    async def test_a_sender_that_has_gone_is_not_answered(self, desk: Desk) -> None:
        desk.send(REQUEST)
        desk.connection.connection_lost(None)
        desk.hook.answer(b"answer")
        assert desk.transport.written == []


class TestEarly:
    async def test_what_comes_before_the_answer_waits_its_turn(self, desk: Desk) -> None:
        desk.send(REQUEST, *pieces(REQUEST.replace(b"hello", b"again"), 30))
        assert desk.hook.contents() == [b"hello"]
        assert desk.transport.reading is False
        desk.hook.answer(b"one")
        # Nothing overtakes what has waited.
        desk.send(REQUEST[:40])
        await a_turn()
        assert desk.transport.reading is True
        # The first that waited has a piece of another behind it: both are aiohttp's.
        assert desk.usual.content == REQUEST.replace(b"hello", b"again") + REQUEST[:40]
        assert desk.transport.written == [b"one"]

    async def test_it_is_served_like_any_other(self, desk: Desk) -> None:
        desk.send(REQUEST, REQUEST.replace(b"hello", b"again"))
        desk.hook.answer(b"one")
        await a_turn()
        desk.hook.answer(b"two")
        assert desk.hook.contents() == [b"hello", b"again"]
        assert desk.transport.written == [b"one", b"two"]

    async def test_who_does_not_read_answers_is_not_read_either(self, desk: Desk) -> None:
        desk.send(REQUEST)
        desk.connection.pause_writing()
        desk.hook.answer(b"one")
        desk.send(REQUEST)
        await a_turn()
        assert (desk.hook.contents(), desk.transport.reading) == ([b"hello"], False)
        desk.connection.resume_writing()
        await a_turn()
        assert (desk.hook.contents(), desk.transport.reading) == ([b"hello"] * 2, True)


class TestHandedOver:
    @pytest.mark.parametrize(
        "request_",
        [
            b"GET /hook HTTP/1.1\r\nHost: x\r\n\r\n",
            REQUEST.replace(b"/hook", b"/hooks"),
            REQUEST.replace(b"/hook", b"/hook?a=1"),
            REQUEST.replace(b"/hook", b"/%68ook"),
            REQUEST.replace(b"/hook", b"http://x/hook"),
            REQUEST.replace(b"1.1", b"1.0"),
            REQUEST.replace(b"X-Own: \xe9", b"Expect: 100-continue"),
            REQUEST.replace(b"X-Own: \xe9", b"Connection: upgrade\r\nUpgrade: websocket"),
            REQUEST.replace(b"X-Own: \xe9", b"X-Own: \x01"),
            REQUEST.replace(b"Host: x\r\n", b""),
            REQUEST.replace(b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 6"),
            REQUEST.replace(b"Content-Length: 5", b"Content-Length: -5"),
            REQUEST.replace(b"Content-Length: 5", b"Content-Length: 000005"),
            HEAD.replace(b"Content-Length: 5", b"Content-Length: 18446744073709551615"),
            HEAD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")
            + b"5\r\nhello\r\n0\r\n\r\n",
            HEAD.replace(b": 5", b": 5\r\nTransfer-Encoding: chunked") + b"0\r\n\r\n",
            HEAD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")
            + b"1\r\nx\r\n" * 10_000
            + b"0\r\n\r\n",
            REQUEST + REQUEST,
            REQUEST + b"POST",
            REQUEST + b"\x16\x03\x01",
            b"\r\n" + REQUEST,
            REQUEST.replace(b"\r\n", b"\n"),
            HEAD.replace(b": 5", b": 65500") + b"x" * 65_500,
            b"POST /ho",
            b"\x16\x03\x01\x02",
        ],
    )
    async def test_anything_else(self, desk: Desk, request_: bytes) -> None:
        desk.send(REQUEST)
        desk.hook.answer(b"answer")
        desk.send(request_)
        assert desk.usual.content == request_
        assert desk.usual.transport is desk.transport
        assert desk.transport.protocol is desk.usual
        assert desk.hook.contents() == [b"hello"]
        # It is aiohttp's alone: its end does not wait for it.
        await desk.front.close(60.0)
        assert desk.transport.closed == ""

    async def test_a_body_that_is_too_large_for_the_way(self, desk: Desk) -> None:
        desk.hook.most_bytes = 5
        desk.send(REQUEST)
        desk.hook.answer(b"answer")
        desk.hook.most_bytes = 4
        desk.send(REQUEST)
        assert (desk.usual.content, desk.hook.contents()) == (REQUEST, [b"hello"])

    async def test_more_than_two_pieces(self, desk: Desk) -> None:
        desk.send(*pieces(REQUEST, 30, 60))
        assert (desk.usual.content, desk.hook.contents()) == (REQUEST, [])

    @pytest.mark.parametrize(
        "second",
        [
            b"hello" + REQUEST,
            b"hello" + REQUEST.replace(b"/hook", b"/other"),
            b"hello\r\n",
            b"hello!",
        ],
    )
    async def test_a_second_piece_with_more_behind(self, desk: Desk, second: bytes) -> None:
        desk.send(HEAD, second)
        assert (desk.usual.pieces, desk.hook.contents()) == ([HEAD, second], [])

    async def test_a_second_piece_that_does_not_come(self) -> None:
        desk = Desk(rest_seconds=0.0)
        desk.send(REQUEST[:-1])
        await asyncio.wait_for(desk.usual.given.wait(), 10)
        assert desk.usual.content == REQUEST[:-1]

    async def test_a_connection_that_closes_meanwhile(self) -> None:
        desk = Desk(rest_seconds=0.0)
        desk.send(HEAD)
        desk.transport.close()
        other, _ = desk.connect()
        other.data_received(REQUEST[:-1])
        # The later timer of the same length runs after the earlier one.
        await asyncio.wait_for(desk.usual.given.wait(), 10)
        assert (desk.usual.content, desk.transport.protocol) == (REQUEST[:-1], None)

    async def test_a_piece_in_time_is_not_handed_over_later(self) -> None:
        desk = Desk(rest_seconds=0.0)
        desk.send(*pieces(REQUEST, len(HEAD)))
        other, _ = desk.connect()
        other.data_received(HEAD)
        await asyncio.wait_for(desk.usual.given.wait(), 10)
        assert (desk.usual.content, desk.transport.protocol) == (HEAD, None)
        assert desk.hook.contents() == [b"hello"]

    async def test_without_a_way_everything_is_aiohttps(self) -> None:
        usual = Usual()
        connection = Front({}, lambda: usual)()
        connection.connection_made(FakeTransport())
        connection.data_received(REQUEST)
        assert usual.content == REQUEST


class TestEnd:
    async def test_a_silent_connection(self) -> None:
        desk = Desk(idle_seconds=0.0)
        await asyncio.wait_for(desk.transport.ended.wait(), 10)
        assert desk.transport.closed == "aborted"

    async def test_one_that_is_used_is_not_silent(self) -> None:
        desk = Desk(idle_seconds=0.05)
        # Its timer runs after that of the one that is used.
        _, silent = desk.connect()
        async with asyncio.timeout(10):
            while not silent.closed:
                desk.send(REQUEST)
                desk.hook.answer(b"answer")
                await a_turn()
        assert desk.transport.closed == ""

    async def test_what_is_early_on_a_closed_one_is_dropped(self, desk: Desk) -> None:
        desk.send(REQUEST, REQUEST)
        desk.hook.answer(b"one")
        desk.transport.close()
        await a_turn()
        assert desk.hook.contents() == [b"hello"]

    async def test_nothing_holds_one_that_has_left(self, desk: Desk) -> None:
        left = []
        for request in (HEAD, REQUEST + REQUEST):
            connection, _ = desk.connect()
            connection.data_received(request)
            connection.connection_lost(None)
            left.append(weakref.ref(connection))
            del connection
        gc.collect()
        assert [connection() for connection in left] == [None, None]

    async def test_it_waits_for_the_answers(self, desk: Desk) -> None:
        desk.send(REQUEST)
        (idle, silent), (begun, half) = desk.connect(), desk.connect()
        begun.data_received(HEAD)
        closing = asyncio.create_task(desk.front.close(60.0))
        await a_turn()
        assert (silent.closed, half.closed, desk.transport.closed) == ("closed", "closed", "")
        late, refused = desk.connect()
        assert refused.closed == "closed"
        desk.hook.answer(b"answer")
        assert (desk.transport.written, desk.transport.closed) == ([b"answer"], "closed")
        for connection in (idle, begun, late, desk.connection):
            assert not closing.done()
            connection.connection_lost(None)
        await asyncio.wait_for(closing, 10)

    async def test_it_does_not_wait_for_ever(self, desk: Desk) -> None:
        desk.send(REQUEST)
        await desk.front.close(0.0)
        assert desk.transport.closed == "aborted"
