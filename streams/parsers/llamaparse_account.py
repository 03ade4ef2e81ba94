"""A look at a LlamaCloud account: whether the key is taken, which versions there are, what time."""

import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from schemas.errors import Code
from streams.account import Account, AccountRefused, AccountTaken
from streams.parsers.llamaparse import LlamaParseOptions
from streams.parsers.llamaparse_answers import ListAnswer
from streams.parsers.llamaparse_calls import Call, Calls
from streams.parsers.llamaparse_refusals import Refusal
from streams.parsers.llamaparse_wire import open_session

_REFUSED = frozenset({401, 403})
_PART_OF_A_SECOND = 0.5
"""A Date names the second in which the answer was made."""


class LetThrough:
    """A Gate that holds nobody and learns nothing: a look must change neither rate nor circuit."""

    async def enter(self, operation: str, calls: int = 1) -> None:
        """Return at once."""

    async def note(self, operation: str, failure: Code | None) -> None:
        """Forget it."""


class DateWatch:
    """Notes from each answer how far our clock is ahead of the other side's, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.ahead_seconds: float | None = None
        self._clock = clock

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Let the request pass, and read the answer's Date."""
        sent = self._clock()
        response = await handler(request)
        self.note(response.headers.get("Date"), (sent + self._clock()) / 2)
        return response

    def note(self, written: str | None, unix_seconds: float) -> None:
        """Compare a Date with our time; one that is absent or no date tells nothing."""
        try:
            date = parsedate_to_datetime(written or "")
        except ValueError:
            return
        theirs = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        self.ahead_seconds = unix_seconds - theirs - _PART_OF_A_SECOND


async def look_at_account(
    options: LlamaParseOptions, *, clock: Callable[[], float] = time.time
) -> Account:
    """Ask by two calls that cost nothing: for the newest job, which needs the key, and versions.

    Raise TransientError where no answer comes, ValueError for an address without https.
    """
    watch = DateWatch(clock)
    async with open_session(watch) as session:
        calls = Calls(
            session,
            LetThrough(),
            url=options.url,
            api_key=options.api_key,
            project_id=options.project_id,
            secrets=options.secrets(),
        )
        newest = Call(
            *("look", "GET", "/api/v2/parse", options.call_seconds),
            query=[("page_size", "1")],
            expected=_REFUSED,
        )
        listed = await calls.ask(newest, ListAnswer)
        if isinstance(listed, Refusal):
            return AccountRefused(listed.status, listed.said)
        versions = Call(
            *("versions", "GET", "/api/v2/parse/versions", options.call_seconds), expected=_REFUSED
        )
        told = await calls.ask(versions, dict)
        if isinstance(told, Refusal):
            return AccountRefused(told.status, told.said)
    return _taken(told, watch.ahead_seconds)


def _taken(told: dict[Any, Any], ahead_seconds: float | None) -> AccountTaken:
    """Read what is of the documented shape; the rest tells nothing."""
    latest = told.get("latest")
    names = latest.items() if isinstance(latest, dict) else ()
    return AccountTaken(
        {
            tier: [version for version in versions if isinstance(version, str)]
            for tier, versions in told.items()
            if isinstance(versions, list)
        },
        {tier: version for tier, version in names if isinstance(version, str)},
        ahead_seconds,
    )
