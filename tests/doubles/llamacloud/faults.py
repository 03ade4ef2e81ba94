"""What the double does wrong on request, drawn from one seeded deck."""

import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Fault(StrEnum):
    """A way to fail.

    Calls: the first four groups. Webhooks (operation `webhook`): the last one.
    """

    UNAUTHORIZED = "unauthorized"
    CREDITS_SPENT = "credits_spent"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    PLAN_LIMIT = "plan_limit"
    SERVER_ERROR = "server_error"
    BAD_GATEWAY = "bad_gateway"

    CUT_BEFORE = "cut_before"  # the connection dies and nothing was done
    CUT_AFTER = "cut_after"  # all was done, the answer is never sent
    HANG_BEFORE = "hang_before"  # nothing is done, no answer for `seconds`
    HANG_AFTER = "hang_after"  # all was done, no answer for `seconds`

    SLOW_BODY = "slow_body"  # half of the body, then `seconds` of silence, then the rest
    SHORT_BODY = "short_body"  # half of the body, then the connection dies
    GARBLED = "garbled"  # 200 with a body that is not JSON

    RESULT_NOT_FOUND = "result_not_found"  # only `get` with content of a COMPLETED job

    LOST = "lost"  # never sent
    DOUBLED = "doubled"  # sent twice, with one event id
    LATE = "late"  # sent after `seconds`
    EARLY = "early"  # the job ends, and says so, before the submission is answered
    REORDERED = "reordered"  # held until the next webhook was sent
    FORGED = "forged"  # signed with another secret
    UNSIGNED = "unsigned"  # without a signature
    WRONG_REGION = "wrong_region"  # rightly signed, about a job that this region does not know
    EXTRA_FIELDS = "extra_fields"  # more fields than documented
    MISSING_JOB_ID = "missing_job_id"  # the job only in `data.id`
    MISSING_FIELDS = "missing_fields"  # no event id, no timestamp, no job
    UNKNOWN_EVENT = "unknown_event"  # an event type that nobody documented
    NOT_JSON = "not_json"  # a body that is not JSON, rightly signed


BEFORE = frozenset({Fault.CUT_BEFORE, Fault.HANG_BEFORE})
AFTER = frozenset(
    {Fault.CUT_AFTER, Fault.HANG_AFTER, Fault.SLOW_BODY, Fault.SHORT_BODY, Fault.GARBLED}
)
# Texts in the manner of LlamaCloud's error reference; no 429 carries a Retry-After.
REFUSALS: Mapping[Fault, tuple[int, str]] = {
    Fault.UNAUTHORIZED: (401, "Invalid authentication token"),
    Fault.CREDITS_SPENT: (402, "You've exceeded the maximum number of credits for your plan."),
    Fault.FORBIDDEN: (403, "You do not have access to this project."),
    Fault.NOT_FOUND: (404, "Parse job not found"),
    Fault.TOO_LARGE: (413, "File size exceeds the maximum allowed size."),
    Fault.RATE_LIMITED: (429, "Rate limit exceeded. Please try again later."),
    Fault.PLAN_LIMIT: (429, "You've already reached the maximum number of users for your plan."),
    Fault.SERVER_ERROR: (500, "Internal server error. Correlation ID: {correlation_id}"),
    Fault.BAD_GATEWAY: (502, "<html><body><h1>502 Bad Gateway</h1></body></html>"),
}
CALL_FAULTS = frozenset(REFUSALS) | BEFORE | AFTER | {Fault.RESULT_NOT_FOUND}
WEBHOOK_FAULTS = frozenset(Fault) - CALL_FAULTS

ANY = "*"
WEBHOOK = "webhook"
DOWNLOAD = "download"
EVERY_CALL = frozenset(
    {"upload_file", "list_files", "get_file", "file_content", "delete_file"}
    | {"create", "parse_upload", "get", "list", "cancel", "delete", "versions"}
    | {"create_hook", "get_hook", "list_hooks", "page_hooks", "update_hook", "delete_hook"}
)
OPERATIONS = EVERY_CALL | {DOWNLOAD, ANY, WEBHOOK}


@dataclass(slots=True)
class Injection:
    """One card of the deck: what goes wrong, where, how often; `hits` counts what it did."""

    operation: str
    fault: Fault
    times: int | None
    probability: float
    seconds: float
    status: int | None
    where: Callable[[Any], bool] | None = None
    hits: int = 0

    def spent(self) -> bool:
        """Tell whether it has done all that it was made for."""
        return self.times is not None and self.hits >= self.times


class Deck:
    """All injections; the first that applies is drawn, and a chance is tossed for each."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.cards: list[Injection] = []

    def add(self, card: Injection) -> Injection:
        """Put a card under the deck."""
        if card.operation == WEBHOOK and card.fault not in WEBHOOK_FAULTS:
            raise ValueError(f"{card.fault} is no fault of a webhook")
        if card.operation != WEBHOOK and card.fault not in CALL_FAULTS:
            raise ValueError(f"{card.fault} is a fault of webhooks: inject it into {WEBHOOK!r}")
        self.cards.append(card)
        return card

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self.cards.clear()

    def draw(self, operation: str, among: Iterable[Fault], subject: Any = None) -> Injection | None:
        """Draw what goes wrong with this operation, among these faults, if anything."""
        wanted = frozenset(among)
        names = {operation} if operation in {WEBHOOK, DOWNLOAD} else {operation, ANY}
        for card in self.cards:
            if card.operation not in names or card.fault not in wanted or card.spent():
                continue
            if card.where is not None and not card.where(subject):
                continue
            if self._random.random() < card.probability:
                card.hits += 1
                return card
        return None


@dataclass(frozen=True, slots=True)
class Quota:
    """So many calls of these operations in so many seconds, together."""

    operations: frozenset[str]
    calls: int
    seconds: float


class Meter:
    """Counts calls against quotas in a sliding window."""

    def __init__(self, quotas: Iterable[Quota], clock: Callable[[], float]) -> None:
        self._taken: list[tuple[Quota, deque[float]]] = [(quota, deque()) for quota in quotas]
        self._clock = clock

    def admits(self, operation: str) -> bool:
        """Count one call, and tell whether it is within every quota."""
        now = self._clock()
        mine = [(q, taken) for q, taken in self._taken if operation in q.operations]
        for quota, taken in mine:
            while taken and taken[0] <= now - quota.seconds:
                taken.popleft()
        if any(len(taken) >= quota.calls for quota, taken in mine):
            return False
        for _, taken in mine:
            taken.append(now)
        return True
