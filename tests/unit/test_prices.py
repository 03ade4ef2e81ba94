"""Prices: what pages cost, at which moment, and what a wrong file says."""

from importlib.resources import files

import pytest

from schemas.errors import Code, PermanentError
from schemas.events import ParseOptions
from schemas.money import Spend
from schemas.prices import Prices, read_prices

NOVEMBER_24 = 1_795_478_400_000
"""2026-11-24 at midnight UTC."""

PLAIN = ParseOptions()

TWO_PRICES = """
[[llamaparse]]
from = 2026-12-01
source = "a letter of theirs"
dollars_per_1000_credits = "2"
credits_per_page = { agentic = 8, turbo = 0.5 }
extra_credits_per_page = { prompt = 1.5, disable_cache = 2 }

[[llamaparse]]
from = 2026-01-01
source = "their page"
dollars_per_1000_credits = "1.25"
credits_per_page = { agentic = 10 }
"""
DECEMBER_1 = 1_796_083_200_000

FLAT = """
[[callback]]
from = 2026-01-01
source = "our own books"
dollars_per_1000_credits = "0.5"
credits_per_page = 4
"""


def shipped() -> Prices:
    return read_prices(files("schemas").joinpath("prices.toml").read_text("utf-8"))


@pytest.mark.parametrize(
    ("tier", "pages", "micro_usd"),
    [
        ("fast", 1, 1_250),
        ("cost_effective", 1, 3_750),
        ("cost_effective", 2_000, 7_500_000),
        ("agentic", 10, 125_000),
        ("agentic_plus", 1, 56_250),
        ("agentic", 0, 0),
    ],
)
def test_what_llamaparse_costs(tier: str, pages: int, micro_usd: int) -> None:
    spend = shipped().quote("llamaparse", tier, pages, NOVEMBER_24, PLAIN)
    assert spend == Spend("llamaparse", tier, pages, micro_usd, 1_250_000)


def test_no_option_of_ours_costs_more_at_llamaparse() -> None:
    asked = ParseOptions(languages=("de",), prompt="Keep it.", disable_cache=True, target_pages="1")
    assert shipped().quote("llamaparse", "agentic", 10, NOVEMBER_24, asked).micro_usd == 125_000


@pytest.mark.parametrize("service", ["liteparse", "text", "mock", "callback"])
def test_what_has_no_price_costs_nothing(service: str) -> None:
    prices = shipped()
    assert prices.services() == {"llamaparse"}
    assert prices.quote(service, None, 7, NOVEMBER_24, PLAIN) == Spend(service, None, 7, 0, 0)
    assert prices.rate(service, 0) == 0


def test_the_newest_price_that_has_begun_holds() -> None:
    prices = read_prices(TWO_PRICES)
    assert prices.rate("llamaparse", DECEMBER_1 - 1) == 1_250_000
    assert prices.rate("llamaparse", DECEMBER_1) == 2_000_000
    before = prices.quote("llamaparse", "agentic", 10, DECEMBER_1 - 1, PLAIN)
    after = prices.quote("llamaparse", "agentic", 10, DECEMBER_1, PLAIN)
    assert (before.micro_usd, after.micro_usd) == (125_000, 160_000)


def test_options_cost_extra_credits_where_they_are_used() -> None:
    prices = read_prices(TWO_PRICES)
    asked = ParseOptions(prompt="Keep it.", disable_cache=True)
    # 10 pages of 8 + 1.5 + 2 credits are 115; a credit costs 2,000 micro-dollars.
    assert prices.quote("llamaparse", "agentic", 10, DECEMBER_1, asked).micro_usd == 230_000
    # The older price has no extras.
    assert prices.quote("llamaparse", "agentic", 10, NOVEMBER_24, asked).micro_usd == 125_000


def test_a_price_that_is_no_whole_number_is_rounded_up() -> None:
    text = FLAT.replace('"0.5"', '"0.000001"').replace("= 4", "= 0.1")
    # 1 micro-dollar for 1,000 credits: a page costs a ten-thousandth of one.
    prices = read_prices(text)
    assert prices.quote("callback", None, 1, NOVEMBER_24, PLAIN).micro_usd == 1
    assert prices.quote("callback", None, 10_000, NOVEMBER_24, PLAIN).micro_usd == 1
    assert prices.quote("callback", None, 10_001, NOVEMBER_24, PLAIN).micro_usd == 2


def test_one_price_for_every_page_needs_no_tier() -> None:
    spend = read_prices(FLAT).quote("callback", None, 3, NOVEMBER_24, PLAIN)
    assert spend == Spend("callback", None, 3, 6_000, 500_000)
    assert read_prices(FLAT).unpriced("callback", ("fast", "agentic")) == ()


@pytest.mark.parametrize("tier", ["turbo", "Agentic", None])
def test_a_tier_without_a_price_is_never_free(tier: str | None) -> None:
    with pytest.raises(PermanentError, match="llamaparse has no price for the tier") as caught:
        read_prices(TWO_PRICES).quote("llamaparse", tier, 1, NOVEMBER_24, PLAIN)
    assert caught.value.code == Code.PRICE_UNKNOWN


def test_a_moment_before_the_first_price_is_never_free() -> None:
    new_year_2026 = 1_767_225_600_000
    assert shipped().rate("llamaparse", new_year_2026) == 1_250_000
    for ask in (
        lambda: shipped().rate("llamaparse", new_year_2026 - 1),
        lambda: shipped().quote("llamaparse", "fast", 1, new_year_2026 - 1, PLAIN),
    ):
        with pytest.raises(PermanentError, match="no price for 2025-12-31") as caught:
            ask()
        assert caught.value.code == Code.PRICE_UNKNOWN


def test_tiers_that_some_price_leaves_out_are_named() -> None:
    assert read_prices(TWO_PRICES).unpriced("llamaparse", ("fast", "turbo", "agentic")) == (
        "fast",
        "turbo",
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[[callback]]", "[[callback]", "no TOML: "),
        ("[[callback]]", "[callback]", "callback: prices are written below [[callback]]"),
        ("= 2026-01-01", '= "soon"', "callback, price 1: Invalid RFC3339 encoded date - at `from`"),
        ("= 2026-01-01", "= 2026-01-01T10:00:00", "Expected `date`, got `datetime` - at `from`"),
        ('source = "our own books"', "", "missing required field `source`"),
        ('"our own books"', '""', "length >= 1 - at `source`"),
        ('"0.5"', "0.5", "Expected `str`, got `decimal` - at `dollars_per_1000_credits`"),
        ('"0.5"', '"half"', "'half' is no amount of dollars such as \"1.25\""),
        ('"0.5"', '"-1"', "'-1' is no amount of dollars"),
        ('"0.5"', '"1e3"', "'1e3' is no amount of dollars"),
        ('"0.5"', '"0.0000005"', "0.0000005 is no whole number of micro-dollars"),
        ("= 4", "= -4", "callback, price 1: credits_per_page: -4 is not a number from 0 to 10000"),
        ("= 4", "= nan", "credits_per_page: NaN is not a number"),
        ("= 4", "= true", "got `bool` - at `credits_per_page`"),
        ("= 4", "= {}", "credits_per_page names no tier"),
        ("= 4", "= { fast = 10001 }", "credits_per_page.fast: 10001 is not a number from 0"),
        ("= 4", '= { fast = "x" }', "Invalid decimal string"),
        ("= 4", "= 4\ncredits = 5", "unknown field `credits`"),
        ("= 4", "= 4\nextra_credits_per_page = { tier = 1 }", "extra_credits_per_page.tier is no"),
        ("= 4", "= 4\nextra_credits_per_page = { prompt = inf }", "extra_credits_per_page.prompt"),
        ("= 4", "= 4\n" + FLAT, "callback, price 2: another price has the same date"),
    ],
)
def test_a_wrong_file_says_what_and_where(old: str, new: str, says: str) -> None:
    assert old in FLAT
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the message is compared below
        read_prices(FLAT.replace(old, new, 1))
    assert says in str(caught.value)


def test_an_empty_file_makes_everything_free() -> None:
    assert read_prices("").services() == frozenset()
