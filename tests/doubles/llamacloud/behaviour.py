"""How a double behaves when nothing is injected, and what it keeps of each call."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.doubles.llamacloud.faults import Fault, Quota

API_KEY = "llx-double-0000000000000000000000000000"
PROJECT_ID = "prj-00000000-0000-4000-8000-000000000001"

# The documented rate limits of a paid plan.
REAL_QUOTAS = (
    Quota(frozenset({"upload_file"}), calls=50, seconds=5),
    Quota(frozenset({"create", "parse_upload"}), calls=50, seconds=10),
)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The settings of a double.

    `hold` leaves every job PENDING until the test moves it; otherwise a job is PENDING for
    `queue_seconds` and RUNNING for `run_seconds`. `billing_seconds` is counted from its end; None
    leaves the bill to `LlamaCloud.bill`. `public_hooks_only` refuses the webhook URLs that
    LlamaCloud refuses, which a test on this machine cannot do without.
    """

    hold: bool = False
    queue_seconds: float = 0.0
    run_seconds: float = 0.0
    billing_seconds: float | None = 0.0
    fast_has_markdown: bool = False
    presigned_seconds: float = 300.0
    public_hooks_only: bool = False
    webhook_tries: int = 3
    webhook_backoff_seconds: tuple[float, ...] = (1.0, 2.0)
    webhook_timeout_seconds: float = 30.0
    max_file_bytes: int = 512 * 1024 * 1024
    quotas: tuple[Quota, ...] = ()
    seed: int = 0
    api_key: str = API_KEY
    project_id: str = PROJECT_ID


@dataclass(slots=True)
class Call:
    """One HTTP request that came in; `status` None means that it was never answered."""

    number: int
    at: float
    method: str
    path: str
    query: Mapping[str, list[str]]
    operation: str
    job_id: str | None = None
    file_id: str | None = None
    status: int | None = None
    fault: Fault | None = None


@dataclass(slots=True)
class Delivery:
    """One try to deliver a webhook; `status` None means that there was no answer."""

    number: int
    at: float
    event_id: str
    event_type: str
    job_id: str
    url: str
    attempt: int
    fault: Fault | None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None
    error: str | None = None
