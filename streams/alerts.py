"""The alerts fold: each alert once, as a row for the webhook and a line in the log."""

import re
from collections.abc import Sequence

import orjson
import structlog

from schemas.codec import type_name
from schemas.errors import Code, PermanentError
from schemas.events import Alert, Event
from schemas.periods import unix_ms
from schemas.topics import USAGE_ALERTS, Topic
from streams.alert_text import text_of
from streams.metrics import Recorder
from streams.money_metrics import ALERTS
from streams.tables.base import Transaction

log = structlog.get_logger(__name__)

_ID = re.compile(r"[!-~]{1,200}")


class Alerts:
    """Keeps what the usage windows raise; `send` says that a webhook waits for it."""

    name = "alerts"
    topics: tuple[Topic, ...] = (USAGE_ALERTS,)

    def __init__(self, recorder: Recorder, *, send: bool) -> None:
        self._recorder = recorder
        self._send = send

    async def apply(self, tx: Transaction, events: Sequence[Event]) -> None:
        """Keep the alerts that are new; the event's id is the row's."""
        alerts = [(event, _alert_of(event)) for event in events]
        raised = [(event, alert) for event, alert in alerts if await self._keep(tx, event, alert)]
        # Last, since what is said stays said where the batch fails and is applied anew.
        for event, alert in raised:
            self._say(event, alert)

    async def _keep(self, tx: Transaction, event: Event, alert: Alert) -> bool:
        kept = await tx.run(
            "alerts.raise",
            id=event.id,
            type=type_name(alert),
            tenant=alert.tenant,
            body=message_of(event, alert).decode(),
            raised_ms=unix_ms(event.time),
            next_try_ms=tx.now_ms if self._send else None,
        )
        return kept == 1

    def _say(self, event: Event, alert: Alert) -> None:
        kind = type_name(alert)
        self._recorder.add(ALERTS, type=kind, outcome="raised")
        log.warning(
            "alert_raised", alert=event.id, type=kind, tenant=alert.tenant, text=text_of(alert)
        )


def message_of(event: Event, alert: Alert) -> bytes:
    """Write what the webhook is sent: `type`, `id`, `raised_at`, `text` and `data`, in JSON."""
    return orjson.dumps(
        {
            "type": type_name(alert),
            "id": event.id,
            "raised_at": event.time,
            "text": text_of(alert),
            "data": alert,
        }
    )


def _alert_of(event: Event) -> Alert:
    if not isinstance(event.body, Alert):
        raise PermanentError(
            Code.POISON_EVENT, f"{type_name(event.body)} does not belong in usage.alerts"
        )
    if _ID.fullmatch(event.id) is None:
        # It becomes a header of the webhook, and nobody could send another.
        raise PermanentError(Code.POISON_EVENT, "an alert's id has 1 to 200 printable letters")
    return event.body
