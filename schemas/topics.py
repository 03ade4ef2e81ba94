"""Topics: their names, keys, contents and sizes."""

from dataclasses import dataclass

from schemas.alert_events import BudgetThresholdCrossed, SpendRateUnusual
from schemas.cost_events import CostCorrected, CostReleased, CostReserved, CostSettled
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
from schemas.submission_events import DocumentAccepted, DocumentRefused, DocumentSubmitted

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
    stamped_on_arrival: bool = False
    """Its producers' clocks are not ours: by an old time a record is deleted before it is read."""


DOCUMENTS_SUBMITTED = Topic(
    "documents.submitted",
    "the producer's own",
    (DocumentSubmitted,),
    12,
    168,
    stamped_on_arrival=True,
)
DOCUMENTS_ANSWERED = Topic(
    "documents.answered", "as submitted", (DocumentAccepted, DocumentRefused), 12, 168
)
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
COSTS_EVENTS = Topic(
    "costs.events",
    "tenant",
    (CostReserved, CostSettled, CostReleased, CostCorrected),
    6,
    168,
    kept_until_seen=True,
)
METRICS_EVENTS = Topic("metrics.events", "tenant", (StageTimed, ServiceCalled), 6, 24)
USAGE_ALERTS = Topic("usage.alerts", "tenant", (BudgetThresholdCrossed, SpendRateUnusual), 1, 168)

TOPICS = (
    DOCUMENTS_SUBMITTED,
    DOCUMENTS_ANSWERED,
    DOCUMENTS_UPLOADED,
    WEBHOOKS_RECEIVED,
    JOBS_EVENTS,
    JOBS_MOVED,
    COSTS_EVENTS,
    METRICS_EVENTS,
    USAGE_ALERTS,
)

_BY_EVENT: dict[type[Body], Topic] = {event: topic for topic in TOPICS for event in topic.events}


def topic_of(body: Body) -> Topic:
    """Tell where an event goes."""
    return _BY_EVENT[type(body)]


_KEY_FIELDS: dict[type[Body], str] = {
    DocumentSubmitted: "sha256",
    DocumentAccepted: "submission_id",
    DocumentRefused: "submission_id",
    VendorJobSeen: "vendor_job_id",
    WebhookReceived: "subject",
    **dict.fromkeys((*COSTS_EVENTS.events, *METRICS_EVENTS.events, *USAGE_ALERTS.events), "tenant"),
}


def key_of(body: Body) -> str:
    """Tell the record key of an event: what orders it among its like."""
    key: str = getattr(body, _KEY_FIELDS.get(type(body), "job_id"))
    return key
