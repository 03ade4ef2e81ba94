"""Events: past-tense facts and requests, as they stand in the topics.

An event's class name is its CloudEvents type without the prefix (`codec.TYPE_PREFIX`). Fields are
only ever added, with a default; a reader ignores those that it does not know.
"""

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from schemas.alert_events import BudgetThresholdCrossed, SpendRateUnusual
from schemas.cost_events import CostCorrected, CostReleased, CostReserved, CostSettled
from schemas.fields import Aware, Count, Languages, Positive, Prompt, Seconds, Sha256, TargetPages
from schemas.submission_events import DocumentAccepted, DocumentRefused, DocumentSubmitted

Tier = Literal["fast", "cost_effective", "agentic", "agentic_plus"]
Mode = Literal["local", "real", "hybrid", "mock"]


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Where bytes are kept, and what they must be: key, lower-case hex sha256, size in bytes."""

    key: str
    sha256: Sha256
    size_bytes: Count


@dataclass(frozen=True, slots=True)
class ParseOptions:
    """What a producer may ask of a parse; a part of what makes two uploads the same job.

    `languages` are those of the OCR, the main one first; `target_pages` counts from 1, as in
    `1,3-5`. A parser that cannot do what an option says leaves it out.
    """

    max_pages: Positive | None = None
    tier: Tier | None = None
    languages: Languages = ()
    target_pages: TargetPages | None = None
    prompt: Prompt | None = None
    mode: Mode | None = None
    disable_cache: bool = False


@dataclass(frozen=True, slots=True)
class JobEvent:
    """What every event of a job carries."""

    job_id: str
    tenant: str
    attempt: Positive


@dataclass(frozen=True, slots=True)
class DocumentUploaded(JobEvent):
    """A document is kept and waits for a worker; said again for every attempt."""

    document_id: str
    source: BlobRef
    media_type: str
    name: str | None = None
    options: ParseOptions = field(default_factory=ParseOptions)
    failed_with: str | None = None
    """The code that the last attempt ended with: who failed then need not be asked first."""


@dataclass(frozen=True, slots=True)
class ParseStarted(JobEvent):
    """A worker has claimed the attempt (information only)."""

    worker: str


@dataclass(frozen=True, slots=True)
class ParseQueued(JobEvent):
    """A parser elsewhere has taken the document under its own job id."""

    parser: str
    vendor_job_id: str
    finished: bool = False
    """It had the result at once: nobody else will say so."""


@dataclass(frozen=True, slots=True)
class ParseSucceeded(JobEvent):
    """The result is kept."""

    result: BlobRef
    parser: str
    parser_version: str
    pages: Count
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ParseFailed(JobEvent):
    """The attempt has ended without a result."""

    code: str
    message: str
    transient: bool
    parser: str | None = None
    retry_after_seconds: Seconds | None = None


@dataclass(frozen=True, slots=True)
class ParseDeferred(JobEvent):
    """The attempt was put off; it counts towards nothing. No wait means at once.

    A wait, and no moment: that would be one machine's clock, read by another's.
    """

    code: str
    retry_after_seconds: Seconds | None = None


@dataclass(frozen=True, slots=True)
class RetryDue(JobEvent):
    """The wait before the next attempt is over."""


@dataclass(frozen=True, slots=True)
class CancelRequested(JobEvent):
    """Somebody asked to cancel the job."""


@dataclass(frozen=True, slots=True)
class RetryRequested(JobEvent):
    """Somebody asked to run a failed or cancelled job again."""


@dataclass(frozen=True, slots=True)
class DeleteRequested(JobEvent):
    """Somebody asked to delete the job and its bytes."""


@dataclass(frozen=True, slots=True)
class JobMoved(JobEvent):
    """The job-state table moved the job."""

    document_id: str
    from_state: str | None
    to_state: str
    code: str | None = None
    parser: str | None = None
    pages: Count | None = None
    result: BlobRef | None = None
    reference: str | None = None
    result_url: str | None = None
    """Where a complete job's result is fetched without a key, for a while; it is a secret."""


@dataclass(frozen=True, slots=True)
class VendorJobSeen:
    """A parser elsewhere said something new of its job: somebody should fetch what it has."""

    parser: str
    vendor_job_id: str


@dataclass(frozen=True, slots=True)
class WebhookReceived:
    """A verified webhook, raw: its bytes are the record's value, or a blob where they are many.

    `subject` is the vendor's job id, or what else names the matter; `headers` are the request's
    relevant ones, names in lower case, so that the signature can be verified again.
    """

    webhook: str
    subject: str
    headers: tuple[tuple[str, bytes], ...]
    content: bytes
    blob: BlobRef | None = None


@dataclass(frozen=True, slots=True)
class StageTimed:
    """One stage of one job took this long (a measurement; nothing is decided from it)."""

    tenant: str
    service: str
    stage: str
    outcome: str
    seconds: Seconds


@dataclass(frozen=True, slots=True)
class ServiceCalled:
    """A parser or other service was called once."""

    tenant: str
    service: str
    operation: str
    outcome: str
    seconds: Seconds
    pages: Count = 0


JobInput = (
    ParseStarted
    | ParseQueued
    | ParseSucceeded
    | ParseFailed
    | ParseDeferred
    | RetryDue
    | CancelRequested
    | RetryRequested
    | DeleteRequested
)
"""What the topic `jobs.events` carries."""

CostInput = CostReserved | CostSettled | CostReleased | CostCorrected
"""What the topic `costs.events` carries."""

Alert = BudgetThresholdCrossed | SpendRateUnusual
"""What the topic `usage.alerts` carries."""

Body = (
    DocumentSubmitted
    | DocumentAccepted
    | DocumentRefused
    | DocumentUploaded
    | JobInput
    | JobMoved
    | VendorJobSeen
    | WebhookReceived
    | StageTimed
    | ServiceCalled
    | CostInput
    | Alert
)
"""Everything that a topic may carry."""


class Event(msgspec.Struct, frozen=True):
    """A body with its CloudEvents attributes."""

    id: str
    source: str
    time: Aware
    body: Body
    traceparent: str | None = None
