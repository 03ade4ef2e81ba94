"""The sender of alerts: due ones go to the operator's webhook, signed, until it has taken them."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from schemas.signature_scheme import STANDARD_WEBHOOKS
from schemas.signatures import sign
from streams.backoff import Backoff
from streams.metrics import Recorder
from streams.money_metrics import ALERTS
from streams.repeating import repeat
from streams.tables.base import Row, Tables, Transaction

log = structlog.get_logger(__name__)

MOST_TRIES = 20
"""With waits of 30 s, doubling to 4 h, each full of jitter, they fill a day on average."""

_BASE_SECONDS = 30.0
_CAP_SECONDS = 4 * 3600.0
_HELD_MS = 60_000
"""Longer than a call may last: until then an alert is with the sender that took it."""
_MOST = 16
_GONE = 410


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver said, in a few words fit to show; no status where it said nothing."""

    status: int | None
    words: str = ""

    @property
    def taken(self) -> bool:
        """Tell whether the receiver has the alert."""
        return self.status is not None and 200 <= self.status < 300


class AlertHook(Protocol):
    """The operator's webhook."""

    async def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send this once, within less than a minute; nothing raises."""
        ...


@dataclass(frozen=True, slots=True)
class _Taken:
    id: str
    type: str
    body: bytes
    tries: int
    taken_ms: int
    held_ms: int


class AlertSender:
    """Sends due alerts; any number of senders do no harm to each other.

    A receiver may get an alert twice, under the same `webhook-id`: when the sender dies after the
    call, or the receiver takes it after its time.
    """

    def __init__(
        self,
        tables: Tables,
        hook: AlertHook,
        key: bytes,
        recorder: Recorder,
        *,
        every_seconds: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._tables = tables
        self._hook = hook
        self._key = key
        self._recorder = recorder
        self._every_seconds = every_seconds
        self._chance = chance

    async def run(self) -> None:
        """Tick until cancelled; trouble of the tables only delays."""
        await repeat(self._tick, self._every_seconds, failed="alerts_not_sent")

    async def _tick(self) -> bool:
        """Tell whether there may be more."""
        return await self.tick() == _MOST

    async def tick(self) -> int:
        """Send the due alerts, 16 at most, and tell how many there were."""
        due = await self._tables.read(lambda tx: tx.all("alerts.due", most=_MOST))
        if not due:
            return 0
        taken = await self._tables.write(lambda tx: self._take(tx, due))
        answers = await asyncio.gather(*(self._call(alert) for alert in taken))
        told = list(zip(taken, answers, strict=True))
        for (alert, answer), outcome in zip(
            told, await self._tables.write(lambda tx: self._note(tx, told)), strict=True
        ):
            self._say(alert, answer, outcome)
        return len(due)

    async def _take(self, tx: Transaction, due: Sequence[Row]) -> list[_Taken]:
        held_ms = tx.now_ms + _HELD_MS
        return [
            _Taken(
                row["id"], row["type"], row["body"].encode(), row["tries"] + 1, tx.now_ms, held_ms
            )
            for row in due
            if await tx.run("alerts.take", id=row["id"], due_ms=row["next_try_ms"], held_ms=held_ms)
        ]

    async def _call(self, alert: _Taken) -> Answer:
        if alert.tries > MOST_TRIES:
            # Whoever made the last try died in it.
            return Answer(None, "nobody lived to tell of the last try")
        signed = sign(
            STANDARD_WEBHOOKS,
            self._key,
            alert.body,
            event_id=alert.id,
            unix_seconds=alert.taken_ms // 1000,
        )
        headers = {"Content-Type": "application/json", **dict(signed)}
        return await self._hook.post(headers, alert.body)

    async def _note(self, tx: Transaction, told: Sequence[tuple[_Taken, Answer]]) -> list[str]:
        """Write what came of each, and name it."""
        return [await self._note_one(tx, alert, answer) for alert, answer in told]

    async def _note_one(self, tx: Transaction, alert: _Taken, answer: Answer) -> str:
        if answer.taken:
            await tx.run("alerts.deliver", id=alert.id)
            return "delivered"
        given_up = answer.status == _GONE or alert.tries >= MOST_TRIES
        await tx.run(
            "alerts.put_off",
            id=alert.id,
            held_ms=alert.held_ms,
            next_ms=None if given_up else tx.now_ms + self._wait_ms(alert),
            error=_error(answer),
        )
        return "given_up" if given_up else "failed"

    def _wait_ms(self, alert: _Taken) -> int:
        backoff = Backoff(_BASE_SECONDS, _CAP_SECONDS, self._chance, failures=alert.tries - 1)
        return int(backoff.next_seconds() * 1000)

    def _say(self, alert: _Taken, answer: Answer, outcome: str) -> None:
        self._recorder.add(ALERTS, type=alert.type, outcome=outcome)
        level = {"delivered": log.info, "failed": log.warning, "given_up": log.error}[outcome]
        # The receiver's own words stay in the row: nobody knows what they hold.
        told = answer.words if answer.status is None else answer.status
        level(f"alert_{outcome}", alert=alert.id, tries=alert.tries, answer=told)


def _error(answer: Answer) -> str:
    said = f": {answer.words}" if answer.words else ""
    return answer.words if answer.status is None else f"answered {answer.status}{said}"
