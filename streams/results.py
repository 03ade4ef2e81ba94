"""The result blob: its JSON form, and what readers are given of it."""

from dataclasses import replace
from typing import Literal

import msgspec
import orjson

from streams.parsers.base import Page, Parsed

SCHEMA = "parsewire.result/1"

Format = Literal["markdown", "text", "json"]

CONTENT_TYPES: dict[Format, str] = {
    "markdown": "text/markdown; charset=utf-8",
    "text": "text/plain; charset=utf-8",
    "json": "application/json",
}

PAGE_BREAK = "\f"
"""Between two pages of plain text, as in `pdftotext`; the Nth page given is what the
Nth break ends."""


def encode(parsed: Parsed, price_micro_usd: int | None = 0) -> bytes:
    """Write the result as JSON; pages in order, each with its number from 1.

    The price is None where the bill has not come yet.
    """
    return orjson.dumps(
        {
            "schema": SCHEMA,
            "parser": parsed.parser,
            "parser_version": parsed.parser_version,
            "price_micro_usd": price_micro_usd,
            "warnings": list(parsed.warnings),
            "pages": list(parsed.pages),
        }
    )


def decode(raw: bytes) -> Parsed:
    """Read a result; raise ValueError for what is not one."""
    value = orjson.loads(raw)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise ValueError(f"not a {SCHEMA} document")
    try:
        result = msgspec.convert(value, Parsed)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a {SCHEMA} document: {error}") from None
    return replace(result, pages=tuple(result.pages), warnings=tuple(result.warnings))


def render(raw: bytes, wanted: Format) -> bytes:
    """Turn a result blob into what a reader asked for, UTF-8.

    JSON is the blob itself. Markdown has a comment with its number before each page, text a form
    feed between two pages.
    """
    if wanted == "json":
        return raw
    pages = decode(raw).pages
    if wanted == "text":
        return PAGE_BREAK.join(page.text.rstrip("\n") + "\n" for page in pages).encode()
    return "\n".join(_markdown(page) for page in pages).encode()


def _markdown(page: Page) -> str:
    body = page.markdown.strip("\n")
    head = f"<!-- page {page.number} -->\n"
    return f"{head}\n{body}\n" if body else head
