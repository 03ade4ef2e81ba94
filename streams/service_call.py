"""One call of a parser, measured: its metrics, and the event that tells it."""

import time
from types import TracebackType
from typing import Self

from schemas.errors import ParsewireError
from schemas.events import ServiceCalled
from streams.metrics import PARSER_CALLS, PARSER_PAGES, PARSER_SECONDS, Recorder
from streams.telemetry import Telemetry


class ServiceCall:
    """Measures from begin to end; `outcome` is `ok`, unless an error or somebody says so."""

    def __init__(
        self,
        recorder: Recorder,
        telemetry: Telemetry,
        parser: str,
        operation: str,
        *,
        tenant: str,
        traceparent: str | None,
    ) -> None:
        self._recorder = recorder
        self._telemetry = telemetry
        self._parser = parser
        self._operation = operation
        self._tenant = tenant
        self._traceparent = traceparent
        self._started = 0.0
        self.outcome = "ok"
        self.pages = 0

    def __enter__(self) -> Self:
        """Begin."""
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record how it ended."""
        if isinstance(error, ParsewireError):
            self.outcome = error.code.value
        elif error is not None:
            self.outcome = "cancelled"
        seconds = time.perf_counter() - self._started
        self._recorder.add(PARSER_CALLS, parser=self._parser, outcome=self.outcome)
        self._recorder.observe(PARSER_SECONDS, seconds, parser=self._parser)
        self._recorder.add(PARSER_PAGES, self.pages, parser=self._parser)
        call = ServiceCalled(
            self._tenant, self._parser, self._operation, self.outcome, seconds, self.pages
        )
        self._telemetry.emit(call, self._traceparent)
