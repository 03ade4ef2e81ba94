"""Content-Length, however many digits it has."""

import pytest
from multidict import CIMultiDict

from streams.content_length import content_length


@pytest.mark.parametrize(
    ("said", "length"),
    [
        ("0", 0),
        ("000", 0),
        ("17", 17),
        ("0" * 9000 + "20", 20),
        ("18446744073709551615", 18446744073709551615),
    ],
)
def test_a_length(said: str, length: int) -> None:
    assert content_length({"Content-Length": said}) == length
    assert content_length(CIMultiDict({"content-length": said})) == length


def test_more_digits_than_any_length_has() -> None:
    length = content_length({"Content-Length": "1" + "0" * 9000})
    assert length is not None
    assert length >= 10**19


def test_none() -> None:
    assert content_length({}) is None
