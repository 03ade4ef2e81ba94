"""Webhook signatures: known vectors, every byte flipped."""

import base64
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from schemas.signature_scheme import (
    LC_SIGNATURE,
    STANDARD_WEBHOOKS,
    X_WEBHOOK_SIGNATURE,
    Scheme,
)
from schemas.signatures import Refusal, sign, verify
from tests.signed_requests import ALL, BODY, KEY, NOW, SLACK, STRIPE, hexed, official, signed


def test_a_known_signature_of_llamacloud() -> None:
    # printf '%s' hello | openssl dgst -sha256 -hmac key
    wanted = b"9307b3b915efb5171ff14d8cb55fbcc798c6c0ef1456d66ded1a6aa723a58b7b"
    assert verify(LC_SIGNATURE, [b"key"], [("lc-signature", b"sha256=" + wanted)], b"hello", 0) == 0
    for broken in (wanted, b"sha256=" + wanted.upper(), b"sha512=" + wanted, b"sha256= " + wanted):
        headers = [("lc-signature", broken)]
        assert verify(LC_SIGNATURE, [b"key"], headers, b"hello", 0) is Refusal.MISMATCH


def test_the_plain_header_with_and_without_its_prefix() -> None:
    for value in (hexed(KEY, BODY), b"sha256=" + hexed(KEY, BODY)):
        assert verify(X_WEBHOOK_SIGNATURE, [KEY], [("x-webhook-signature", value)], BODY, 0) == 0


@pytest.mark.parametrize("scheme", ALL, ids=lambda s: s.name)
def test_what_is_signed_verifies_and_names_its_key(scheme: Scheme) -> None:
    headers = signed(scheme)
    assert verify(scheme, [KEY], headers, BODY, NOW) == 0
    assert verify(scheme, [b"new", b"newer", KEY], headers, BODY, NOW) == 2
    assert verify(scheme, [b"new"], headers, BODY, NOW) is Refusal.MISMATCH
    assert verify(scheme, [KEY], headers, BODY + b" ", NOW) is Refusal.MISMATCH
    assert verify(scheme, [], headers, BODY, NOW) is Refusal.MISMATCH
    assert verify(scheme, [KEY], [], BODY, NOW) is Refusal.NO_SIGNATURE


@pytest.mark.parametrize("scheme", ALL, ids=lambda s: s.name)
@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_no_request_with_a_flipped_byte_verifies(scheme: Scheme, flip: int) -> None:
    headers = signed(scheme)
    for at in range(len(BODY)):
        broken = bytes([*BODY[:at], BODY[at] ^ flip, *BODY[at + 1 :]])
        assert isinstance(verify(scheme, [KEY], headers, broken, NOW), Refusal)
    for number, (name, value) in enumerate(headers):
        for at in range(len(value)):
            broken = bytes([*value[:at], value[at] ^ flip, *value[at + 1 :]])
            changed = [*headers[:number], (name, broken), *headers[number + 1 :]]
            assert isinstance(verify(scheme, [KEY], changed, BODY, NOW), Refusal)


@pytest.mark.parametrize("scheme", [STANDARD_WEBHOOKS, STRIPE, SLACK], ids=lambda s: s.name)
def test_a_time_counts_in_both_directions(scheme: Scheme) -> None:
    headers = signed(scheme)
    assert verify(scheme, [KEY], headers, BODY, NOW + 300) == 0
    assert verify(scheme, [KEY], headers, BODY, NOW - 300) == 0
    assert verify(scheme, [KEY], headers, BODY, NOW + 301) is Refusal.STALE
    assert verify(scheme, [KEY], headers, BODY, NOW - 301) is Refusal.FUTURE


def test_what_we_sign_verifies_with_the_official_package() -> None:
    now = int(datetime.now(UTC).timestamp())
    secret, _ = official("{}", now)
    given = dict(sign(STANDARD_WEBHOOKS, KEY, b'{"a":1}', event_id="msg_2", unix_seconds=now))
    assert Webhook(secret).verify(b'{"a":1}', given) == {"a": 1}


def test_one_of_several_signatures_is_enough() -> None:
    _, headers = official("{}", NOW)
    names = dict(headers)
    for others in (b"v1,AAAA %s", b"%s v1a,BBBB", b"v1 v2,x  %s", b"\xff, %s"):
        changed = [*headers[:2], ("webhook-signature", others % names["webhook-signature"])]
        assert verify(STANDARD_WEBHOOKS, [KEY], changed, b"{}", NOW) == 0
    many = b" ".join([b"v1,AAAA"] * 16 + [names["webhook-signature"]])
    changed = [*headers[:2], ("webhook-signature", many)]
    assert verify(STANDARD_WEBHOOKS, [KEY], changed, b"{}", NOW) is Refusal.MALFORMED


@pytest.mark.parametrize(
    "stamp",
    [b"", b"1_795_000_000", b"+1795000000", b" 1795000000", b"1795000000.0", b"nan", b"9" * 13],
)
def test_a_timestamp_is_plain_digits(stamp: bytes) -> None:
    content = b"msg_1." + stamp + b"." + BODY
    signature = b"v1," + base64.b64encode(hmac.digest(KEY, content, "sha256"))
    headers = [
        ("webhook-id", b"msg_1"),
        ("webhook-timestamp", stamp),
        ("webhook-signature", signature),
    ]
    assert verify(STANDARD_WEBHOOKS, [KEY], headers, BODY, NOW) is Refusal.MALFORMED


@pytest.mark.parametrize("scheme", ALL, ids=lambda s: s.name)
def test_a_repeated_or_missing_header_is_refused(scheme: Scheme) -> None:
    headers = signed(scheme)
    for header in headers:
        assert verify(scheme, [KEY], [*headers, header], BODY, NOW) is Refusal.MALFORMED
        rest = [other for other in headers if other is not header]
        assert isinstance(verify(scheme, [KEY], rest, BODY, NOW), Refusal)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"header": "no header"}, "no header's name"),
        ({"template": "{timestamp}"}, "template"),
        ({"template": "{body}{}"}, "template"),
        ({"template": "{body!r}"}, "template"),
        ({"template": "{body} {other}"}, "template"),
        ({"template": "{body"}, "expected"),
        ({"template": "{id}.{body}"}, "id_header"),
        ({"template": "{timestamp}.{body}"}, "timestamp"),
        ({"timestamp_header": "X-Time"}, "timestamp"),
        ({"timestamp_prefix": "t=", "template": "{timestamp}{body}"}, "separator"),
        ({"prefixes": ()}, "prefixes"),
        ({"prefixes": ("ü",)}, "ASCII"),
        (
            {"timestamp_header": "t", "template": "{timestamp}{body}", "tolerance_seconds": 0},
            "tolerance_seconds",
        ),
    ],
)
def test_a_scheme_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scheme(**{"name": "x", "header": "X-Signature", **fields})


def test_secrets_are_read_as_they_are_handed_out() -> None:
    assert LC_SIGNATURE.key_of("pass wörd") == b"pass w\xc3\xb6rd"
    assert STANDARD_WEBHOOKS.key_of("whsec_AAEC") == b"\x00\x01\x02"
    assert STANDARD_WEBHOOKS.key_of("AAEC") == b"\x00\x01\x02"
    for broken in ("whsec_A", "whsec_", "whsec_*", "wörd"):
        with pytest.raises(ValueError, match=r"the secret is (not base64|empty)"):
            STANDARD_WEBHOOKS.key_of(broken)
