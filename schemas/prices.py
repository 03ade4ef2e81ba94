"""Prices: what a page costs at each service, as dated data, and what a call may cost by them."""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct, ValidationError, convert

from schemas.errors import Code, PermanentError
from schemas.events import ParseOptions
from schemas.money import MICRO, Spend
from schemas.periods import moment_of, unix_ms

T = TypeVar("T", bound=str | None)

OPTIONS = ("languages", "prompt", "disable_cache")
"""The options of a parse that may cost something by themselves."""

MOST_CREDITS = 10_000
"""Of a page; a slip of the pen beyond that would not fit the tables."""

_DOLLARS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,20})?", re.ASCII)


class _Entry(
    Struct, frozen=True, forbid_unknown_fields=True, rename={"starts": "from"}, kw_only=True
):
    starts: date
    source: Annotated[str, Meta(min_length=1)]
    dollars_per_1000_credits: str
    credits_per_page: Decimal | dict[str, Decimal]
    extra_credits_per_page: dict[str, Decimal] = {}


@dataclass(frozen=True, slots=True)
class Price:
    """A service's price from a moment on: the credits of a page by tier, or of every page."""

    from_ms: int
    source: str
    micro_usd_per_kilocredit: int
    per_page: Fraction | Mapping[str, Fraction]
    extra: Mapping[str, Fraction]

    def of_tier(self, tier: str | None) -> Fraction | None:
        """Give the credits of a page; None for a tier without a price."""
        if isinstance(self.per_page, Fraction):
            return self.per_page
        return None if tier is None else self.per_page.get(tier)


class Prices:
    """The prices of the services that cost something; make it with `read_prices`.

    A service that has none costs nothing. Moments are unix milliseconds UTC.
    """

    def __init__(self, prices: Mapping[str, Sequence[Price]]) -> None:
        self._prices = {
            name: sorted(given, key=lambda price: price.from_ms) for name, given in prices.items()
        }

    def services(self) -> frozenset[str]:
        """Name the services that have a price."""
        return frozenset(self._prices)

    def unpriced(self, service: str, tiers: Iterable[T]) -> tuple[T, ...]:
        """Give those of the tiers that a price of the service says nothing of."""
        given = self._prices[service]
        return tuple(tier for tier in tiers if any(price.of_tier(tier) is None for price in given))

    def rate(self, service: str, at_ms: int) -> int:
        """Give what a thousand credits cost, in micro-dollars; nothing for a free service.

        Raise PermanentError(PRICE_UNKNOWN) for a moment before the service's first price.
        """
        price = self._at(service, at_ms)
        return 0 if price is None else price.micro_usd_per_kilocredit

    def source(self, service: str, at_ms: int) -> str | None:
        """Say where the price is from; None for a free service. Raise as `rate` does."""
        price = self._at(service, at_ms)
        return None if price is None else price.source

    def credits_per_page(
        self, service: str, tier: str | None, at_ms: int, options: ParseOptions
    ) -> Fraction:
        """Give what a page costs in credits, its options included; raise as `quote` does."""
        price = self._at(service, at_ms)
        if price is None:
            return Fraction(0)
        base = price.of_tier(tier)
        if base is None:
            raise _unknown(f"{service} has no price for the tier {tier!r}")
        return base + sum(more for name, more in price.extra.items() if getattr(options, name))

    def quote(
        self, service: str, tier: str | None, pages: int, at_ms: int, options: ParseOptions
    ) -> Spend:
        """Say what so many pages cost at that moment, rounded up to a micro-dollar.

        Raise PermanentError(PRICE_UNKNOWN) for a tier without a price, and for a moment before
        the service's first one: what is not known is not free.
        """
        rate = self.rate(service, at_ms)
        kilocredits = pages * self.credits_per_page(service, tier, at_ms, options) / 1000
        return Spend(service, tier, pages, ceil(kilocredits * rate), rate)

    def _at(self, service: str, at_ms: int) -> Price | None:
        given = self._prices.get(service)
        if given is None:
            return None
        past = [price for price in given if price.from_ms <= at_ms]
        if not past:
            when = moment_of(at_ms).date().isoformat()
            raise _unknown(f"{service} has no price for {when}, before its first one")
        return past[-1]


def read_prices(text: str) -> Prices:
    """Read a price file, TOML; raise ValueError, which names the entry and what is wrong with it.

    A price holds from midnight UTC of its day. Amounts are exact: no float is in between.
    """
    try:
        services = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"no TOML: {error}") from None
    return Prices({name: _read_service(name, entries) for name, entries in services.items()})


def _read_service(name: str, entries: Any) -> list[Price]:
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{name}: prices are written below [[{name}]], one for each date")
    prices: list[Price] = []
    for number, entry in enumerate(entries, 1):
        try:
            price = _price(convert(entry, _Entry))
        except (ValidationError, ValueError) as error:
            said = str(error).replace("`$.", "`")
            raise ValueError(f"{name}, price {number}: {said}") from None
        if any(other.from_ms == price.from_ms for other in prices):
            raise ValueError(f"{name}, price {number}: another price has the same date")
        prices.append(price)
    return prices


def _price(entry: _Entry) -> Price:
    per_page, extra = entry.credits_per_page, entry.extra_credits_per_page
    if per_page == {}:
        raise ValueError("credits_per_page names no tier")
    for option in extra:
        if option not in OPTIONS:
            allowed = ", ".join(OPTIONS)
            raise ValueError(f"extra_credits_per_page.{option} is no option; there are {allowed}")
    return Price(
        from_ms=unix_ms(datetime(*entry.starts.timetuple()[:3], tzinfo=UTC)),
        source=entry.source,
        micro_usd_per_kilocredit=_micro_usd(entry.dollars_per_1000_credits),
        per_page=(
            _table("credits_per_page", per_page)
            if isinstance(per_page, dict)
            else _credits("credits_per_page", per_page)
        ),
        extra=_table("extra_credits_per_page", extra),
    )


def _table(field: str, given: Mapping[str, Decimal]) -> dict[str, Fraction]:
    return {name: _credits(f"{field}.{name}", value) for name, value in given.items()}


def _credits(place: str, value: Decimal) -> Fraction:
    if not value.is_finite() or not 0 <= value <= MOST_CREDITS:
        raise ValueError(f"{place}: {value} is not a number from 0 to {MOST_CREDITS}")
    return Fraction(value)


def _micro_usd(text: str) -> int:
    if _DOLLARS.fullmatch(text) is None:
        raise ValueError(
            f'dollars_per_1000_credits: {text[:30]!r} is no amount of dollars such as "1.25"'
        )
    micro_usd = Fraction(text) * MICRO
    if micro_usd.denominator != 1:
        raise ValueError(f"dollars_per_1000_credits: {text} is no whole number of micro-dollars")
    return micro_usd.numerator


def _unknown(message: str) -> PermanentError:
    return PermanentError(Code.PRICE_UNKNOWN, message)
