"""The money's settings: which prices and which days hold, and what is refused at the start."""

from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr

from schemas.events import ParseOptions
from services.config import ConfigError, Settings
from services.money_settings import read_money

NOVEMBER_24 = 1_795_478_400_000
"""2026-11-24 at midnight UTC."""

OURS = """
[[llamaparse]]
from = 2026-02-01
source = "our contract"
dollars_per_1000_credits = "0.9"
credits_per_page = { fast = 1, cost_effective = 3, agentic = 10, agentic_plus = 45 }
"""


def own(folder: Path, text: str) -> Settings:
    path = folder / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return Settings(prices_file=path, llamaparse_api_key=SecretStr("llx-1"))


def refusal(settings: Settings) -> str:
    with pytest.raises(ConfigError) as caught:
        read_money(settings)
    said = str(caught.value)
    assert said.startswith(f"PARSEWIRE_PRICES_FILE: {settings.prices_file}: ")
    return said


def test_the_prices_that_come_along_and_utc() -> None:
    money = read_money(Settings())
    assert money.zone is UTC
    assert money.prices.rate("llamaparse", NOVEMBER_24) == 1_250_000
    assert money.prices.unpriced("llamaparse", ("fast", "cost_effective", "agentic_plus")) == ()


def test_a_zone_of_ones_own() -> None:
    assert read_money(Settings(time_zone="Europe/Berlin")).zone == ZoneInfo("Europe/Berlin")


def test_a_file_of_ones_own_replaces_them_wholly(tmp_path: Path) -> None:
    prices = read_money(own(tmp_path, OURS)).prices
    spend = prices.quote("llamaparse", "agentic", 10, NOVEMBER_24, ParseOptions())
    assert (spend.micro_usd, spend.micro_usd_per_kilocredit) == (90_000, 900_000)
    flat = OURS.replace("[[llamaparse]]", "[[callback]]").partition("credits_per_page")[0]
    both = read_money(own(tmp_path, f"{OURS}\n{flat}credits_per_page = 2\n")).prices
    # 5 pages of 2 credits, 900 micro-dollars each.
    assert both.quote("callback", None, 5, NOVEMBER_24, ParseOptions()).micro_usd == 9_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (OURS.replace("0.9", "cheap"), "llamaparse, price 1: dollars_per_1000_credits: 'cheap'"),
        (OURS.replace("llamaparse", "lamaparse"), "no service 'lamaparse' costs anything"),
        (OURS.replace("llamaparse", "callback"), "callback has no tiers"),
        (OURS.replace("agentic = 10, ", ""), "llamaparse needs a price for every tier: agentic"),
        ("", "[[llamaparse]] is missing"),
    ],
)
def test_what_would_be_free_by_mistake_is_refused(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(own(tmp_path, text))


def test_without_its_key_llamaparse_needs_no_price(tmp_path: Path) -> None:
    settings = own(tmp_path, "").model_copy(update={"llamaparse_api_key": None})
    assert read_money(settings).prices.services() == frozenset()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "No such file" in refusal(Settings(prices_file=tmp_path / "none.toml"))
    assert "directory" in refusal(Settings(prices_file=tmp_path))
    (tmp_path / "latin").write_bytes(b"# \xfc")
    assert "utf-8" in refusal(Settings(prices_file=tmp_path / "latin"))


def test_the_pages_example_is_one_that_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "money.md").read_text(encoding="utf-8")
    example = page.partition("```toml\n")[2].partition("```")[0]
    prices = read_money(own(tmp_path, example)).prices
    february_2027 = 1_801_440_000_000
    asked = ParseOptions(prompt="Keep it.")
    # 10 pages of 10 credits, and of 10 and 2 more with the prompt, at 1,100 micro-dollars.
    for moment, micro_usd in ((NOVEMBER_24, 125_000), (february_2027, 132_000)):
        assert prices.quote("llamaparse", "agentic", 10, moment, asked).micro_usd == micro_usd
    assert prices.quote("callback", None, 3, february_2027, asked).micro_usd == 1_500
