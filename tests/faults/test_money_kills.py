"""Kills between reserve and settle, at every step: the money, the budgets and the jobs agree."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.doubles.dying_worker import POINTS
from tests.dying_sides import Line, Outcome, open_dying_side

pytestmark = [
    pytest.mark.processes,
    pytest.mark.kafka,
    pytest.mark.asyncio(loop_scope="module"),
]

SIDES = 4
"""Deployments that die at the same time: most of it is waiting."""


def held(attempt: int) -> Line:
    return Line(attempt, "reserved", 3_750, 0)


def billed(attempt: int) -> Line:
    return Line(attempt, "settled", -3_750, 3_750)


def given_back(attempt: int) -> Line:
    return Line(attempt, "released", -3_750, 0)


STRAIGHT = Outcome("uploaded parse_queued complete", (1,), (held(1), billed(1)))
LOST_WAY = "uploaded retry_wait(worker_lost) uploaded parse_queued complete"
REFUSED_WAY = "uploaded retry_wait(vendor_rate_limited) uploaded parse_queued complete"
SECOND = (held(2), billed(2))
NOT_HELD = Outcome(LOST_WAY, (2,), SECOND)
NOT_ORDERED = Outcome(LOST_WAY, (2,), (given_back(1), held(1), *SECOND))
REFUSED = Outcome(REFUSED_WAY, (2,), (given_back(1), held(1), *SECOND))


@dataclass(frozen=True, slots=True)
class Row:
    """How the document must end whose worker dies there."""

    outcome: Outcome
    refused: bool = False
    """The first order is refused there, clearly."""
    late_bill: bool = False
    or_else: Outcome | None = None
    """Where its order goes out meanwhile, or not."""


TABLE = {
    "before the hold": Row(NOT_HELD),
    "before the hold is relayed": Row(NOT_ORDERED),
    "held, before the POST": Row(NOT_ORDERED),
    "hold folded, before the commit": Row(STRAIGHT, or_else=NOT_ORDERED),
    "hold folded and committed": Row(STRAIGHT, or_else=NOT_ORDERED),
    "POST answered, before its answer is read": Row(STRAIGHT),
    "answer read, before ParseQueued is written": Row(STRAIGHT),
    "before ParseQueued is relayed": Row(STRAIGHT),
    "refused there, before that is written": Row(NOT_ORDERED, refused=True),
    "before the release is relayed": Row(REFUSED, refused=True),
    "webhook taken, before the result is fetched": Row(STRAIGHT),
    "result and bill there, before they are committed": Row(STRAIGHT),
    "late bill read, before it is written": Row(STRAIGHT, late_bill=True),
    "before the bill is relayed": Row(STRAIGHT),
    "bill folded, before the commit": Row(STRAIGHT),
    "bill folded and committed": Row(STRAIGHT),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deaths(
    kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Outcome | Exception]:
    """Bring every death about, a few at a time; a test of each tells how it went."""
    found: dict[str, Outcome | Exception] = {}
    left = iter(TABLE.items())

    async def die_by_turns(folder: Path) -> None:
        async with open_dying_side(folder, kafka_bootstrap) as side:
            for point, row in left:
                try:
                    found[point] = await side.survive(
                        point, refused=row.refused, late_bill=row.late_bill
                    )
                except Exception as error:  # noqa: BLE001 - raised again by the test of this point
                    found[point] = error
                    # What it left behind would spoil the next one here.
                    return

    async with asyncio.TaskGroup() as group:
        for _ in range(SIDES):
            group.create_task(die_by_turns(tmp_path_factory.mktemp("side")))
    return found


@pytest.mark.parametrize("point", TABLE)
async def test_a_worker_is_killed(deaths: dict[str, Outcome | Exception], point: str) -> None:
    assert TABLE.keys() == POINTS.keys()
    outcome = deaths.get(point)
    assert outcome is not None, "every deployment broke at a point before"
    if isinstance(outcome, Exception):
        raise outcome
    row = TABLE[point]
    assert outcome in (row.outcome, row.or_else)
