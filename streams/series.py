"""A series: one metric under one set of labels, for whoever records into it often."""

from typing import Any

import structlog

log = structlog.get_logger(__name__)


class Series:
    """Spares a busy caller the look-up of its labels; as `Recorder`, it never raises."""

    __slots__ = ("_child", "_name")

    def __init__(self, name: str, child: Any) -> None:
        self._name = name
        self._child = child

    def add(self, amount: float = 1) -> None:
        """Count up."""
        try:
            self._child.inc(amount)
        except Exception:
            log.exception("metric_not_recorded", metric=self._name)

    def observe(self, value: float) -> None:
        """Add one observation to a histogram, in seconds."""
        try:
            self._child.observe(value)
        except Exception:
            log.exception("metric_not_recorded", metric=self._name)
