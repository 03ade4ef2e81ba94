"""Example events, one of each class: a document from a producer on the bus to its bill."""

from datetime import UTC, datetime, timedelta

from schemas.alert_events import BudgetThresholdCrossed, SpendRateUnusual
from schemas.cost_events import CostCorrected, CostReleased, CostReserved, CostSettled
from schemas.events import (
    BlobRef,
    Body,
    CancelRequested,
    DeleteRequested,
    DocumentUploaded,
    Event,
    JobMoved,
    ParseDeferred,
    ParseFailed,
    ParseOptions,
    ParseQueued,
    ParseStarted,
    ParseSucceeded,
    RetryDue,
    RetryRequested,
    ServiceCalled,
    StageTimed,
    VendorJobSeen,
    WebhookReceived,
)
from schemas.ids import derived_id
from schemas.submission_events import DocumentAccepted, DocumentRefused, DocumentSubmitted

CONTENT = b"Hello from the bus.\n"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

_SHA256 = "f32be3e07b0842d64376ef1bf404aaa67c2da5c30cd0721e513b7ceab844f9db"
_TENANT, _REFERENCE, _SUBMISSION = "acme", "invoice-4711", "acme-invoice-4711-v1"
_JOB = "019a6c1e-8b40-7d3c-9f0e-2b7a54c1d680"
_DOCUMENT = "0f6c2a53-1a7e-5d44-8c0b-6b1e0d7f9a21"
_SOURCE = BlobRef(f"{_TENANT}/{_JOB}/source", _SHA256, 20)
_RESULT = BlobRef(
    f"{_TENANT}/{_JOB}/1/result",
    "9b2d7c4f1e8a605b3d9f7a2c4e6b8d0f1a3c5e7092b4d6f8a1c3e5f70b2d4f68",
    412,
)
_NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
_THIS_JOB = (_JOB, _TENANT, 1)
_LLAMAPARSE, _VENDOR_JOB = "llamaparse", "pjb-7k2m9q4x"
_PAID = (*_THIS_JOB, _LLAMAPARSE, "cost_effective", _NOON)

_SUBMISSIONS: tuple[Body, ...] = (
    DocumentSubmitted(
        sha256=_SHA256,
        size_bytes=20,
        url="https://files.acme.example/invoices/4711.txt",
        tenant=_TENANT,
        media_type="text/plain",
        reference=_REFERENCE,
        options={"name": "4711.txt", "max_pages": "50"},
    ),
    DocumentAccepted(
        submission_id=_SUBMISSION,
        tenant=_TENANT,
        job_id=_JOB,
        document_id=_DOCUMENT,
        duplicate=False,
        state="uploaded",
        reference=_REFERENCE,
    ),
    DocumentRefused(
        submission_id=_SUBMISSION,
        tenant=_TENANT,
        code="document_empty",
        message="the document has no bytes",
        reference=_REFERENCE,
    ),
)

_JOBS: tuple[Body, ...] = (
    DocumentUploaded(
        *_THIS_JOB,
        document_id=_DOCUMENT,
        source=_SOURCE,
        media_type="text/plain",
        name="4711.txt",
        options=ParseOptions(max_pages=50, languages=("en", "de"), target_pages="1,3-5"),
    ),
    ParseStarted(*_THIS_JOB, worker="worker-1"),
    ParseQueued(*_THIS_JOB, parser=_LLAMAPARSE, vendor_job_id=_VENDOR_JOB),
    ParseSucceeded(
        *_THIS_JOB,
        result=_RESULT,
        parser="liteparse",
        parser_version="2.18.0",
        pages=3,
        warnings=("page_missing:7-9",),
    ),
    ParseFailed(
        *_THIS_JOB,
        code="vendor_rate_limited",
        message="LlamaParse asks to come back later",
        transient=True,
        parser=_LLAMAPARSE,
        retry_after_seconds=20.0,
    ),
    ParseDeferred(*_THIS_JOB, code="budget_spent", retry_after_seconds=3600.0),
    RetryDue(*_THIS_JOB),
    CancelRequested(*_THIS_JOB),
    RetryRequested(*_THIS_JOB),
    DeleteRequested(*_THIS_JOB),
    JobMoved(
        *_THIS_JOB,
        document_id=_DOCUMENT,
        from_state="parsed",
        to_state="complete",
        parser="liteparse",
        pages=3,
        result=_RESULT,
        reference=_REFERENCE,
        result_url="https://parsewire.acme.example/api/v1/results/eyJqb2IiOiIwMTlhNmMxZSJ9.c2lnbmVk",
    ),
)

_ELSEWHERE: tuple[Body, ...] = (
    VendorJobSeen(_LLAMAPARSE, _VENDOR_JOB),
    WebhookReceived(
        webhook=_LLAMAPARSE,
        subject=_VENDOR_JOB,
        headers=(
            ("content-type", b"application/json"),
            ("lc-signature", b"sha256=" + b"5d" * 32),
        ),
        content=b'{"event_type": "parse.success", "data": {"job_id": "pjb-7k2m9q4x"}}',
    ),
    StageTimed(_TENANT, "liteparse", "parse", "succeeded", 0.42),
    ServiceCalled(_TENANT, _LLAMAPARSE, "submit", "succeeded", 0.31, pages=3),
)

_MONEY: tuple[Body, ...] = (
    CostReserved(*_PAID, pages=3, micro_usd=11_250),
    CostSettled(
        *_PAID,
        vendor_job_id=_VENDOR_JOB,
        basis="billed",
        pages=3,
        micro_usd=11_250,
        credits=9.0,
    ),
    CostReleased(*_PAID, reason="worker_lost"),
    CostCorrected(*_PAID, vendor_job_id=_VENDOR_JOB, pages=-1, micro_usd=-3_750, credits=6.0),
    BudgetThresholdCrossed(
        budget="tenant:acme",
        tenant=_TENANT,
        percent=80,
        measure="micro_usd",
        used=16_100_000,
        limit=20_000_000,
        window_start=_NOON - timedelta(hours=12),
        window_end=_NOON + timedelta(hours=12),
    ),
    SpendRateUnusual(
        tenant=_TENANT,
        service=_LLAMAPARSE,
        window_start=_NOON,
        micro_usd=9_000_000,
        usual_micro_usd=700_000,
    ),
)


def _event(body: Body) -> Event:
    name = type(body).__name__
    if isinstance(body, DocumentSubmitted):
        return Event(_SUBMISSION, "/acme/invoices", _NOON, body, TRACE)
    return Event(derived_id("example", name), "/parsewire/example", _NOON, body, TRACE)


EXAMPLES = tuple(map(_event, (*_SUBMISSIONS, *_JOBS, *_ELSEWHERE, *_MONEY)))
"""An event of each class."""

DOCUMENT_HEADERS = {
    "ce_id": _SUBMISSION,
    "content-type": "text/plain",
    "pw-tenant": _TENANT,
    "pw-name": "4711.txt",
    "pw-reference": _REFERENCE,
    "pw-max-pages": "50",
    "traceparent": TRACE,
}
"""The headers of a record whose value is the document itself."""
