"""The money's settings, read at the top: the prices that hold, and the zone of days and months."""

from dataclasses import dataclass
from datetime import tzinfo
from importlib.resources import files
from typing import get_args

from schemas.events import Tier
from schemas.periods import read_zone
from schemas.prices import Prices, read_prices
from services.config import PREFIX, ConfigError, Settings
from services.defaults import CALLBACK, LLAMAPARSE

SERVICES = (LLAMAPARSE, CALLBACK)
"""Those that can cost something; the parsers of this machine never do."""


@dataclass(frozen=True, slots=True)
class MoneySettings:
    """What a call costs, and whose days and months budgets count."""

    prices: Prices
    zone: tzinfo


def read_money(settings: Settings) -> MoneySettings:
    """Read the prices; raise ConfigError, which names the file, for what is wrong with them."""
    return MoneySettings(_prices(settings), read_zone(settings.time_zone))


def _prices(settings: Settings) -> Prices:
    path = settings.prices_file
    if path is None:
        return read_prices(files("schemas").joinpath("prices.toml").read_text("utf-8"))
    try:
        prices = read_prices(path.read_text("utf-8"))
        _refuse_gaps(prices, settings)
    except OSError as error:
        raise ConfigError(f"{PREFIX}PRICES_FILE: {path}: {error.strerror}") from None
    except ValueError as error:
        # What is not UTF-8 is a ValueError too.
        raise ConfigError(f"{PREFIX}PRICES_FILE: {path}: {error}") from None
    return prices


def _refuse_gaps(prices: Prices, settings: Settings) -> None:
    """Raise ValueError where something would be free, or not be priced, by mistake."""
    for name in sorted(prices.services() - set(SERVICES)):
        raise ValueError(f"no service {name!r} costs anything; there are {', '.join(SERVICES)}")
    if CALLBACK in prices.services() and prices.unpriced(CALLBACK, (None,)):
        raise ValueError(f"{CALLBACK} has no tiers: its credits_per_page is one number")
    if LLAMAPARSE in prices.services():
        missing = prices.unpriced(LLAMAPARSE, get_args(Tier))
        if missing:
            raise ValueError(f"{LLAMAPARSE} needs a price for every tier: {', '.join(missing)}")
    elif settings.llamaparse_api_key:
        raise ValueError(f"[[{LLAMAPARSE}]] is missing; say so where it costs nothing")
