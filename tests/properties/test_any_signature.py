"""Webhook signatures: anything at all as header and body."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.signature_scheme import STANDARD_WEBHOOKS, Scheme
from schemas.signatures import Refusal, verify
from tests.signed_requests import ALL, BODY, KEY, NOW, hexed, official

NAMES = st.sampled_from(sorted({name for scheme in ALL for name in scheme.headers()}))
PIECES = st.sampled_from(
    [b"v1,", b"v0=", b"sha256=", b"t=", b",", b" ", b"1795000000", b"=", hexed(KEY, BODY)]
)
VALUES = st.lists(PIECES | st.binary(max_size=20), max_size=6).map(b"".join)


@pytest.mark.parametrize("scheme", ALL, ids=lambda s: s.name)
@given(headers=st.lists(st.tuples(NAMES, VALUES), max_size=6), body=st.binary(max_size=50))
def test_nothing_at_all_raises(
    scheme: Scheme, headers: list[tuple[str, bytes]], body: bytes
) -> None:
    assert isinstance(verify(scheme, [KEY, b"\x00"], headers, body, NOW), Refusal)


@given(content=st.text(max_size=300), event_id=st.text("abc_-0123", min_size=1, max_size=40))
def test_what_the_official_package_signs_verifies(content: str, event_id: str) -> None:
    secret, headers = official(content, NOW, event_id)
    key = STANDARD_WEBHOOKS.key_of(secret)
    assert key == KEY
    assert verify(STANDARD_WEBHOOKS, [key], headers, content.encode(), NOW) == 0
    assert verify(STANDARD_WEBHOOKS, [key], headers, content.encode(), NOW + 301) is Refusal.STALE
    assert verify(STANDARD_WEBHOOKS, [key], headers, content.encode(), NOW - 301) is Refusal.FUTURE
