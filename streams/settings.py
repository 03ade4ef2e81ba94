"""Settings that operators change at run time: the rules, the rows, and what holds at present."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

import structlog

from schemas.errors import Code, PermanentError
from schemas.events import Mode
from streams.health import Health, read_health
from streams.metrics import CIRCUIT_STATE, RATE_TOKENS, Recorder
from streams.repeating import repeat
from streams.reservations import FROZEN
from streams.shared_limits import read_circuit, save_circuit
from streams.tables.base import Tables, Transaction
from streams.token_bucket import Rate

log = structlog.get_logger(__name__)

MODE = "mode"
PER_MINUTE = "requests_per_minute"
BURST = "burst"
REFRESH_SECONDS = 2.0

_MOST_PER_MINUTE = 100_000.0
_MOST_BURST = 10_000


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the environment says; an account is there where its parser is configured."""

    mode: Mode = "local"
    production: bool = False
    rates: Mapping[str, Rate] = field(default_factory=dict)
    local_parsers: tuple[str, ...] = ()
    remote_parser: str = "llamaparse"
    """The account that the modes `real` and `hybrid` mean."""

    @property
    def elsewhere(self) -> bool:
        """Tell whether there is a parser elsewhere that those modes can use."""
        return self.remote_parser in self.rates


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds: the environment's values, and over them the rows that may stand here."""

    mode: Mode
    rates: Mapping[str, Rate]
    changed: tuple[str, ...] = ()
    """The names that an operator's row decides."""
    ignored: tuple[str, ...] = ()
    """The names whose row this environment refuses."""


def check_mode(mode: str, defaults: Defaults) -> Mode:
    """Give the mode; raise PermanentError(INVALID_REQUEST) where this deployment may not run it."""
    for known in get_args(Mode):
        if mode != known:
            continue
        if known == "mock" and defaults.production:
            raise _invalid("mode mock is refused in production")
        if known in ("real", "hybrid") and not defaults.elsewhere:
            lacking = f", and {defaults.remote_parser} is not configured"
            raise _invalid(
                f"mode {known} needs a parser elsewhere"
                + (lacking if defaults.rates else ", and none has a key")
            )
        found: Mode = known
        return found
    raise _invalid(f"there is no mode {mode[:40]!r}; there are: {', '.join(get_args(Mode))}")


def effective(rows: Mapping[str, str], defaults: Defaults) -> Effective:
    """Lay the rows over the environment's values; one that is refused here is named and ignored."""
    mode, rates = defaults.mode, dict(defaults.rates)
    changed: list[str] = []
    ignored: list[str] = []
    for name, value in rows.items():
        if name == FROZEN:
            continue
        try:
            mode, rates = _with(mode, rates, name, value, defaults)
        except PermanentError:
            ignored.append(name)
        else:
            changed.append(name)
    return Effective(mode, rates, tuple(changed), tuple(ignored))


async def read_effective(tx: Transaction, defaults: Defaults) -> Effective:
    """Read what holds."""
    rows = await tx.all("limits.settings")
    return effective({row["name"]: row["value"] for row in rows}, defaults)


async def change_setting(
    tx: Transaction, defaults: Defaults, name: str, value: str | None, who: str
) -> bool:
    """Set a value, or take it back with None; tell whether that changed anything.

    Raise PermanentError(INVALID_REQUEST) for a name or a value that cannot be.
    """
    rows = {row["name"]: row["value"] for row in await tx.all("limits.settings")}
    if value is not None:
        _with(defaults.mode, dict(defaults.rates), name, value, defaults)
    if rows.get(name) == value:
        return False
    if value is None:
        await tx.run("limits.unset", name=name)
    else:
        await tx.run("limits.set", name=name, value=value)
    await tx.run(
        "limits.note_change", name=name, from_value=rows.get(name), to_value=value, who=who
    )
    return True


async def close_circuit(tx: Transaction, account: str, who: str) -> bool:
    """Close an account's circuit, and tell whether it was not closed."""
    circuit, seen = await read_circuit(tx, account)
    closed = circuit.closed(tx.now_ms)
    if circuit.state is closed.state:
        return False
    await save_circuit(tx, account, closed, seen)
    await tx.run(
        "limits.note_change",
        name=f"{account}.circuit",
        from_value=f"{circuit.state}: {circuit.reason}",
        to_value=closed.state.value,
        who=who,
    )
    return True


class CurrentSettings:
    """What holds at present, for one process: read every two seconds, so that old by at most.

    While the tables are away it stays what it was; before the first reading it is the
    environment's. Work under way goes on as it began.
    """

    def __init__(self, tables: Tables, defaults: Defaults, recorder: Recorder) -> None:
        self._tables = tables
        self._defaults = defaults
        self._recorder = recorder
        self._effective = Effective(defaults.mode, defaults.rates)
        self._health: dict[str, Health] = {}

    @property
    def mode(self) -> Mode:
        """The deployment's mode."""
        return self._effective.mode

    def rate(self, account: str) -> Rate:
        """Give an account's rate."""
        return self._effective.rates[account]

    def health(self, account: str) -> Health | None:
        """Give an account's health, None before it was read."""
        return self._health.get(account)

    async def run(self, every_seconds: float = REFRESH_SECONDS) -> None:
        """Read until cancelled; trouble of the tables only delays."""
        await repeat(self.refresh, every_seconds, failed="settings_not_read")

    async def refresh(self) -> None:
        """Read once, and say what changed."""
        before = self._effective
        self._effective, self._health = await self._tables.read(self._read)
        for account, health in self._health.items():
            self._recorder.set(CIRCUIT_STATE, health.circuit_number, service=account)
            self._recorder.set(RATE_TOKENS, health.tokens, service=account)
        if self._effective != before:
            log.info("settings_changed", mode=self.mode, changed=self._effective.changed)
        if self._effective.ignored and self._effective.ignored != before.ignored:
            log.error("settings_refused", names=self._effective.ignored)

    async def _read(self, tx: Transaction) -> tuple[Effective, dict[str, Health]]:
        found = await read_effective(tx, self._defaults)
        return found, {
            name: await read_health(tx, name, rate) for name, rate in found.rates.items()
        }


def _with(
    mode: Mode, rates: dict[str, Rate], name: str, value: str, defaults: Defaults
) -> tuple[Mode, dict[str, Rate]]:
    if name == MODE:
        return check_mode(value, defaults), rates
    account, _, what = name.rpartition(".")
    if account not in rates:
        raise _invalid(f"there is no setting {name[:80]!r} in this deployment")
    rate = rates[account]
    if what == PER_MINUTE:
        rate = Rate(_number(name, value, _MOST_PER_MINUTE), rate.burst)
    elif what == BURST:
        rate = Rate(rate.per_minute, max(1, int(_number(name, value, _MOST_BURST))))
    else:
        raise _invalid(f"there is no setting {name[:80]!r}")
    return mode, rates | {account: rate}


def _number(name: str, value: str, most: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    # This order refuses what is no number, too.
    if not 0 < number <= most:
        raise _invalid(f"{name} must be a number above 0, and {most:g} at most")
    return number


def _invalid(message: str) -> PermanentError:
    return PermanentError(Code.INVALID_REQUEST, message)
