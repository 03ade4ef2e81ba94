"""Ids: forms, order, and sameness."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import (
    DERIVED,
    DOCUMENTS,
    derived_id,
    document_id,
    is_tenant,
    is_uuid,
    sibling_id,
    uuid7,
)


@given(st.integers(0, 2**48 - 1))
def test_uuid7_carries_its_time(unix_ms: int) -> None:
    made = uuid.UUID(uuid7(unix_ms))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == unix_ms


def test_uuid7_sorts_by_time() -> None:
    assert uuid7(1_000) < uuid7(1_001) < uuid7(2**47)


@given(st.lists(st.text(max_size=10) | st.integers(), max_size=4))
def test_a_derived_id_is_a_uuid5_of_its_parts(parts: list[str | int]) -> None:
    assert derived_id(*parts) == str(uuid.uuid5(DERIVED, "/".join(map(str, parts))))


@given(st.text(max_size=10), st.text("0123456789abcdef", min_size=64, max_size=64))
def test_a_document_is_a_uuid5_of_tenant_and_content(tenant: str, sha256: str) -> None:
    assert document_id(tenant, sha256) == str(uuid.uuid5(DOCUMENTS, f"{tenant}/{sha256}"))


def test_a_document_is_its_tenants_own() -> None:
    assert document_id("acme", "A" * 64) == document_id("acme", "a" * 64)
    assert document_id("acme", "a" * 64) != document_id("other", "a" * 64)


@pytest.mark.parametrize("text", ["a", "acme-1_x", "0" * 63])
def test_tenants(text: str) -> None:
    assert is_tenant(text)


@pytest.mark.parametrize("text", ["", "A", "-a", "_a", "a/b", "..", "a" * 64, "a\n", "\u00e4"])
def test_no_tenants(text: str) -> None:
    assert not is_tenant(text)


def test_uuids() -> None:
    assert is_uuid(uuid7())
    assert not is_uuid(uuid7().upper().replace("0", "A"))
    assert not is_uuid(uuid7() + "\n")


def test_a_sibling_stands_beside_its_event_and_is_always_the_same() -> None:
    event = "018f3a5e-7c00-7abc-8def-0123456789ab"
    sibling = sibling_id(event, "moved", "parsed")
    assert sibling[:13] == "018f3a5e-7c00"
    assert uuid.UUID(sibling).version == 8
    assert uuid.UUID(sibling).variant == uuid.RFC_4122
    assert sibling == sibling_id(event, "moved", "parsed")
    assert sibling != sibling_id(event, "moved", "complete")
    assert sibling != sibling_id("018f3a5e-7c00-7abc-8def-0123456789ac", "moved", "parsed")
