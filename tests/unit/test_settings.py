"""Run-time settings: rows over the environment, what is refused, and who changed what."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from schemas.errors import Code, PermanentError
from streams.gate import SharedGate
from streams.settings import (
    CurrentSettings,
    Defaults,
    Effective,
    change_setting,
    check_mode,
    close_circuit,
    effective,
)
from streams.tables.base import Row
from streams.token_bucket import Rate
from tests.harness import NOW, Desk, open_memory_desk

KEYLESS = Defaults()
CLOUD = Defaults(mode="hybrid", rates={"llamaparse": Rate(20.0, 10)})
OTHER = Defaults(rates={"llamaparse": Rate(20.0, 10)}, remote_parser="callback")
HOSTED = Defaults(rates={"callback": Rate(600.0, 20)}, remote_parser="callback")
PRODUCTION = Defaults(production=True)


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


async def change(desk: Desk, name: str, value: str | None, defaults: Defaults = CLOUD) -> bool:
    return await desk.tables.write(lambda tx: change_setting(tx, defaults, name, value, "ann@host"))


async def audit(desk: Desk) -> list[Row]:
    return await desk.rows("limits.changes", most=10)


@pytest.mark.parametrize(
    ("mode", "defaults", "says"),
    [
        ("mock", PRODUCTION, "refused in production"),
        ("real", KEYLESS, "none has a key"),
        ("hybrid", KEYLESS, "none has a key"),
        ("magic", CLOUD, "local, real, hybrid, mock"),
        ("real", OTHER, "needs a parser elsewhere, and callback is not configured"),
    ],
)
def test_a_mode_that_may_not_run_is_refused(mode: str, defaults: Defaults, says: str) -> None:
    with pytest.raises(PermanentError, match=says) as caught:
        check_mode(mode, defaults)
    assert caught.value.code is Code.INVALID_REQUEST


@pytest.mark.parametrize(
    ("mode", "defaults"),
    [
        ("local", PRODUCTION),
        ("mock", KEYLESS),
        ("real", CLOUD),
        ("hybrid", CLOUD),
        ("hybrid", HOSTED),
    ],
)
def test_a_mode_that_may_run_is_taken(mode: str, defaults: Defaults) -> None:
    assert check_mode(mode, defaults) == mode


def test_the_environment_stands_where_there_is_no_row() -> None:
    assert effective({}, CLOUD) == Effective("hybrid", {"llamaparse": Rate(20.0, 10)})


def test_rows_stand_over_the_environment() -> None:
    rows = {
        "mode": "local",
        "llamaparse.requests_per_minute": "60",
        "llamaparse.burst": "25",
    }
    found = effective(rows, CLOUD)
    assert (found.mode, found.rates) == ("local", {"llamaparse": Rate(60.0, 25)})
    assert found.changed == ("mode", "llamaparse.requests_per_minute", "llamaparse.burst")
    assert found.ignored == ()


def test_a_row_that_this_environment_refuses_is_named_and_ignored() -> None:
    rows = {"mode": "real", "llamaparse.burst": "3"}
    assert effective(rows, KEYLESS) == Effective("local", {}, (), ("mode", "llamaparse.burst"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("llamaparse.requests_per_minute", "0"),
        ("llamaparse.requests_per_minute", "-3"),
        ("llamaparse.requests_per_minute", "nan"),
        ("llamaparse.requests_per_minute", "inf"),
        ("llamaparse.burst", "many"),
        ("llamaparse.burst", "100000"),
        ("llamaparse.colour", "1"),
        ("other.burst", "1"),
        ("colour", "blue"),
        ("mode", "magic"),
    ],
)
async def test_a_value_that_cannot_be_is_refused_and_not_kept(
    desk: Desk, name: str, value: str
) -> None:
    with pytest.raises(PermanentError) as caught:
        await change(desk, name, value)
    assert caught.value.code is Code.INVALID_REQUEST
    assert await desk.rows("limits.settings") == []
    assert await audit(desk) == []


async def test_each_change_is_audited_and_what_is_none_is_not(desk: Desk) -> None:
    assert await change(desk, "mode", "local") is True
    assert await change(desk, "mode", "local") is False
    desk.clock.pass_ms(5)
    assert await change(desk, "mode", None) is True
    assert await change(desk, "mode", None) is False
    assert await audit(desk) == [
        {
            "seq": 2,
            "name": "mode",
            "from_value": "local",
            "to_value": None,
            "who": "ann@host",
            "changed_ms": NOW + 5,
        },
        {
            "seq": 1,
            "name": "mode",
            "from_value": None,
            "to_value": "local",
            "who": "ann@host",
            "changed_ms": NOW,
        },
    ]


async def test_a_process_sees_a_change_at_its_next_reading(desk: Desk) -> None:
    current = CurrentSettings(desk.tables, CLOUD, desk.recorder)
    assert (current.mode, current.rate("llamaparse"), current.health("llamaparse")) == (
        "hybrid",
        Rate(20.0, 10),
        None,
    )
    await change(desk, "mode", "local")
    await change(desk, "llamaparse.burst", "3")
    assert current.mode == "hybrid"
    await current.refresh()
    assert (current.mode, current.rate("llamaparse")) == ("local", Rate(20.0, 3))
    await change(desk, "mode", None)
    await current.refresh()
    assert current.mode == "hybrid"


async def test_health_is_read_and_shown(desk: Desk) -> None:
    current = CurrentSettings(desk.tables, CLOUD, desk.recorder)
    gate = SharedGate(desk.tables, "llamaparse", lambda: current.rate("llamaparse"), desk.recorder)
    await gate.enter("submit")
    await gate.note("submit", Code.VENDOR_QUOTA_SPENT)
    await current.refresh()
    health = current.health("llamaparse")
    assert health is not None
    assert (health.circuit_open, health.rate_spent, health.tokens) == (True, False, 9.0)
    sample = desk.recorder.registry.get_sample_value
    assert sample("parsewire_circuit_state", {"service": "llamaparse"}) == 3
    assert sample("parsewire_rate_tokens", {"service": "llamaparse"}) == 9


async def test_an_operator_closes_a_circuit_which_is_audited(desk: Desk) -> None:
    gate = SharedGate(desk.tables, "llamaparse", lambda: Rate(20.0, 10), desk.recorder)
    await gate.enter("submit")
    await gate.note("submit", Code.VENDOR_UNAUTHORIZED)

    async def close() -> bool:
        return await desk.tables.write(lambda tx: close_circuit(tx, "llamaparse", "ann@host"))

    assert await close() is True
    await gate.enter("submit")
    assert await close() is False
    (line,) = await audit(desk)
    assert (line["name"], line["from_value"], line["to_value"]) == (
        "llamaparse.circuit",
        "open: vendor_unauthorized",
        "closed",
    )
