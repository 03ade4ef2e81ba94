"""The limits of webhooks: requests per address, bodies and bytes at once."""

import asyncio

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

from schemas.errors import Code
from services.gateway.address_limit import AddressLimit
from services.gateway.problems import DisconnectedError, RefusedError
from services.gateway.webhook_body import Place, Room, read_whole


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_address_has_a_burst_and_a_rate() -> None:
    clock = Clock()
    limit = AddressLimit(4.0, clock)
    assert [limit.take("10.0.0.1") for _ in range(5)] == [0, 0, 0, 0, 0.25]
    assert limit.take("10.0.0.2") == 0
    clock.now += 0.25
    assert [limit.take("10.0.0.1") for _ in range(2)] == [0, 0.25]
    clock.now += 100
    assert [limit.take("10.0.0.1") for _ in range(5)] == [0, 0, 0, 0, 0.25]


def test_less_than_one_a_second_still_lets_one_through() -> None:
    limit = AddressLimit(0.1, Clock())
    assert [limit.take("10.0.0.1") for _ in range(2)] == [0, 10]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("2001:db8::1", "2001:db8::1%eth0"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
    ],
)
def test_one_sender_has_one_bucket(one: str, other: str) -> None:
    limit = AddressLimit(1.0, Clock())
    assert limit.take(one) == 0
    assert limit.take(other) == 1
    assert limit.take("2001:db8:0:1::1") == 0
    assert limit.take("no:address") == 0
    assert limit.take(None) == 0


def test_only_so_many_addresses_are_remembered() -> None:
    limit = AddressLimit(1.0, Clock(), most_addresses=2)
    assert [limit.take(name) for name in ("a", "b", "a", "c", "a", "b")] == [0, 0, 1, 0, 1, 0]


def overloaded(room: Room) -> bool:
    try:
        with Place(room):
            return False
    except RefusedError as error:
        return (error.code, error.headers) == (Code.OVERLOADED, {"Retry-After": "1"})


def test_one_address_has_a_quarter_of_the_bodies_that_are_still_coming() -> None:
    room = Room(8, 1000)
    with room.waiting_for("2001:db8::1"), room.waiting_for("2001:db8::2"):
        with pytest.raises(RefusedError) as caught, room.waiting_for("2001:db8::3"):
            pass
        assert (caught.value.code, caught.value.headers) == (
            Code.TOO_MANY_REQUESTS,
            {"Retry-After": "1"},
        )
        with room.waiting_for("2001:db8:0:1::1"), room.waiting_for(None):
            pass
    with room.waiting_for("2001:db8::1"), room.waiting_for("2001:db8::2"):
        pass


def test_bodies_and_their_bytes_are_counted_and_given_back() -> None:
    room = Room(2, 1000)
    small = 65_536
    with Place(room) as one, Place(room) as two:
        assert overloaded(room)
        one.grow(small)
        one.grow(small + 400)
        one.grow(small + 700)
        two.grow(small + 300)
        for place in (one, two):
            assert refuses(place, small + 701)
    with Place(room) as alone:
        alone.grow(small + 1000)
        assert refuses(alone, small + 1001)


def refuses(place: Place, size: int) -> bool:
    try:
        place.grow(size)
    except RefusedError as error:
        return error.code is Code.OVERLOADED
    return False


async def test_a_sender_that_is_gone_before_its_turn_is_no_defect() -> None:
    loop = asyncio.get_running_loop()
    stream = StreamReader(BaseProtocol(loop), 1 << 16, loop=loop)
    stream.feed_data(b"{}")
    stream.feed_eof()
    stream.set_exception(ConnectionResetError())
    with pytest.raises(DisconnectedError):
        read_whole(stream)
