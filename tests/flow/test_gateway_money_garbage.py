"""Garbage of every kind sent to the routes of money: the answer is never an error of ours."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.keys import Role, create_key
from tests.gateway_desk import GatewayDesk, open_gateway
from tests.ledger_desk import Ledger

EXAMPLES = settings(
    max_examples=80,
    deadline=None,
    # One gateway serves all examples: no answer depends on those before.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

ANY = st.binary(max_size=30).map(lambda raw: raw.translate(None, b"\r\n\0 #?"))
VALUES = ANY | st.sampled_from(
    [
        *(b"day", b"job", b"tier", b"csv", b"json", b"acme", b"globex", b"~", b"%00", b"%ff"),
        *(b"2026-11-01", b"0001-01-01", b"9999-12-31", b"2026-02-30", b"%D9%A2026-11-01"),
        *(b"1", b"10000", b"%D9%A3", b"1e3", b"-1", b"%ED%A0%80", b"99999999999999999999"),
    ]
)
NAMES = ANY | st.sampled_from(
    [b"by", b"since", b"until", b"tenant", b"format", b"limit", b"before"]
)
QUERIES = st.lists(st.tuples(NAMES, VALUES), max_size=5).map(
    lambda pairs: b"&".join(name + b"=" + value for name, value in pairs)
)
PLACES = st.sampled_from([b"deployment", b"tenant:acme", b"service:llamaparse", b"%2e%2e"]) | ANY
PERIODS = st.sampled_from([b"day", b"hour", b"month"]) | ANY
NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([2**63, 10**15, 10**15 + 1])
TEXTS = st.sampled_from(["1.25", "0", "9" * 12, "-1", "1e9", "\u0663", "NaN"]) | st.text(max_size=9)
ORDERS = st.fixed_dictionaries(
    {},
    optional={
        "limit_usd": TEXTS | NUMBERS,
        "limit_micro_usd": NUMBERS | TEXTS,
        "limit_pages": NUMBERS,
        "limit_requests": NUMBERS,
        "hard": st.booleans() | NUMBERS,
        "policy": st.sampled_from(["wait", "local", "reject"]) | TEXTS,
    },
)


def written(order: object) -> bytes:
    """Write JSON that is valid, or almost: numbers beyond 64 bits, NaN, lone surrogates."""
    try:
        return orjson.dumps(order)
    except orjson.JSONEncodeError:
        return repr(order).replace("'", '"').encode(errors="surrogatepass")


BODIES = ORDERS.map(written) | st.binary(max_size=60) | st.just(b"[" * 5_000)


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[GatewayDesk]:
    async with open_gateway(tmp_path) as opened:
        _, opened.tokens["operator"] = await create_key(opened.tables, "ops", "ops", Role.OPERATOR)
        ledger = Ledger(opened.tables)
        await ledger.settle(await ledger.hold(), 30_000)
        yield opened


async def status_of(desk: GatewayDesk, who: str, line: bytes, body: bytes = b"") -> int:
    """Send raw bytes and give the answer's status."""
    request = (
        line
        + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        + f"Authorization: {desk.bearer(who)['Authorization']}\r\n".encode()
        + b"Content-Length: %d\r\n\r\n" % len(body)
        + body
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            return int((await reader.readline())[9:12])
    finally:
        writer.close()


@EXAMPLES
@given(query=QUERIES)
async def test_reports(desk: GatewayDesk, query: bytes) -> None:
    for who in ("acme", "operator"):
        for path in (b"costs?by=job&", b"costs?", b"costs/forecast?", b"budgets?"):
            assert await status_of(desk, who, b"GET /api/v1/" + path + query) < 500


@EXAMPLES
@given(place=PLACES, period=PERIODS, body=BODIES)
async def test_budgets(desk: GatewayDesk, place: bytes, period: bytes, body: bytes) -> None:
    path = b" /api/v1/budgets/" + place + b"/" + period
    for who in ("acme", "operator"):
        for method in (b"PUT", b"GET", b"DELETE", b"DELETE"):
            assert await status_of(desk, who, method + path, body) < 500
    assert await status_of(desk, "operator", b"GET /api/v1/budgets") == 200


@EXAMPLES
@given(body=BODIES)
async def test_the_stop(desk: GatewayDesk, body: bytes) -> None:
    for action in (b"freeze", b"unfreeze"):
        for who in ("acme", "operator"):
            assert await status_of(desk, who, b"POST /api/v1/budgets/" + action, body) < 500
    assert await status_of(desk, "operator", b"GET /api/v1/costs") == 200
