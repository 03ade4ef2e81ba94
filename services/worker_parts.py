"""A worker's parts: what its roles and the loops beside them share."""

from dataclasses import dataclass, field

from services.config import Settings
from services.defaults import CALLBACK
from services.money_settings import MoneySettings
from streams.billing import Billing
from streams.bus.base import Bus
from streams.leases import Leases
from streams.metrics import Recorder
from streams.processor import Ground
from streams.tables.base import Tables
from streams.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Process:
    """What the parts of a worker share."""

    settings: Settings
    name: str
    recorder: Recorder
    tables: Tables
    bus: Bus
    cluster_id: str
    telemetry: Telemetry
    leases: Leases
    money: MoneySettings
    grounds: list[Ground] = field(default_factory=list)
    """The processors at work, as far as there are any yet."""

    @property
    def billing(self) -> Billing:
        """Say what becomes of the money that is held."""
        return Billing(self.money.prices.rate, unmetered=(CALLBACK,))
