"""HTTP bodies of the services: what parses, how it does, and what it may."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class CircuitBody:
    """A circuit; open without `until`, it waits for a person."""

    state: str
    since: datetime | None
    until: datetime | None
    reason: str | None
    failures_in_a_row: int


@dataclass(frozen=True, slots=True)
class RateBody:
    """A shared rate; `left` calls may start at once, below 0 so many wait.

    `slowed` tells how often the refill is halved, because the other side refused calls.
    """

    requests_per_minute: float
    burst: int
    left: float
    slowed: int


@dataclass(frozen=True, slots=True)
class ServiceErrorBody:
    """A call that failed."""

    at: datetime
    operation: str
    code: str


@dataclass(frozen=True, slots=True)
class ServiceDetails:
    """What operators see of a service elsewhere; the last answer is noted every half minute."""

    circuit: CircuitBody
    rate: RateBody
    last_success_at: datetime | None
    last_failure_at: datetime | None
    errors: list[ServiceErrorBody]


@dataclass(frozen=True, slots=True)
class ServiceBody:
    """A parser: `ok`, `slowed`, `recovering`, `down`, or `unknown` where nobody called it yet."""

    name: str
    kind: str
    health: str
    details: ServiceDetails | None = None


@dataclass(frozen=True, slots=True)
class ServicesBody:
    """The deployment's mode and parsers; operators see what was changed at run time, too.

    `ignored` are the changes that this environment refuses.
    """

    mode: str
    services: list[ServiceBody]
    changed: list[str] | None = None
    ignored: list[str] | None = None
