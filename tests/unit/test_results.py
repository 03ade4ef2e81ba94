"""The result blob and its three renderings."""

import orjson
import pytest

from streams.parsers.base import Page, Parsed
from streams.results import decode, encode, render

PARSED = Parsed(
    pages=(
        Page(1, "# One\n\nfirst", "One\n\nfirst"),
        Page(2, "", ""),
        Page(3, "third é\n", "third é\n"),
    ),
    parser="liteparse",
    parser_version="2.18.0",
    warnings=("page_has_no_text:2",),
)


def test_a_result_survives_its_json_form() -> None:
    assert decode(encode(PARSED)) == PARSED


def test_json_has_page_numbers_and_who_did_it() -> None:
    assert orjson.loads(render(encode(PARSED), "json")) == {
        "schema": "parsewire.result/1",
        "parser": "liteparse",
        "parser_version": "2.18.0",
        "price_micro_usd": 0,
        "warnings": ["page_has_no_text:2"],
        "pages": [
            {"number": 1, "markdown": "# One\n\nfirst", "text": "One\n\nfirst"},
            {"number": 2, "markdown": "", "text": ""},
            {"number": 3, "markdown": "third é\n", "text": "third é\n"},
        ],
    }


def test_markdown_numbers_its_pages_in_comments() -> None:
    assert render(encode(PARSED), "markdown").decode() == (
        "<!-- page 1 -->\n\n# One\n\nfirst\n\n<!-- page 2 -->\n\n<!-- page 3 -->\n\nthird é\n"
    )


def test_text_parts_its_pages_by_form_feeds() -> None:
    assert render(encode(PARSED), "text").decode() == "One\n\nfirst\n\f\n\fthird é\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b"[]",
        b"not json",
        b'{"schema": "parsewire.result/9"}',
        b'{"schema": "parsewire.result/1"}',
        b'{"schema": "parsewire.result/1", "parser": "a", "parser_version": "1", "pages": [1]}',
    ],
)
def test_what_is_not_a_result_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a parsewire\.result/1|line 1 column 1"):
        decode(raw)
