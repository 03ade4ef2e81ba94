"""Content-Length, however many digits it has."""

from collections.abc import Mapping

_DIGITS = 20
"""Those of 2^64, the first length that aiohttp's parser (llhttp) does not take."""


def content_length(headers: Mapping[str, str]) -> int | None:
    """Read the length in bytes, which the HTTP parser has found to be digits; None without one.

    aiohttp's own `content_length` raises ValueError beyond 4,300 digits, zeros at the beginning
    included (`sys.get_int_max_str_digits`). Here more than 20 are cut, and too large all the same.
    """
    said = headers.get("Content-Length")
    return None if said is None else int(said.lstrip("0")[:_DIGITS] or "0")
