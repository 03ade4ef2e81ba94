"""The purse: what a document's parse elsewhere may cost, and whether there is money for it."""

from datetime import tzinfo
from typing import Protocol

from schemas.money import Spend
from streams.parsers.base import Document, RemoteParser
from streams.reservations import check
from streams.tables.base import Tables


class Estimate(Protocol):
    """Says what a parse elsewhere may cost at most."""

    async def of(self, document: Document, parser: RemoteParser) -> Spend:
        """Estimate it; raise PermanentError for a document that the parser must not be given."""
        ...


class Purse(Protocol):
    """Says what a call may cost, before anything is done for it."""

    async def quote(self, document: Document, parser: RemoteParser) -> Spend:
        """Give what it may cost at most; raise BudgetSpentError where that cannot be held."""
        ...


class TablesPurse:
    """Looks into the budgets: bytes must not go elsewhere for a call that will be refused."""

    def __init__(self, estimate: Estimate, tables: Tables, zone: tzinfo) -> None:
        self._estimate = estimate
        self._tables = tables
        self._zone = zone

    async def quote(self, document: Document, parser: RemoteParser) -> Spend:
        """Give what it may cost at most; raise BudgetSpentError where that cannot be held."""
        spend = await self._estimate.of(document, parser)
        await self._tables.read(lambda tx: check(tx, document.tenant, spend, self._zone))
        return spend
