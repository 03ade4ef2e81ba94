"""Telemetry: measurements on their way to the bus, best effort."""

from typing import Protocol

from schemas.events import ServiceCalled, StageTimed


class Telemetry(Protocol):
    """Takes measurements; never blocks and never raises."""

    def emit(self, body: StageTimed | ServiceCalled, traceparent: str | None = None) -> None:
        """Publish a measurement, or drop and count it when the bus is too slow."""
        ...
