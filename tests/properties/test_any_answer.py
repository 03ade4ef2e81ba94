"""Answers of any bytes: read or refused, and words that are clean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.foreign_words import clean
from streams.parsers.llamaparse_answers import (
    ListAnswer,
    UnexpectedAnswerError,
    read_answer,
)
from streams.parsers.llamaparse_refusals import (
    read_refusal,
)


@given(st.binary(max_size=200))
def test_no_body_of_a_refusal_raises(body: bytes) -> None:
    assert len(read_refusal(400, body, None, []).said) <= 300


@given(st.binary(max_size=200))
def test_garbage_raises_its_own_error_alone(body: bytes) -> None:
    with pytest.raises(UnexpectedAnswerError):
        read_answer(body, ListAnswer)


@given(st.text(max_size=1000), st.text("abcdef", min_size=3, max_size=9))
def test_clean_words_are_one_short_line_without_the_secret(text: str, secret: str) -> None:
    line = clean(f"{text} {secret}", [secret])
    assert len(line) <= 300
    assert secret not in line.replace("[...]", "").replace("[url]", "")
    assert line.isprintable()
