"""Media of any bytes: never another error than our own."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import PermanentError
from streams.media import ACCEPTED, sniff


@given(st.binary(max_size=2000), st.none() | st.text(), st.none() | st.text())
def test_garbage_never_raises_anything_else(
    head: bytes, declared: str | None, name: str | None
) -> None:
    try:
        answer = str(sniff(head, declared, name))
    except PermanentError as error:
        answer = str(error.code)
    assert answer in (*ACCEPTED, "unsupported_media_type", "document_empty", "document_not_utf8")
