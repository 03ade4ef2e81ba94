"""The health of a service elsewhere, as its last calls left it in the tables."""

from dataclasses import dataclass

from streams.circuit import Circuit, Standing
from streams.gate import LONGEST_WAIT_SECONDS
from streams.shared_limits import read_bucket, read_circuit
from streams.tables.base import Transaction
from streams.token_bucket import TOKEN, Bucket, Rate


@dataclass(frozen=True, slots=True)
class Health:
    """An account's circuit and bucket at one moment of the table's clock."""

    now_ms: int
    circuit: Circuit
    bucket: Bucket
    rate: Rate

    @property
    def circuit_open(self) -> bool:
        """True while nobody is let through; false once the next call may be the probe."""
        return self.circuit.refuses_ms(self.now_ms) is not None

    @property
    def rate_spent(self) -> bool:
        """True while a call would be refused for the rate."""
        return self.bucket.taken().wait_ms(self.rate) > LONGEST_WAIT_SECONDS * 1000

    @property
    def tokens(self) -> float:
        """How many calls may start at once; below 0 so many wait."""
        return self.bucket.tokens_micro / TOKEN

    @property
    def circuit_number(self) -> int:
        """The circuit as a gauge: 0 closed, 1 half open, 2 open, 3 open until a person acts."""
        if self.circuit.state is Standing.OPEN:
            return 2 if self.circuit.until_ms is not None else 3
        return 1 if self.circuit.state is Standing.HALF_OPEN else 0


async def read_health(tx: Transaction, account: str, rate: Rate) -> Health:
    """Read how an account stands."""
    circuit, _ = await read_circuit(tx, account)
    bucket, _ = await read_bucket(tx, account, rate)
    return Health(tx.now_ms, circuit, bucket, rate)
