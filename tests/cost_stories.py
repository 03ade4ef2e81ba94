"""Cost events for tests: what an attempt's money does, one line each."""

from datetime import datetime, timedelta

from schemas.cost_events import CostCorrected, CostReleased, CostReserved, CostSettled
from schemas.events import Body, Event
from schemas.ids import derived_id

SERVICE = "llamaparse"


class Payer:
    """One attempt of a job, and what is said of its money."""

    def __init__(
        self,
        job: str,
        booked_at: datetime,
        *,
        tenant: str = "acme",
        service: str = SERVICE,
        attempt: int = 1,
    ) -> None:
        self._booked_at = booked_at
        self._who = (job, tenant, attempt, service, None, booked_at)

    def reserved(self, micro_usd: int, pages: int = 1) -> Event:
        return self._event(CostReserved(*self._who, pages, micro_usd), "reserved")

    def settled(self, micro_usd: int, pages: int = 1) -> Event:
        body = CostSettled(*self._who, "vendor-job", "billed", pages, micro_usd)
        return self._event(body, "settled")

    def released(self) -> Event:
        return self._event(CostReleased(*self._who, "ended"), "released")

    def corrected(self, micro_usd: int, pages: int = 0, *, number: int = 1) -> Event:
        body = CostCorrected(*self._who, "vendor-job", pages, micro_usd, 1.0)
        return self._event(body, f"corrected-{number}")

    def given_up(self, micro_usd: int, pages: int = 1) -> Event:
        body = CostSettled(*self._who, None, "estimated", pages, micro_usd)
        return self._event(body, "given up")

    def taken_back(self, micro_usd: int, pages: int = 1) -> Event:
        body = CostCorrected(*self._who, None, -pages, -micro_usd, 0.0)
        return self._event(body, "taken back")

    def _event(self, body: Body, kind: str) -> Event:
        event_id = derived_id(kind, *self._who[:3])
        return Event(event_id, "/test", self._booked_at + timedelta(seconds=1), body)
