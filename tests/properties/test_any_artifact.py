"""Artifacts of any shape: none breaks the reader, and pages that are read rise."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.artifact_webhook import read_artifact_webhook
from schemas.errors import Code, PermanentError
from streams.artifact_pages import read_pages
from tests.doubles.callback_service import artifact

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


FIELDS = st.fixed_dictionaries(
    {"job_id": st.text(max_size=5), "document_id": st.text(max_size=5)},
    optional={
        "status": st.sampled_from(["parsed", "failed", "processing"]) | JSON,
        **dict.fromkeys(("correlation_id", "parse_job_id", "meta", "error"), JSON),
    },
)


ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["pages", "markdown", "text"]) | JSON,
        "content": st.text(max_size=30) | JSON,
        "sha256": st.text(max_size=64) | JSON,
        "bytes": st.integers(0, 30) | JSON,
    },
)


HONEST = st.builds(
    artifact,
    st.sampled_from(["pages", "markdown", "text"]),
    st.text(max_size=40) | JSON.map(json.dumps),
)


@settings(max_examples=300)
@given(FIELDS, st.binary(max_size=40))
def test_no_body_breaks_the_reader(fields: dict[str, Any], noise: bytes) -> None:
    assert read_artifact_webhook(noise) is None
    sent = read_artifact_webhook(json.dumps(fields).encode())
    assert sent is None or (sent.attempt() or 0) >= 0


@settings(max_examples=300)
@given(st.lists(HONEST | ENTRIES, max_size=3) | JSON)
def test_no_artifacts_break_the_reader(artifacts: Any) -> None:
    code, numbers = None, [1]
    try:
        numbers = [page.number for page in read_pages(artifacts)]
    except PermanentError as error:
        code = error.code
    assert code in (None, Code.ARTIFACT_UNUSABLE)
    assert numbers
    assert numbers == sorted(set(numbers))
