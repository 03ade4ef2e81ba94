"""The health of webhooks: what each source was sent since the start, and how it is configured."""

from collections.abc import Iterable
from datetime import UTC, datetime

from schemas.http import WebhooksBody, WebhookSourceBody
from schemas.webhook_source import Source


class Tally:
    """What came of one source's webhooks."""

    def __init__(self) -> None:
        self._accepted = 0
        self._refused = 0
        self._accepted_at: float | None = None
        self._refused_at: float | None = None

    def accept(self, webhooks: int, unix_seconds: float) -> None:
        """Count so many that were published."""
        self._accepted += webhooks
        self._accepted_at = unix_seconds

    def refuse(self, unix_seconds: float) -> None:
        """Count one that was not."""
        self._refused += 1
        self._refused_at = unix_seconds

    def show(self, source: Source, unix_seconds: float) -> WebhookSourceBody:
        """Show a source without anything secret."""
        active = [c for c in source.credentials if c.active(unix_seconds)]
        expiries = [c.expires_at for c in active if c.expires_at is not None]
        return WebhookSourceBody(
            configured=bool(active),
            schemes=[scheme.name for scheme in source.schemes],
            headers=[scheme.header for scheme in source.schemes],
            # A secret stands once for each scheme.
            active_secrets=len({credential.label for credential in active}),
            next_expiry=_moment(min(expiries, default=None)),
            accepted=self._accepted,
            refused=self._refused,
            last_accepted_at=_moment(self._accepted_at),
            last_refused_at=_moment(self._refused_at),
        )


def show_all(sources: Iterable[tuple[Source, Tally]], unix_seconds: float) -> WebhooksBody:
    """Show every source by its name."""
    return WebhooksBody(
        {source.name: tally.show(source, unix_seconds) for source, tally in sources}
    )


def _moment(unix_seconds: float | None) -> datetime | None:
    return None if unix_seconds is None else datetime.fromtimestamp(unix_seconds, UTC)
