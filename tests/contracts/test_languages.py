"""The languages: those that the vendor's own client knows."""

from typing import get_args

from llama_cloud.types import ParsingLanguages

from schemas.languages import LANGUAGES


def test_they_are_the_vendors() -> None:
    assert frozenset(get_args(ParsingLanguages)) == LANGUAGES
