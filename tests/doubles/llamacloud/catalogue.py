"""What LlamaCloud sells: tiers, their versions and prices, the events and the statuses."""

from enum import StrEnum


class Status(StrEnum):
    """Where a parse job stands: PENDING -> RUNNING -> one of the three ends."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ENDS = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

CREDITS_PER_PAGE = {"fast": 1, "cost_effective": 3, "agentic": 10, "agentic_plus": 45}
HIGH_CONFIDENCE_CREDITS_PER_PAGE = 5

# A part of what GET /api/v2/parse/versions lists, newest first.
VERSIONS = {
    "fast": ["2026-06-15", "2025-12-11"],
    "cost_effective": ["2026-09-28", "2026-08-19", "2026-08-11", "2026-06-26", "2026-03-25"],
    "agentic": ["2026-10-16", "2026-10-15", "2026-09-29", "2026-09-28", "2025-12-11"],
    "agentic_plus": ["2026-09-28", "2026-09-24", "2026-08-19", "2026-07-08", "2025-12-11"],
}
LATEST = {tier: versions[0] for tier, versions in VERSIONS.items()}

PARSE_EVENTS = frozenset(
    f"parse.{word}"
    for word in ("pending", "running", "success", "error", "partial_success", "cancelled")
)
OTHER_EVENTS = frozenset(
    {
        *(f"batch.{word}" for word in ("pending", "running", "success", "error", "cancelled")),
        *(f"extract.{word}" for word in ("pending", "success", "error", "partial_success")),
        "extract.cancelled",
        "unmapped_event",
    }
)
EVENTS = PARSE_EVENTS | OTHER_EVENTS

# The formats of a result file: expand value without `_content_metadata` -> (key, content type).
# Documented are md, fullText, xlsx and outputPDF; the other keys follow their expand value.
CONTENT_FILES = {
    "markdown": ("markdown", "application/json"),
    "markdown_full": ("md", "text/markdown"),
    "text": ("text", "application/json"),
    "text_full": ("fullText", "text/plain"),
    "items": ("items", "application/json"),
    "metadata": ("metadata", "application/json"),
    "forms": ("forms", "application/json"),
    "raw_words": ("rawWords", "application/jsonl"),
    "xlsx": ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    "output_pdf": ("outputPDF", "application/pdf"),
    "stripped_markdown": ("strippedMarkdown", "application/json"),
    "concatenated_stripped_markdown": ("concatenatedStrippedMarkdown", "text/plain"),
}
INLINE = frozenset(
    {"text", "markdown", "items", "metadata", "job_metadata", "usage", "forms"}
    | {"text_full", "markdown_full"}
)
EXPANDS = INLINE | {f"{name}_content_metadata" for name in (*CONTENT_FILES, "images")}
NOT_ON_FAST = frozenset(
    {"markdown", "markdown_full", "items", "forms"}
    | {"markdown_content_metadata", "markdown_full_content_metadata", "items_content_metadata"}
)
