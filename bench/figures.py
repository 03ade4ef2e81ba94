"""Figures: what was measured, in its unit, with the goal that it has."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


class BenchError(Exception):
    """A measurement broke; the message says where to look."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the result: a ratio has a goal, what it was made of has none."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def goal(self) -> str | None:
        """Write the goal as people read it."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return None

    @property
    def met(self) -> bool:
        """Tell whether the goal is reached; what has none is."""
        if self.at_least is not None and self.value < self.at_least:
            return False
        return self.at_most is None or self.value <= self.at_most


def median_ratio(upper: Sequence[float], lower: Sequence[float]) -> float:
    """Give the median of the repetitions' own ratios: both sides of each ran side by side."""
    return statistics.median(u / v for u, v in zip(upper, lower, strict=True))


def percentile(values: Sequence[float], percent: int) -> float:
    """Give the value that `percent` of a hundred do not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
