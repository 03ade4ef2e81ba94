"""Ids: forms, order, and sameness."""

import uuid

import pytest

from schemas.ids import (
    document_id,
    is_tenant,
    is_uuid,
    sibling_id,
    uuid7,
)


def test_uuid7_sorts_by_time() -> None:
    assert uuid7(1_000) < uuid7(1_001) < uuid7(2**47)


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
