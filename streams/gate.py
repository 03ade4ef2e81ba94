"""The gate before a parser elsewhere: one rate and one circuit for all processes, in the tables."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass

import structlog

from schemas.errors import Code, TransientError
from streams.circuit import Circuit, Standing
from streams.metrics import GATE_CALLS, GATE_WAIT_SECONDS, Recorder
from streams.shared_limits import (
    LostRaceError,
    read_bucket,
    read_circuit,
    save_bucket,
    save_circuit,
)
from streams.tables.base import T, Tables, Transaction, Unit
from streams.token_bucket import Rate

log = structlog.get_logger(__name__)

LONGEST_WAIT_SECONDS = 5.0
"""How long a call that begins with a document waits here for its token; one that would wait longer
is put off."""

LONGEST_WAIT_TO_GO_ON_SECONDS = 15.0
"""How long any other call waits at the most, where its own deadline does not come sooner. Were it
no longer, a crowd of documents that want to begin would take every token, and none that has begun
would come to its end."""

_RACES = 10
_OTHERS_PROBE_MS = 15_000

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pass:
    """What let a call through: the circuit's epoch, by which its end is judged."""

    account: str
    epoch: int
    wait_ms: int
    circuit: Circuit
    entered_ms: int


_PASS: ContextVar[Pass | None] = ContextVar("gate_pass", default=None)
"""The pass of the call that this task is at."""


class SharedGate:
    """The gate of one account. `enter` and `note` of a call belong to one task.

    Every entry is one transaction: it takes a token, or refuses, by the table's clock. An answer
    is written only where it changes something, and every half minute.
    """

    def __init__(
        self,
        tables: Tables,
        account: str,
        rate: Callable[[], Rate],
        recorder: Recorder,
        *,
        begins_by: str = "upload",
        to_go_on_seconds: float = LONGEST_WAIT_TO_GO_ON_SECONDS,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._tables = tables
        self._account = account
        self._rate = rate
        self._recorder = recorder
        self._sleep = sleep
        self._begins_by = begins_by
        self._to_go_on_seconds = to_go_on_seconds

    async def enter(self, operation: str, calls: int = 1) -> None:
        """Return when the call may start, having waited for its token.

        Of the tokens that it pays, it waits for the first alone. Raise TransientError CIRCUIT_OPEN
        or VENDOR_RATE_LIMITED with the wait.
        """
        try:
            entry = await self._write(lambda tx: self._take(tx, operation, calls))
            if entry.wait_ms:
                self._recorder.observe(
                    GATE_WAIT_SECONDS, entry.wait_ms / 1000, service=self._account
                )
                await self._sleep(entry.wait_ms / 1000)
                await self._tables.read(lambda tx: self._check(tx, entry))
        except TransientError as error:
            self._count(operation, error.code.value)
            raise
        self._count(operation, "entered")
        _PASS.set(entry)

    async def note(self, operation: str, failure: Code | None) -> None:
        """Take how the call ended: None for an answer, else why there was none."""
        entry = _PASS.get()
        if entry is None or entry.account != self._account:
            raise RuntimeError(f"{operation}: noted by a task that did not enter")
        _PASS.set(None)
        if failure is Code.VENDOR_RATE_LIMITED:
            log.warning("vendor_rate_limited", service=self._account, operation=operation)
            await self._write(self._slow)
        circuit = entry.circuit
        if circuit.judged(entry.entered_ms, entry.epoch, operation, failure) is circuit:
            return
        before, after = await self._write(
            lambda tx: self._judge(tx, entry.epoch, operation, failure)
        )
        if before.state is not after.state:
            log.warning(
                "circuit_moved",
                service=self._account,
                state=after.state.value,
                reason=after.reason,
                failures=after.failures,
            )

    async def _take(self, tx: Transaction, operation: str, calls: int) -> Pass:
        circuit, seen = await read_circuit(tx, self._account)
        refused_ms = circuit.refuses_ms(tx.now_ms)
        if refused_ms is not None:
            raise _circuit_open(self._account, circuit, refused_ms)
        wait_ms = await self._pay(tx, operation, calls) if calls else 0
        entered = circuit.entered(tx.now_ms)
        if entered is not circuit:
            await save_circuit(tx, self._account, entered, seen)
        return Pass(self._account, entered.epoch, wait_ms, entered, tx.now_ms)

    async def _pay(self, tx: Transaction, operation: str, calls: int) -> int:
        """Take the tokens, and give the wait for the first of them."""
        rate = self._rate()
        bucket, seen = await read_bucket(tx, self._account, rate)
        wait_ms = bucket.taken().wait_ms(rate)
        longest = self._to_go_on_seconds
        if operation == self._begins_by:
            longest = min(longest, LONGEST_WAIT_SECONDS)
        if wait_ms > 1000 * longest:
            raise TransientError(
                Code.VENDOR_RATE_LIMITED,
                f"the rate of {self._account} is used up",
                retry_after_seconds=wait_ms / 1000,
            )
        await save_bucket(tx, self._account, bucket.taken(calls), seen)
        return wait_ms

    async def _check(self, tx: Transaction, entry: Pass) -> None:
        """Refuse a call after its wait when the circuit opened meanwhile."""
        circuit, _ = await read_circuit(tx, self._account)
        if circuit.epoch != entry.epoch and circuit.state is not Standing.CLOSED:
            refused_ms = circuit.refuses_ms(tx.now_ms) or 0
            raise _circuit_open(self._account, circuit, refused_ms)

    async def _slow(self, tx: Transaction) -> None:
        bucket, seen = await read_bucket(tx, self._account, self._rate())
        await save_bucket(tx, self._account, bucket.drained(tx.now_ms), seen)

    async def _judge(
        self, tx: Transaction, epoch: int, operation: str, failure: Code | None
    ) -> tuple[Circuit, Circuit]:
        before, seen = await read_circuit(tx, self._account)
        after = before.judged(tx.now_ms, epoch, operation, failure)
        if after is not before:
            await save_circuit(tx, self._account, after, seen)
        return before, after

    async def _write(self, unit: Unit[T]) -> T:
        for _ in range(_RACES):
            try:
                return await self._tables.write(unit)
            except LostRaceError:
                continue
        raise TransientError(
            Code.TABLES_UNAVAILABLE, f"the limits of {self._account} change too often"
        )

    def _count(self, operation: str, outcome: str) -> None:
        self._recorder.add(GATE_CALLS, service=self._account, operation=operation, outcome=outcome)


def _circuit_open(account: str, circuit: Circuit, refused_ms: int) -> TransientError:
    if circuit.state is Standing.HALF_OPEN:
        refused_ms = min(refused_ms, _OTHERS_PROBE_MS)
    return TransientError(
        Code.CIRCUIT_OPEN,
        f"{account} is left alone: {circuit.reason}",
        retry_after_seconds=max(1.0, refused_ms / 1000),
    )
