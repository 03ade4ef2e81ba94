"""The shape of a metric: what stands in the closed list."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: its Prometheus name, kind, labels and meaning."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
