"""Ids of any parts: their form, time and sameness."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import (
    DERIVED,
    DOCUMENTS,
    derived_id,
    document_id,
    uuid7,
)


@given(st.integers(0, 2**48 - 1))
def test_uuid7_carries_its_time(unix_ms: int) -> None:
    made = uuid.UUID(uuid7(unix_ms))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == unix_ms


@given(st.lists(st.text(max_size=10) | st.integers(), max_size=4))
def test_a_derived_id_is_a_uuid5_of_its_parts(parts: list[str | int]) -> None:
    assert derived_id(*parts) == str(uuid.uuid5(DERIVED, "/".join(map(str, parts))))


@given(st.text(max_size=10), st.text("0123456789abcdef", min_size=64, max_size=64))
def test_a_document_is_a_uuid5_of_tenant_and_content(tenant: str, sha256: str) -> None:
    assert document_id(tenant, sha256) == str(uuid.uuid5(DOCUMENTS, f"{tenant}/{sha256}"))
