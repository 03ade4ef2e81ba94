"""What LlamaCloud's words mean: refusals, failures, pages, orders; no network."""

import orjson
import pytest

from schemas.errors import Code, ParsewireError, PermanentError, TransientError
from streams.parsers.base import Page, VendorState
from streams.parsers.llamaparse_answers import (
    JobAnswer,
    UsageAnswer,
    is_vendor_id,
    vendor_job,
)
from streams.parsers.llamaparse_pages import (
    MarkdownPage,
    MarkdownResult,
    ResultAnswer,
    TextPage,
    TextResult,
    join_pages,
    refuse_or_warn,
)
from streams.parsers.llamaparse_refusals import (
    NoAnswerError,
    Refusal,
    error_of,
    read_refusal,
    vendor_fault,
)

DONE = JobAnswer("pjb-1", "COMPLETED")
WHOLE = JobAnswer("pjb-1", "COMPLETED", user_metadata={"page_limit": "400"})


@pytest.mark.parametrize(
    ("status", "said", "kind", "code", "fault"),
    [
        (302, "", TransientError, "vendor_failed", "vendor_failed"),
        (400, "Uploaded file is empty.", PermanentError, "vendor_refused", None),
        (401, "bad key", TransientError, "vendor_unauthorized", "vendor_unauthorized"),
        (402, "No quota left", TransientError, "vendor_quota_spent", "vendor_quota_spent"),
        (403, "", TransientError, "vendor_unauthorized", "vendor_unauthorized"),
        (404, "", TransientError, "vendor_failed", None),
        (408, "", TransientError, "vendor_failed", None),
        (409, "", TransientError, "vendor_failed", None),
        (413, "", PermanentError, "document_too_large", None),
        (415, "", PermanentError, "vendor_refused", None),
        (422, "", PermanentError, "vendor_refused", None),
        (429, "", TransientError, "vendor_rate_limited", "vendor_rate_limited"),
        (429, "Rate limit exceeded.", TransientError, "vendor_rate_limited", "vendor_rate_limited"),
        (
            429,
            "Rate limit exceeded: the maximum number of requests of your plan",
            TransientError,
            "vendor_rate_limited",
            "vendor_rate_limited",
        ),
        (
            429,
            "You've already reached the maximum number of projects for your plan",
            TransientError,
            "vendor_quota_spent",
            "vendor_quota_spent",
        ),
        (500, "", NoAnswerError, "vendor_failed", "vendor_failed"),
        (503, "", NoAnswerError, "vendor_failed", "vendor_failed"),
    ],
)
def test_what_a_refusal_means_to_a_document(
    status: int, said: str, kind: type[ParsewireError], code: str, fault: str | None
) -> None:
    refusal = Refusal(status, said)
    error = error_of(refusal, "submit", of_document=True)
    assert (type(error), error.code) == (kind, code)
    assert vendor_fault(refusal) == fault


@pytest.mark.parametrize("status", [400, 404, 409, 413, 415, 422])
def test_a_call_that_stands_for_no_document_blames_none(status: int) -> None:
    error = error_of(Refusal(status, "no"), "look", of_document=False)
    assert (type(error), error.code) == (TransientError, Code.VENDOR_FAILED)
    assert error.message == f"LlamaParse answered look with {status}: no"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"detail": "Not\\nthere"}', "Not there"),
        (b"<html>It works!</html>", ""),
        (b"", ""),
        (b"[1]", ""),
        (b'{"detail": null}', ""),
        (
            b'{"detail": [{"loc": ["body", "tier"], "msg": "wrong", "input": "x"}]}',
            "body.tier: wrong",
        ),
        (b'{"detail": "key llx-1 is bad"}', "key [...] is bad"),
    ],
)
def test_what_a_refusal_says(body: bytes, said: str) -> None:
    assert read_refusal(400, body, None, ["llx-1"]).said == said


def test_a_secret_is_taken_out_before_anything_is_cut_off() -> None:
    body = orjson.dumps({"detail": [{"msg": "x" * 110 + " my prompt, in many words"}]})
    assert "prompt" not in read_refusal(422, body, None, ["my prompt, in many words"]).said


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("17", 17.0), (" 17 ", 17.0), ("-1", None), ("1e3", None), ("99999999", 3600.0)],
)
def test_how_long_to_wait(header: str | None, seconds: float | None) -> None:
    assert read_refusal(429, b"", header, []).retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("status", "message", "state", "code", "transient"),
    [
        ("PENDING", None, "pending", None, False),
        ("RUNNING", None, "pending", None, False),
        ("WAITING_FOR_GODOT", None, "pending", None, False),
        ("COMPLETED", None, "completed", None, False),
        ("CANCELLED", None, "cancelled", "vendor_cancelled", True),
        ("FAILED", None, "failed", "vendor_failed", True),
        ("FAILED", "Something broke", "failed", "vendor_failed", True),
        ("FAILED", "TIMEOUT", "failed", "vendor_failed", True),
        ("FAILED", "Error: PDF_IS_PROTECTED", "failed", "document_encrypted", False),
        ("FAILED", "PDF_IS_BROKEN", "failed", "document_broken", False),
        ("FAILED", "NO_DATA_FOUND_IN_FILE", "failed", "document_has_no_text", False),
        ("FAILED", "UNSUPPORTED_FILE_TYPE", "failed", "unsupported_media_type", False),
        ("FAILED", "DOCUMENT_TOO_LARGE", "failed", "document_too_large", False),
        ("FAILED", "TOO_MANY_PAGES", "failed", "document_too_many_pages", False),
    ],
)
def test_where_a_job_stands(
    status: str, message: str | None, state: str, code: str | None, transient: bool
) -> None:
    job = vendor_job(JobAnswer("pjb-1", status, error_message=message))
    assert (job.state, job.code, job.transient) == (state, code, transient)


@pytest.mark.parametrize(
    ("tags", "job_id", "attempt"),
    [
        (None, None, None),
        ({}, None, None),
        ({"job": "j", "attempt": "3"}, "j", 3),
        ({"job": "j", "attempt": "0"}, "j", None),
        ({"job": "j", "attempt": "-1"}, "j", None),
        ({"job": "j", "attempt": "³"}, "j", None),
        ({"job": 7, "attempt": 3}, None, None),
    ],
)
def test_whose_job_it_is(
    tags: dict[str, object] | None, job_id: str | None, attempt: int | None
) -> None:
    job = vendor_job(JobAnswer("pjb-1", "PENDING", user_metadata=tags))
    assert (job.job_id, job.attempt) == (job_id, attempt)


@pytest.mark.parametrize(
    ("given_credits", "told"),
    [(None, None), (0, 0), (4.5, 4.5), (-1, None), (1e9, 1e9), (1.1e9, None), (1e300, None)],
)
def test_what_a_job_costs(given_credits: float | None, told: float | None) -> None:
    job = vendor_job(JobAnswer("pjb-1", "COMPLETED", usage=UsageAnswer(given_credits)))
    assert (job.state, job.credits) == (VendorState.COMPLETED, told)


def test_ids_that_are_safe_in_a_path() -> None:
    assert is_vendor_id("pjb-0190a1b2-0000-7000-8000-000000000001")
    for text in ("", ".", "..", "-x", "a/b", "a b", "a?b", "a%2fb", "a\n", "é", "a" * 201):
        assert not is_vendor_id(text)


def test_one_of_the_two_results_stands_for_both() -> None:
    markdown = [MarkdownPage(1, markdown="# One"), MarkdownPage(3, markdown="  ")]
    text = [TextPage(2, "two\n"), TextPage(3, "three")]
    pages, failed = join_pages(ResultAnswer(DONE, MarkdownResult(markdown), TextResult(text)))
    assert pages == [Page(1, "# One", "# One"), Page(2, "two", "two"), Page(3, "three", "three")]
    assert failed == {}


def test_warnings_stand_in_page_order_and_are_bounded() -> None:
    pages = [Page(n, "", "") for n in range(1, 151)] + [Page(151, "x", "x")]
    warnings = refuse_or_warn(ResultAnswer(DONE), pages, {2: "why"}, [])
    assert warnings[:3] == ("page_has_no_text:1", "page_failed:2:why", "page_has_no_text:3")
    assert len(warnings) == 101
    assert warnings[-1] == "warnings_left_out:50"


def test_none_is_missing_where_nobody_tells_which_were_wanted() -> None:
    pages = [Page(2, "x", "x"), Page(9, "x", "x")]
    told = {"job_pages": 12}
    assert refuse_or_warn(ResultAnswer(DONE, job_metadata=told), pages, {}, []) == ()
    missing = refuse_or_warn(ResultAnswer(WHOLE, job_metadata=told), pages, {}, [])
    assert missing[:3] == ("page_missing:1", "page_missing:3", "page_missing:4")
    assert len(missing) == 10


@pytest.mark.parametrize("told", [{"job_pages": True}, {"job_pages": "9"}, {"pages": [1]}, {}])
def test_a_page_count_that_is_none_is_not_believed(told: dict[str, object]) -> None:
    answer = ResultAnswer(WHOLE, job_metadata=told)
    assert refuse_or_warn(answer, [Page(1, "x", "x")], {}, []) == ()
