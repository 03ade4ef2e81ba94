"""Parse jobs of the double: their statuses over time, their cache and their bills."""

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.doubles.llamacloud.catalogue import (
    CREDITS_PER_PAGE,
    ENDS,
    HIGH_CONFIDENCE_CREDITS_PER_PAGE,
    Status,
)
from tests.doubles.llamacloud.content import (
    PageText,
    Plan,
    chosen_pages,
    page_texts,
    trouble_with,
)

CACHE_SECONDS = 48 * 3600
DEFAULT_ALLOWED_PAGE_FAILURE_RATIO = 0.05
# What changes no result, and so does not miss the cache.
NOT_IN_THE_CACHE_KEY = frozenset(
    {"webhook_configurations", "webhook_configuration_ids", "user_metadata", "client_name"}
    | {"disable_cache", "file_id", "http_proxy"}
)


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook configuration; `events` None means all of them."""

    url: str
    events: frozenset[str] | None
    headers: Mapping[str, str]
    output_format: str
    secret: str | None


def hook_from(config: Mapping[str, Any]) -> Hook:
    """Read a webhook configuration as it comes over the wire."""
    events = config.get("webhook_events")
    return Hook(
        url=config.get("webhook_url") or "",
        events=None if events is None else frozenset(events),
        headers=config.get("webhook_headers") or {},
        output_format=config.get("webhook_output_format") or "string",
        secret=config.get("webhook_signing_secret"),
    )


@dataclass(slots=True)
class Job:
    """A parse job: what was asked, where it stands, what came out."""

    id: str
    project_id: str
    name: str
    content: bytes
    options: dict[str, Any]
    plan: Plan
    hook: Hook | None
    cache_key: str
    created_at: float
    updated_at: float
    status: Status = Status.PENDING
    error_message: str | None = None
    credits: float | None = None
    cached: bool = False

    @property
    def tier(self) -> str:
        """The tier that it is parsed with."""
        return str(self.options["tier"])

    def pages(self) -> list[PageText]:
        """Give the pages that were asked for, each with its text or its error."""
        texts = list(self.plan.pages or page_texts(self.content))
        ranges = self.options.get("page_ranges") or {}
        numbers = chosen_pages(len(texts), ranges.get("target_pages"), ranges.get("max_pages"))
        failed = self.plan.failed_pages
        return [PageText(n, "" if n in failed else texts[n - 1], failed.get(n)) for n in numbers]

    def outcome(self) -> tuple[Status, str | None]:
        """Give how it ends, and the error message of a failure."""
        trouble = self.plan.error
        if trouble is None and self.plan.pages is None:
            trouble = trouble_with(self.name, self.content)
        pages = self.pages()
        failed = sum(page.error is not None for page in pages)
        if trouble is None and not pages:
            trouble = "NO_DATA_FOUND_IN_FILE: No pages to parse"
        if trouble is None and failed / len(pages) > self.allowed_page_failure_ratio():
            trouble = f"{failed} of {len(pages)} pages failed to parse"
        return (Status.FAILED, trouble) if trouble else (Status.COMPLETED, None)

    def allowed_page_failure_ratio(self) -> float:
        """Give the share of pages that may fail before the job does."""
        control = self.options.get("processing_control") or {}
        ratio = (control.get("job_failure_conditions") or {}).get("allowed_page_failure_ratio")
        return DEFAULT_ALLOWED_PAGE_FAILURE_RATIO if ratio is None else float(ratio)

    def price(self) -> float:
        """Give its credits: pages by the tier's price, nothing for a cached result."""
        if self.cached:
            return 0.0
        per_page = CREDITS_PER_PAGE[self.tier]
        if (self.options.get("processing_options") or {}).get("confidence_score_effort") == "high":
            per_page += HIGH_CONFIDENCE_CREDITS_PER_PAGE
        return float(per_page * len(self.pages()))

    def end_event(self) -> str:
        """Give the event that tells of its end."""
        if self.status is Status.COMPLETED:
            partial = any(page.error is not None for page in self.pages())
            return "parse.partial_success" if partial else "parse.success"
        return "parse.error" if self.status is Status.FAILED else "parse.cancelled"

    def view(self, *, with_usage: bool = False) -> dict[str, Any]:
        """Give it as the API shows it; the bill only to those who ask for it."""
        return {
            "id": self.id,
            "project_id": self.project_id,
            "status": str(self.status),
            "created_at": iso(self.created_at),
            "updated_at": iso(self.updated_at),
            "error_message": self.error_message,
            "name": self.name,
            "tier": self.tier,
            "usage": {"credits": self.credits} if with_usage else None,
            "user_metadata": self.options.get("user_metadata"),
        }


def iso(seconds: float) -> str:
    """Write a time as LlamaCloud does, with microseconds and Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def cache_key(content: bytes, options: Mapping[str, Any]) -> str:
    """Digest what a result depends on: the bytes and every option that changes it."""
    kept = {key: options[key] for key in options if key not in NOT_IN_THE_CACHE_KEY}
    written = json.dumps(kept, sort_keys=True).encode()
    return hashlib.sha256(hashlib.sha256(content).digest() + written).hexdigest()


class JobStore:
    """All jobs by id, in the order of their creation."""

    def __init__(self, project_id: str, clock: Callable[[], float]) -> None:
        self._project_id = project_id
        self._clock = clock
        self.jobs: dict[str, Job] = {}

    def create(
        self,
        name: str,
        content: bytes,
        options: dict[str, Any],
        *,
        plan: Callable[[], Plan],
        hook: Hook | None,
    ) -> Job:
        """Make a job, PENDING, or COMPLETED at once where the cache has its result."""
        now = self._clock()
        key = cache_key(content, options)
        former = None if options.get("disable_cache") else self._cached(key, now)
        job = Job(
            id=f"pjb-{uuid.uuid4()}",
            project_id=self._project_id,
            name=name,
            content=content,
            options=options,
            plan=former.plan if former else plan(),
            hook=hook,
            cache_key=key,
            created_at=now,
            updated_at=now,
        )
        if former is not None:
            job.cached, job.status, job.credits = True, former.status, 0.0
        self.jobs[job.id] = job
        return job

    def move(self, job: Job, status: Status, error_message: str | None = None) -> bool:
        """Bring a job on, unless it has ended; tell whether it moved."""
        if job.status in ENDS:
            return False
        job.status, job.error_message, job.updated_at = status, error_message, self._clock()
        return True

    def _cached(self, key: str, now: float) -> Job | None:
        for job in self.jobs.values():
            fresh = job.updated_at > now - CACHE_SECONDS
            if fresh and job.cache_key == key and job.status is Status.COMPLETED:
                return job
        return None
