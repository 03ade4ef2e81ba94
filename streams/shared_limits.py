"""Shared limits: the circuit and the token bucket of an account, read and written by version."""

import orjson

from streams.circuit import Circuit, Standing, Trouble
from streams.tables.base import Transaction
from streams.token_bucket import Bucket, Rate, full_bucket


class LostRaceError(Exception):
    """Another process wrote between the reading and the writing: do it again."""


async def read_circuit(tx: Transaction, account: str) -> tuple[Circuit, int]:
    """Give an account's circuit and its row's version, 0 where there is no row yet."""
    row = await tx.one("limits.circuit", account=account)
    if row is None:
        return Circuit(since_ms=tx.now_ms), 0
    values = dict(row)
    version: int = values.pop("version")
    values["state"] = Standing(values["state"])
    values["errors"] = tuple(Trouble(*error) for error in orjson.loads(values["errors"]))
    return Circuit(**values), version


async def save_circuit(tx: Transaction, account: str, circuit: Circuit, seen: int) -> None:
    """Write a circuit whose row is still at the version `seen`, or raise LostRaceError."""
    errors = [(error.at_ms, error.operation, error.code) for error in circuit.errors]
    changed = await tx.run(
        "limits.save_circuit",
        account=account,
        state=circuit.state.value,
        epoch=circuit.epoch,
        failures=circuit.failures,
        opens=circuit.opens,
        since_ms=circuit.since_ms,
        until_ms=circuit.until_ms,
        reason=circuit.reason,
        last_success_ms=circuit.last_success_ms,
        last_failure_ms=circuit.last_failure_ms,
        errors=orjson.dumps(errors).decode(),
        seen=seen,
    )
    if changed != 1:
        raise LostRaceError


async def read_bucket(tx: Transaction, account: str, rate: Rate) -> tuple[Bucket, int]:
    """Give an account's bucket, filled up to the present, and its row's version (0: no row)."""
    row = await tx.one("limits.bucket", account=account)
    if row is None:
        return full_bucket(tx.now_ms, rate), 0
    values = dict(row)
    version: int = values.pop("version")
    return Bucket(**values).refilled(tx.now_ms, rate), version


async def save_bucket(tx: Transaction, account: str, bucket: Bucket, seen: int) -> None:
    """Write a bucket whose row is still at the version `seen`, or raise LostRaceError."""
    changed = await tx.run(
        "limits.save_bucket",
        account=account,
        tokens_micro=bucket.tokens_micro,
        refilled_ms=bucket.refilled_ms,
        slowed=bucket.slowed,
        slow_until_ms=bucket.slow_until_ms,
        seen=seen,
    )
    if changed != 1:
        raise LostRaceError
