"""Who sends and who receives: the roles of Parsewire at its topics, as AsyncAPI's operations."""

from dataclasses import dataclass
from typing import Literal

from schemas.cost_events import CostCorrected, CostReleased, CostReserved, CostSettled
from schemas.events import (
    Body,
    CancelRequested,
    DeleteRequested,
    ParseDeferred,
    ParseFailed,
    ParseQueued,
    ParseStarted,
    ParseSucceeded,
    RetryDue,
    RetryRequested,
    ServiceCalled,
    VendorJobSeen,
    WebhookReceived,
)
from schemas.topics import (
    COSTS_EVENTS,
    DOCUMENTS_ANSWERED,
    DOCUMENTS_SUBMITTED,
    DOCUMENTS_UPLOADED,
    JOBS_EVENTS,
    JOBS_MOVED,
    METRICS_EVENTS,
    USAGE_ALERTS,
    WEBHOOKS_RECEIVED,
    Topic,
)


@dataclass(frozen=True, slots=True)
class Operation:
    """A role sends to a topic or receives from it; no events named: all of the topic's."""

    role: str
    action: Literal["send", "receive"]
    topic: Topic
    summary: str
    events: tuple[type[Body], ...] = ()
    reply: Topic | None = None

    @property
    def name(self) -> str:
        """Name the operation."""
        return f"{self.role}-{self.action}-{self.topic.name.replace('.', '-')}"


OPERATIONS = (
    Operation(
        "intake",
        "receive",
        DOCUMENTS_SUBMITTED,
        "Takes documents of producers on the bus, and answers each.",
        reply=DOCUMENTS_ANSWERED,
    ),
    Operation("intake", "send", DOCUMENTS_ANSWERED, "Says what became of a submission."),
    Operation("intake", "send", DOCUMENTS_UPLOADED, "Offers a new document to the parsers."),
    Operation(
        "intake", "send", JOBS_EVENTS, "Asks a failed job that is met again.", (RetryRequested,)
    ),
    Operation("gateway", "send", DOCUMENTS_UPLOADED, "Offers a new document to the parsers."),
    Operation(
        "gateway",
        "send",
        JOBS_EVENTS,
        "Passes on what people ask of a job.",
        (CancelRequested, RetryRequested, DeleteRequested),
    ),
    Operation(
        "gateway", "send", WEBHOOKS_RECEIVED, "Keeps a verified webhook.", (WebhookReceived,)
    ),
    Operation("parse", "receive", DOCUMENTS_UPLOADED, "Claims a document, and parses it."),
    Operation(
        "parse",
        "send",
        JOBS_EVENTS,
        "Says how the attempt goes.",
        (ParseStarted, ParseQueued, ParseSucceeded, ParseFailed, ParseDeferred),
    ),
    Operation(
        "parse",
        "send",
        COSTS_EVENTS,
        "Holds money before it is spent, and gives it back.",
        (CostReserved, CostReleased),
    ),
    Operation("parse", "send", METRICS_EVENTS, "Says how long it took."),
    Operation("callbacks", "receive", WEBHOOKS_RECEIVED, "Fetches what the webhook is about."),
    Operation(
        "callbacks",
        "send",
        JOBS_EVENTS,
        "Says how a job elsewhere has ended.",
        (ParseQueued, ParseSucceeded, ParseFailed),
    ),
    Operation(
        "callbacks",
        "send",
        COSTS_EVENTS,
        "Books the bill that came with it.",
        (CostSettled, CostCorrected),
    ),
    Operation("callbacks", "send", METRICS_EVENTS, "Says how long a call took.", (ServiceCalled,)),
    Operation("job_state", "receive", JOBS_EVENTS, "Moves the job."),
    Operation("job_state", "send", JOBS_MOVED, "Tells the world of each move."),
    Operation("job_state", "send", DOCUMENTS_UPLOADED, "Offers the next attempt."),
    Operation("sweeper", "send", DOCUMENTS_UPLOADED, "Offers again what nobody has claimed."),
    Operation(
        "sweeper",
        "send",
        JOBS_EVENTS,
        "Says what is due: a retry, a lost worker, a job elsewhere.",
        (RetryDue, ParseFailed, ParseQueued),
    ),
    Operation("sweeper", "send", JOBS_MOVED, "Says again that a job is parsed."),
    Operation("sweeper", "send", WEBHOOKS_RECEIVED, "Says what a poll has seen.", (VendorJobSeen,)),
    Operation(
        "sweeper",
        "send",
        COSTS_EVENTS,
        "Books a bill that was asked for, or an end without one.",
        (CostSettled, CostReleased, CostCorrected),
    ),
    Operation("costs", "receive", COSTS_EVENTS, "Keeps the ledger and the budgets."),
    Operation("windows", "receive", COSTS_EVENTS, "Counts spending by the hour and the day."),
    Operation("windows", "receive", METRICS_EVENTS, "Counts calls and times."),
    Operation("windows", "send", USAGE_ALERTS, "Raises an alert, once."),
    Operation("alerts", "receive", USAGE_ALERTS, "Logs it, and sends it to a webhook."),
)
"""Every role of Parsewire; producers and consumers elsewhere do the reverse."""
