"""Topics: their names, keys, contents and sizes."""

from dataclasses import dataclass

from schemas.events import (
    Body,
    CancelRequested,
    DeleteRequested,
    DocumentUploaded,
    JobMoved,
    ParseDeferred,
    ParseFailed,
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

MAX_RECORD_BYTES = 900_000
"""Value, key and headers together; a larger record is refused before it is sent."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its name without the deployment's prefix, and what it is made with."""

    name: str
    key: str
    events: tuple[type[Body], ...]
    partitions: int
    retention_hours: int
    kept_until_seen: bool = False
    """Outbox rows for it leave only when its fold has seen them, not at the broker's ack."""


DOCUMENTS_UPLOADED = Topic("documents.uploaded", "job id", (DocumentUploaded,), 12, 168)
WEBHOOKS_RECEIVED = Topic(
    "webhooks.received",
    "vendor job id, else event id",
    (WebhookReceived, VendorJobSeen),
    12,
    168,
)
JOBS_EVENTS = Topic(
    "jobs.events",
    "job id",
    (
        ParseStarted,
        ParseQueued,
        ParseSucceeded,
        ParseFailed,
        ParseDeferred,
        RetryDue,
        CancelRequested,
        RetryRequested,
        DeleteRequested,
    ),
    12,
    168,
    kept_until_seen=True,
)
JOBS_MOVED = Topic("jobs.moved", "job id", (JobMoved,), 12, 168)
METRICS_EVENTS = Topic("metrics.events", "tenant", (StageTimed, ServiceCalled), 6, 24)

TOPICS = (DOCUMENTS_UPLOADED, WEBHOOKS_RECEIVED, JOBS_EVENTS, JOBS_MOVED, METRICS_EVENTS)

_BY_EVENT: dict[type[Body], Topic] = {event: topic for topic in TOPICS for event in topic.events}


def topic_of(body: Body) -> Topic:
    """Tell where an event goes."""
    return _BY_EVENT[type(body)]


def key_of(body: Body) -> str:
    """Tell the record key of an event: what orders it among its like."""
    match body:
        case StageTimed() | ServiceCalled():
            return body.tenant
        case VendorJobSeen():
            return body.vendor_job_id
        case WebhookReceived():
            return body.subject
        case _:
            return body.job_id
