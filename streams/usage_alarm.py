"""The alarm: looks at the windows again and again, and says each alert once.

An alert is said first and remembered afterwards: a death in between says it twice, under one id.
"""

import time
from collections.abc import Awaitable, Callable

import structlog

from schemas.codec import encode, type_name
from schemas.topics import USAGE_ALERTS, key_of
from streams.bus.base import Outgoing, Sender
from streams.repeating import repeat
from streams.reservations import standing
from streams.tables.base import Row, Tables
from streams.usage import Usage
from streams.usage_alerts import Raised, raised

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_BUDGETS_SECONDS = 3.0


class UsageAlarm:
    """Compares the windows with the budgets; `keep` makes durable what is remembered."""

    def __init__(
        self,
        usage: Usage,
        tables: Tables,
        producer: Sender,
        keep: Callable[[], Awaitable[None]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._usage = usage
        self._tables = tables
        self._producer = producer
        self._keep = keep
        self._clock = clock
        self._budgets: list[Row] = []
        self._read_again_at = clock()

    async def run(self) -> None:
        """Look until cancelled; an absent broker or database only delays."""
        await repeat(self.look, _LOOK_SECONDS, failed="usage_alarm_waits")

    async def look(self) -> None:
        """Say what is to be said at present, and remember it."""
        if self._clock() >= self._read_again_at:
            zone = self._usage.zone
            self._budgets = await self._tables.read(lambda tx: standing(tx, zone))
            self._read_again_at = self._clock() + _BUDGETS_SECONDS
        alerts = raised(self._usage, self._budgets)
        for alert in alerts:
            await self._say(alert)
        if alerts:
            await self._keep()

    async def _say(self, alert: Raised) -> None:
        value, headers = encode(alert.event)
        key = key_of(alert.event.body).encode()
        await self._producer.send(Outgoing(USAGE_ALERTS.name, key, value, headers))
        self._usage.note_said(alert.event.id, alert.until_ms)
        log.info("usage_alert_sent", type=type_name(alert.event.body), alert=alert.event.id)
