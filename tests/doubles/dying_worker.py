"""A worker that kills itself where it is told to: `python -m tests.doubles.dying_worker POINT`.

The point is cut in from outside; up to there, everything is as in any other worker.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import uvloop
from aiohttp import ClientResponse

from schemas.cost_events import CostReleased, CostReserved, CostSettled
from schemas.events import ParseDeferred, ParseQueued
from services.config import load_settings
from services.logs import configure_logs
from services.roles import ROLES
from services.worker import run_worker
from streams.attempts import Attempts
from streams.costs import Costs
from streams.fold import FoldGround
from streams.parsers.llamaparse import LlamaParse
from streams.relay import Relay
from streams.tables.base import OutboxRow
from streams.vendor_look import VendorLook
from streams.vendor_settle import VendorSettle

IsIt = Callable[..., bool]
"""Tells by a call's arguments whether it is the one."""


def die() -> None:
    """End as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: type, name: str, is_it: IsIt = lambda *_: True) -> Callable[[], None]:
    """Die before a call."""

    def cut_in() -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def cut(*args: Any, **kwargs: Any) -> Any:
            if is_it(*args):
                die()
            return original(*args, **kwargs)

        setattr(owner, name, cut)

    return cut_in


def after(owner: type, name: str, is_it: IsIt = lambda *_: True) -> Callable[[], None]:
    """Die once an asynchronous call has ended well."""

    def cut_in() -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        async def cut(*args: Any, **kwargs: Any) -> Any:
            result = await original(*args, **kwargs)
            if is_it(*args):
                die()
            return result

        setattr(owner, name, cut)

    return cut_in


def ends_as(kind: type) -> IsIt:
    """Tell whether an attempt ends by this event."""
    return lambda _attempts, _attempt, end, *_: isinstance(end, kind)


def announces(kind: type) -> IsIt:
    """Tell whether an event of this type is handed to the relay."""

    def is_it(_relay: Relay, rows: Sequence[OutboxRow]) -> bool:
        return any(f'.{kind.__name__}"'.encode() in row.headers for row in rows)

    return is_it


def folds(kind: type) -> IsIt:
    """Tell whether an event of this type is among those that the fold applies."""
    return lambda _fold, _tx, events: any(isinstance(event.body, kind) for event in events)


def has_folded(kind: type) -> IsIt:
    """Tell whether an event of this type was applied and committed."""

    def is_it(ground: FoldGround, batch: Any) -> bool:
        if ground.name != "costs":
            return False
        headers = [pair for records in batch.values() for r in records for pair in r.headers]
        return any(
            name == "ce_type" and raw.endswith(kind.__name__.encode()) for name, raw in headers
        )

    return is_it


def is_order(response: ClientResponse, *_: object) -> bool:
    """Tell whether this answers the POST that creates a job."""
    return response.method == "POST" and response.url.path == "/api/v2/parse"


POINTS: dict[str, Callable[[], None]] = {
    "before the hold": before(Attempts, "intend"),
    "held, before the POST": after(Attempts, "intend"),
    "POST answered, before its answer is read": after(ClientResponse, "start", is_order),
    "answer read, before ParseQueued is written": before(Attempts, "end", ends_as(ParseQueued)),
    "before ParseQueued is relayed": before(Relay, "_offer", announces(ParseQueued)),
    "refused there, before that is written": before(Attempts, "end", ends_as(ParseDeferred)),
    "before the release is relayed": before(Relay, "_offer", announces(CostReleased)),
    "before the hold is relayed": before(Relay, "_offer", announces(CostReserved)),
    "hold folded, before the commit": after(Costs, "apply", folds(CostReserved)),
    "hold folded and committed": before(FoldGround, "_moved", has_folded(CostReserved)),
    "webhook taken, before the result is fetched": before(LlamaParse, "fetch"),
    "result and bill there, before they are committed": after(VendorLook, "_say"),
    "late bill read, before it is written": before(VendorSettle, "_settle"),
    "before the bill is relayed": before(Relay, "_offer", announces(CostSettled)),
    "bill folded, before the commit": after(Costs, "apply", folds(CostSettled)),
    "bill folded and committed": before(FoldGround, "_moved", has_folded(CostSettled)),
}


if __name__ == "__main__":
    POINTS[sys.argv[1]]()
    settings = load_settings()
    configure_logs(settings, process="dying-worker")
    uvloop.run(run_worker(settings, frozenset(ROLES), metrics_port=0))
