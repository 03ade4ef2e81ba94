"""The report on the services: the mode, and how each parser does by its last calls."""

from datetime import datetime

from schemas.periods import moment_of
from schemas.service_bodies import (
    CircuitBody,
    RateBody,
    ServiceBody,
    ServiceDetails,
    ServiceErrorBody,
    ServicesBody,
)
from streams.circuit import Standing
from streams.health import Health, read_health
from streams.settings import Defaults, read_effective
from streams.tables.base import Transaction


async def read_services(tx: Transaction, defaults: Defaults, *, details: bool) -> ServicesBody:
    """Read the report; the details are for operators."""
    found = await read_effective(tx, defaults)
    services = [ServiceBody(name, "local", "ok") for name in defaults.local_parsers]
    if found.mode == "mock":
        services = [ServiceBody("mock", "mock", "ok")]
    for account, rate in found.rates.items():
        health = await read_health(tx, account, rate)
        shown = _details(health) if details else None
        services.append(ServiceBody(account, "remote", _word(health), shown))
    if not details:
        return ServicesBody(found.mode, services)
    return ServicesBody(found.mode, services, list(found.changed), list(found.ignored))


def _word(health: Health) -> str:
    circuit = health.circuit
    if circuit.state is Standing.OPEN:
        return "down"
    if circuit.state is Standing.HALF_OPEN:
        return "recovering"
    if circuit.last_success_ms is None:
        return "unknown"
    return "slowed" if health.bucket.slowed else "ok"


def _details(health: Health) -> ServiceDetails:
    circuit, rate = health.circuit, health.rate
    return ServiceDetails(
        circuit=CircuitBody(
            state=circuit.state.value,
            since=_moment(circuit.since_ms),
            until=_moment(circuit.until_ms),
            reason=circuit.reason,
            failures_in_a_row=circuit.failures,
        ),
        rate=RateBody(
            requests_per_minute=rate.per_minute,
            burst=rate.burst,
            left=round(health.tokens, 3),
            slowed=health.bucket.slowed,
        ),
        last_success_at=_moment(circuit.last_success_ms),
        last_failure_at=_moment(circuit.last_failure_ms),
        errors=[
            ServiceErrorBody(moment_of(error.at_ms), error.operation, error.code)
            for error in circuit.errors
        ],
    )


def _moment(unix_ms: int | None) -> datetime | None:
    return None if unix_ms is None else moment_of(unix_ms)
