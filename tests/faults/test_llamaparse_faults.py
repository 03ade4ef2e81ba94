"""What LlamaCloud may do wrong, row by row, and what must become of the document in each mode."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from tests.cloud_sides import Side, cancel, finish_unbilled, get_stuck, lose, open_side
from tests.cloud_wrongs import Ended, Seen, Wrong
from tests.doubles.llamacloud.behaviour import Call
from tests.doubles.llamacloud.content import Plan
from tests.doubles.llamacloud.faults import Fault

pytestmark = [
    pytest.mark.processes,
    pytest.mark.kafka,
    pytest.mark.asyncio(loop_scope="module"),
]

GIVEN_BACK = ("1 released 0",)
STRAIGHT = Ended(
    "uploaded parse_queued complete", "llamaparse", 1, ("billed 3",), money=("1 settled 3750",)
)
HERE = Ended("uploaded complete", "liteparse", 1, money=GIVEN_BACK)
NOT_EVEN_ASKED = Ended("uploaded complete", "liteparse", 0)
TAKEN = (202,)


@dataclass(frozen=True, slots=True)
class Row:
    """What goes wrong, how it must end in each mode, and what the webhooks are answered."""

    wrong: Wrong
    real: Ended
    hybrid: Ended
    answers: Sequence[int | None] | None = None
    parked: int = 0
    warnings: tuple[str, ...] = ()


def again(code: str, *, circuit: str | None = None) -> Ended:
    """Put off or failed once by this code before it was queued, then straight."""
    way = f"uploaded retry_wait({code}) uploaded parse_queued complete"
    money = (*GIVEN_BACK, "2 settled 3750")
    return Ended(way, "llamaparse", 2, ("billed 3",), circuit, money)


def not_ordered(code: str, *, circuit: str | None = None) -> Ended:
    """The same before it was ordered, when nothing was held yet."""
    return replace(again(code, circuit=circuit), creates=1, money=("2 settled 3750",))


def failed_there(code: str, bill: str, micro_usd: int = 0) -> Ended:
    """Failed once after it was queued, then straight."""
    way = f"uploaded parse_queued retry_wait({code}) uploaded parse_queued complete"
    money = (f"1 settled {micro_usd}", "2 settled 3750")
    return Ended(way, "llamaparse", 2, (bill, "billed 3"), money=money)


def then_here(code: str, bill: str, micro_usd: int = 0) -> Ended:
    """Failed once after it was queued, then served by this machine."""
    way = f"uploaded parse_queued retry_wait({code}) uploaded complete"
    return Ended(way, "liteparse", 1, (bill,), money=(f"1 settled {micro_usd}",))


def refused_for_ever(code: str) -> Ended:
    way = f"uploaded parse_queued failed_parse({code})"
    return Ended(way, "llamaparse", 1, ("unbilled",), money=("1 settled 0",))


def opens(reason: str) -> Ended:
    """Served by this machine, while the circuit waits for a person."""
    return replace(HERE, circuit=reason)


def on(operation: str, fault: Fault, **more: object) -> Wrong:
    return Wrong(faults=((operation, fault, more),))


def untold(fault: Fault) -> Wrong:
    """Nobody tells whether the job was created, and none is found for two minutes."""
    return Wrong(faults=(("create", fault, {}),), grows_old=True)


def hook(fault: Fault, *answers: int | None, parked: int = 0, **more: object) -> Row:
    """Whatever is wrong with a webhook, the result comes, once."""
    return Row(on("webhook", fault, **more), STRAIGHT, STRAIGHT, answers, parked)


def fetches(call: Call) -> bool:
    return "markdown" in ",".join(call.query.get("expand", []))


LOST_WORK = again("worker_lost")
SOME_PAGES = replace(STRAIGHT, bills=("billed 9",), money=("1 settled 11250",))
CACHED = replace(STRAIGHT, bills=("billed 0",), money=("1 settled 0",))

TABLE = {
    "nothing": Row(Wrong(), STRAIGHT, STRAIGHT, TAKEN),
    # calls
    "401": Row(
        on("create", Fault.UNAUTHORIZED),
        again("vendor_unauthorized", circuit="vendor_unauthorized"),
        opens("vendor_unauthorized"),
    ),
    "402": Row(
        on("create", Fault.CREDITS_SPENT),
        again("vendor_quota_spent", circuit="vendor_quota_spent"),
        opens("vendor_quota_spent"),
    ),
    "403": Row(
        on("upload_file", Fault.FORBIDDEN),
        not_ordered("vendor_unauthorized", circuit="vendor_unauthorized"),
        replace(NOT_EVEN_ASKED, circuit="vendor_unauthorized"),
    ),
    "429 of the rate": Row(
        on("create", Fault.RATE_LIMITED), again("vendor_rate_limited"), HERE, TAKEN
    ),
    "429 of the plan": Row(
        on("create", Fault.PLAN_LIMIT),
        again("vendor_quota_spent", circuit="vendor_quota_spent"),
        opens("vendor_quota_spent"),
    ),
    "500 to an upload": Row(
        on("upload_file", Fault.SERVER_ERROR),
        not_ordered("vendor_failed"),
        NOT_EVEN_ASKED,
    ),
    "upload cut": Row(
        on("upload_file", Fault.CUT_BEFORE),
        not_ordered("parser_unavailable"),
        NOT_EVEN_ASKED,
    ),
    "500": Row(untold(Fault.SERVER_ERROR), LOST_WORK, LOST_WORK),
    "502 in HTML": Row(untold(Fault.BAD_GATEWAY), LOST_WORK, LOST_WORK),
    "cut before": Row(untold(Fault.CUT_BEFORE), LOST_WORK, LOST_WORK),
    "silence before": Row(untold(Fault.HANG_BEFORE), LOST_WORK, LOST_WORK),
    "cut after": Row(on("create", Fault.CUT_AFTER), STRAIGHT, STRAIGHT, TAKEN),
    "silence after": Row(on("create", Fault.HANG_AFTER), STRAIGHT, STRAIGHT, TAKEN),
    "answer cut short": Row(on("create", Fault.SHORT_BODY), STRAIGHT, STRAIGHT, TAKEN),
    "answer garbled": Row(on("create", Fault.GARBLED), STRAIGHT, STRAIGHT, TAKEN),
    "slow answer": Row(on("create", Fault.SLOW_BODY, seconds=0.3), STRAIGHT, STRAIGHT, TAKEN),
    "slow result": Row(
        on("get", Fault.SLOW_BODY, seconds=0.3, where=fetches), STRAIGHT, STRAIGHT, TAKEN
    ),
    "result cut": Row(on("get", Fault.CUT_AFTER, where=fetches), STRAIGHT, STRAIGHT, TAKEN),
    "result garbled": Row(on("get", Fault.GARBLED, where=fetches), STRAIGHT, STRAIGHT, TAKEN),
    "404 after success": Row(on("get", Fault.RESULT_NOT_FOUND), STRAIGHT, STRAIGHT, TAKEN),
    "500 to a look": Row(on("get", Fault.SERVER_ERROR), STRAIGHT, STRAIGHT, TAKEN),
    # webhooks
    "lost": hook(Fault.LOST, None),
    "the only word": Row(
        Wrong(faults=(("create", Fault.CUT_AFTER, {}), ("webhook", Fault.EARLY, {}))),
        STRAIGHT,
        STRAIGHT,
        TAKEN,
    ),
    "doubled": hook(Fault.DOUBLED, 202, 202),
    "late": hook(Fault.LATE, 202, seconds=2.5),
    "early": hook(Fault.EARLY, 202),
    "reordered": hook(Fault.REORDERED, 202),
    "forged": hook(Fault.FORGED, 401, 401, 401),
    "unsigned": hook(Fault.UNSIGNED, 401, 401, 401),
    "wrong region": hook(Fault.WRONG_REGION, 202, parked=1),
    "unknown event": hook(Fault.UNKNOWN_EVENT, 202, parked=1),
    "more fields": hook(Fault.EXTRA_FIELDS, 202),
    "job in data.id": hook(Fault.MISSING_JOB_ID, 202),
    "fields missing": hook(Fault.MISSING_FIELDS, 202, parked=1),
    "no JSON": hook(Fault.NOT_JSON, 202, parked=1),
    # jobs
    "protected": Row(
        Wrong(plan=Plan(error="PDF_IS_PROTECTED: the PDF needs a password")),
        refused_for_ever("document_encrypted"),
        refused_for_ever("document_encrypted"),
        TAKEN,
    ),
    "timed out there": Row(
        Wrong(plan=Plan(error="TIMEOUT: the job took too long")),
        failed_there("vendor_failed", "unbilled"),
        then_here("vendor_failed", "unbilled"),
    ),
    "cancelled there": Row(
        Wrong(there=cancel),
        failed_there("vendor_cancelled", "unbilled"),
        then_here("vendor_cancelled", "unbilled"),
    ),
    "stuck there": Row(
        Wrong(plan=Plan(stuck=True), there=get_stuck),
        failed_there("vendor_stuck", "unbilled"),
        then_here("vendor_stuck", "unbilled"),
    ),
    "lost there": Row(
        Wrong(there=lose),
        failed_there("vendor_lost", "never_told", 3_750),
        then_here("vendor_lost", "never_told", 3_750),
    ),
    "some pages": Row(
        Wrong(plan=Plan(failed_pages={2: "unreadable"}), pages=3),
        SOME_PAGES,
        SOME_PAGES,
        TAKEN,
        warnings=("page_failed:2:unreadable",),
    ),
    "cached": Row(
        Wrong(twice=True),
        CACHED,
        CACHED,
        TAKEN,
    ),
    "late bill": Row(Wrong(there=finish_unbilled), STRAIGHT, STRAIGHT, TAKEN),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sides(
    kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Side]]:
    async with AsyncExitStack() as stack:
        opened = {}
        for mode in ("real", "hybrid"):
            side = open_side(tmp_path_factory.mktemp(mode), kafka_bootstrap, mode)
            opened[mode] = await stack.enter_async_context(side)
        yield opened


@pytest.mark.parametrize("name", TABLE)
async def test_a_document_survives(sides: dict[str, Side], name: str) -> None:
    row = TABLE[name]
    real, hybrid = await asyncio.gather(
        sides["real"].suffer(name, row.wrong), sides["hybrid"].suffer(name, row.wrong)
    )
    assert (real.ended, hybrid.ended) == (row.real, row.hybrid)
    for seen in (real, hybrid):
        check(row, seen)


def check(row: Row, seen: Seen) -> None:
    if row.answers is not None and seen.ended.parser == "llamaparse":
        assert tuple(seen.answers) == row.answers
    assert seen.parked == row.parked
    assert tuple(seen.warnings) == row.warnings
