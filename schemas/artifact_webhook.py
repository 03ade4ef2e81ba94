"""What a self-hosted parser sends of a job: its standing, and the result itself."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from schemas.webhook_source import read_json

Status = Literal["parsed", "failed", "processing"]


class Artifact(msgspec.Struct, frozen=True, rename={"size_bytes": "bytes"}):
    """A piece of a result: its content, with the hash and size of that content's UTF-8 bytes."""

    type: str
    content: str
    sha256: str
    size_bytes: Annotated[int, Meta(ge=0)]


class ArtifactPage(msgspec.Struct, frozen=True):
    """A page of an artifact of the type `pages`; one form of its text stands for the other."""

    number: Annotated[int, Meta(ge=1, le=1_000_000)]
    markdown: str | None = None
    text: str | None = None


class ArtifactWebhook(msgspec.Struct, frozen=True):
    """The head of the body; what is below it is read by whoever needs it.

    So a job whose artifacts are in no form at all fails at once, instead of waiting for its
    deadline.
    """

    job_id: str
    document_id: str
    status: Status
    correlation_id: Any = None
    parse_job_id: Any = None
    artifacts: Any = None
    meta: Any = None
    error: Any = None
    transient: Any = True

    def attempt(self) -> int | None:
        """Give the attempt that it answers; 0 for what is none, None where it does not say."""
        given = self.correlation_id
        if given is None:
            return None
        text = str(given) if isinstance(given, str | int) and not isinstance(given, bool) else ""
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0

    def told(self, name: str) -> str:
        """Give a text of `meta`, empty where it has none."""
        value = self.meta.get(name) if isinstance(self.meta, dict) else None
        return value if isinstance(value, str) else ""


def read_artifact_webhook(body: bytes) -> ArtifactWebhook | None:
    """Read a body; None for what is not one."""
    try:
        return msgspec.convert(read_json(body), ArtifactWebhook)
    except (msgspec.ValidationError, RecursionError):
        return None
