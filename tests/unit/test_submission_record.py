"""Submissions as records: what is read, what is refused and in which words."""

from typing import Any

import orjson
import pytest

from schemas.codec import CodecError
from schemas.events import BlobRef
from schemas.submission_record import Address, Origin, Sender, Submitted, Unfit, read_submission

AT = Origin("documents.submitted", 3, 41)
SHA = "ab" * 32
NAMES_ONE = ("ce_type", b"com.parsewire.DocumentSubmitted")

Pair = tuple[str, bytes | None]


def read(
    value: bytes | None, *headers: Pair, key: bytes | None = b"k", ce_id: str | None = "s-1"
) -> Submitted | Unfit:
    own: list[Pair] = [] if ce_id is None else [("ce_id", ce_id.encode())]
    return read_submission(value, [*own, *headers], key, AT)


def named(*headers: Pair, **body: Any) -> Submitted | Unfit:
    return read(orjson.dumps({"sha256": SHA, "size_bytes": 7} | body), NAMES_ONE, *headers)


def test_the_value_is_the_document() -> None:
    found = read(
        b"%PDF-1.7 ...",
        ("content-type", b"application/pdf"),
        ("ce_type", b"com.acme.InvoiceScanned"),
        ("ce_source", b"/acme"),
        ("ce_time", b"yesterday"),
        ("pw-tenant", b"acme"),
        ("pw-reference", "Rechnung №7".encode()),
        ("pw-name", b"a.pdf"),
        ("pw-max-pages", b"3"),
        ("pw-target_pages", b"1-2"),
        ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
        ("x-other", b"\xff"),
        ("x-none", None),
        key=b"\xff\x00",
    )
    assert found == Submitted(
        Sender(AT, b"\xff\x00", "s-1", "acme", "Rechnung №7"),
        "s-1",
        b"%PDF-1.7 ...",
        "application/pdf",
        (("name", "a.pdf"), ("max_pages", "3"), ("target_pages", "1-2")),
        "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    )


def test_little_is_needed() -> None:
    sender = Sender(AT, None, "s-1", None, None)
    assert read(b"x", key=None) == Submitted(sender, "s-1", b"x", None, (), None)
    assert read(None, key=None) == Submitted(sender, "s-1", b"", None, (), None)


def test_headers_have_no_case_and_may_be_said_twice_alike() -> None:
    found = read(b"x", ("Content-Type", b"text/csv"), ("PW-Tenant", b"acme"), ("ce_id", b"s-1"))
    assert isinstance(found, Submitted)
    assert (found.media_type, found.sender.tenant) == ("text/csv", "acme")


def test_the_value_names_a_blob() -> None:
    found = named(
        ("pw-tenant", b"acme"),
        ("pw-force", b"true"),
        ("content-type", b"application/json"),
        blob="submitted/acme/a",
        media_type="text/plain",
        reference="r-1",
        options={"max_pages": "3", "disable-cache": "yes"},
        later="ignored",
    )
    assert found == Submitted(
        Sender(AT, b"k", "s-1", "acme", "r-1"),
        "s-1",
        BlobRef("submitted/acme/a", SHA, 7),
        "text/plain",
        (("force", "true"), ("max_pages", "3"), ("disable_cache", "yes")),
        None,
    )


def test_the_value_names_an_address() -> None:
    found = named(url="https://a.example/b", tenant="acme")
    assert isinstance(found, Submitted)
    assert found.source == Address("https://a.example/b", SHA, 7)
    assert (found.sender.tenant, found.media_type) == ("acme", None)


def test_headers_and_value_may_agree() -> None:
    found = named(
        ("pw-tenant", b"acme"),
        ("pw-reference", b"r"),
        url="https://a",
        tenant="acme",
        reference="r",
    )
    assert isinstance(found, Submitted)
    assert (found.sender.tenant, found.sender.reference) == ("acme", "r")


@pytest.mark.parametrize(
    ("ce_id", "headers", "says"),
    [
        (None, [], "a record needs a ce_id of 1 to 255 printable characters"),
        ("", [], "a record needs a ce_id of 1 to 255 printable characters"),
        ("a" * 256, [], "a record needs a ce_id of 1 to 255 printable characters"),
        ("a\nb", [], "a record needs a ce_id of 1 to 255 printable characters"),
        (None, [("ce_id", b"\xff")], "a record needs a ce_id of 1 to 255 printable characters"),
        ("s-1", [("ce_id", b"s-2")], "the header ce_id is given twice"),
        ("s-1", [("pw-tenant", b"Acme!")], "'Acme!' names no tenant: use a-z, 0-9, '-' and '_'"),
        ("s-1", [("pw-tenant", b"\xff")], "the header pw-tenant is not UTF-8"),
        (
            "s-1",
            [("pw-tenant", b"a"), ("pw-tenant", b"b")],
            "the header pw-tenant is given twice",
        ),
        ("s-1", [("pw-name", b"\xff")], "the header pw-name is not UTF-8"),
        ("s-1", [("pw-reference", b"r" * 201)], "a reference may have 200 characters"),
        (
            "s-1",
            [("ce_type", b"com.parsewire.JobMoved")],
            (
                "ce_type 'com.parsewire.JobMoved' is no submission, "
                "com.parsewire.DocumentSubmitted is one"
            ),
        ),
    ],
)
def test_a_broken_record_is_refused(ce_id: str | None, headers: list[Pair], says: str) -> None:
    found = read(b"x", *headers, ce_id=ce_id)
    assert isinstance(found, Unfit)
    assert (found.code, found.message) == ("invalid_request", says)


def test_what_could_be_read_stands_in_the_refusal() -> None:
    found = read(
        b"x", ("pw-tenant", b"acme"), ("pw-reference", b"r"), ("pw-mode", b"\xff"), key=b"\x00"
    )
    assert isinstance(found, Unfit)
    assert found.sender == Sender(AT, b"\x00", "s-1", "acme", "r")
    long = read(b"x", key=b"k" * 16_385, ce_id=None)
    assert long.sender == Sender(AT, None, None, None, None)
    long = read(b"x", key=b"k" * 16_385)
    assert isinstance(long, Unfit)
    assert long.message == "a key may have 16384 bytes"
    assert isinstance(read(b"x", key=b"k" * 16_384), Submitted)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "DocumentSubmitted: "),
        (b"{", "DocumentSubmitted: "),
        (b'{"a": "\xff"}', "DocumentSubmitted: "),
        (b"[]", "DocumentSubmitted: Expected `object`, got `array`"),
        (b"[" * 100_000, "DocumentSubmitted: "),
        (b"{}", "DocumentSubmitted: Object missing required field `sha256`"),
        (
            b'{"sha256": "%s", "size_bytes": 0, "blob": "b"}' % SHA.encode(),
            "DocumentSubmitted: Expected `int` >= 1 - at `$.size_bytes`",
        ),
        (
            b'{"sha256": "%s", "size_bytes": true, "blob": "b"}' % SHA.encode(),
            "DocumentSubmitted: Expected `int`, got `bool` - at `$.size_bytes`",
        ),
        (
            b'{"sha256": "%s", "size_bytes": 1, "blob": "b"}' % SHA.upper().encode(),
            "DocumentSubmitted: Expected `str` matching regex '^[0-9a-f]{64}$' - at `$.sha256`",
        ),
        (
            b'{"sha256": "%s", "size_bytes": 1}' % SHA.encode(),
            "DocumentSubmitted names a document by `blob` or by `url`: one of them",
        ),
        (
            b'{"sha256": "%s", "size_bytes": 1, "blob": "b", "url": "u"}' % SHA.encode(),
            "DocumentSubmitted names a document by `blob` or by `url`: one of them",
        ),
        (
            b'{"sha256": "%s", "size_bytes": 1, "url": "u", "tenant": "globex"}' % SHA.encode(),
            "the header pw-tenant and the value say different things",
        ),
    ],
)
def test_broken_json_is_refused(body: bytes, says: str) -> None:
    found = read(body, NAMES_ONE, ("pw-tenant", b"acme"))
    assert isinstance(found, Unfit)
    assert found.code == "invalid_request"
    assert found.message.startswith(says)
    assert len(found.message) <= 600
    assert found.sender.tenant == "acme"


def test_a_record_has_its_size_all_together() -> None:
    # 5 + 3 of ce_id, 1 of the key.
    assert isinstance(read(b"x" * 899_991), Submitted)
    found = read(b"x" * 899_992)
    assert isinstance(found, Unfit)
    assert found.code == "too_large"
    assert found.message == (
        "a record may have 900000 bytes, and this one has 900001: put a larger document into a "
        "blob or behind an address, and name that (DocumentSubmitted)"
    )
    by_headers = read(b"", ("x", b"y" * 899_991))
    assert isinstance(by_headers, Unfit)
    assert by_headers.code == "too_large"


def test_what_the_bus_could_not_read_is_no_submission() -> None:
    with pytest.raises(CodecError, match="the name of header 2 is not UTF-8"):
        read(b"x", ("ce_pwunreadable", b"the name of header 2 is not UTF-8: ff"))
