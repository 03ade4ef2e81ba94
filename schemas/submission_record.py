"""A submission as a record: a document's own bytes with headers beside them, or JSON naming one.

ce_id            what its producer calls the submission: the idempotency key (needed)
ce_type          com.parsewire.DocumentSubmitted where the value is JSON; nobody else's matters
content-type     the document's declared media type, where the value is the document
pw-tenant        whose it is
pw-reference     what the producer calls the job
pw-<option>      an option of an upload, with `-` or `_` in its name
traceparent      the trace that it belongs to
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgspec
import orjson

from schemas.codec import TYPE_PREFIX, UNREADABLE, CodecError
from schemas.errors import Code
from schemas.events import BlobRef
from schemas.ids import is_tenant
from schemas.submission_events import DocumentSubmitted
from schemas.topics import MAX_RECORD_BYTES

NAMES_ONE = TYPE_PREFIX + DocumentSubmitted.__name__
"""The type of a record whose value is JSON that names a document."""

LONGEST_ID = 255
LONGEST_REFERENCE = 200
"""Characters."""

LONGEST_KEY_BYTES = 16_384
"""An answer is keyed as its submission was, and has to fit into a record with it."""

_ONCE = frozenset({"ce_id", "ce_type", "content-type", "pw-tenant", "pw-reference"})
_OPTION = "pw-"

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record stands in the log."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Sender:
    """What an answer needs to know of its submission; None where it was not said, or cannot be."""

    origin: Origin
    key: bytes | None
    submission_id: str | None
    tenant: str | None
    reference: str | None


@dataclass(frozen=True, slots=True)
class Address:
    """A document elsewhere, and what its bytes must be."""

    url: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Submitted:
    """A document as it is submitted: its bytes or its name; the options as name and text."""

    sender: Sender
    submission_id: str
    source: bytes | BlobRef | Address
    media_type: str | None
    options: tuple[tuple[str, str], ...]
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Unfit:
    """A record that is no submission, and why: its producer is answered so."""

    sender: Sender
    code: Code
    message: str
    traceparent: str | None


@dataclass(slots=True)
class _Said:
    """What the headers say, and what is wrong with them."""

    texts: dict[str, str] = field(default_factory=dict)
    options: list[tuple[str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def read_submission(
    value: bytes | None, headers: Iterable[tuple[str, bytes | None]], key: bytes | None, at: Origin
) -> Submitted | Unfit:
    """Read a record of either form.

    Raise CodecError for what the bus itself could not read, and nothing else.
    """
    headers, value = tuple(headers), value or b""
    said = _hear(headers)
    sender = _sender(said, key, at)
    traceparent = said.texts.get("traceparent")
    size = _size(value, headers, key)
    if size > MAX_RECORD_BYTES:
        reason = (
            f"a record may have {MAX_RECORD_BYTES} bytes, and this one has {size}: put a larger "
            "document into a blob or behind an address, and name that (DocumentSubmitted)"
        )
        return Unfit(sender, Code.TOO_LARGE, reason, traceparent)
    media_type = said.texts.get("content-type")
    source: bytes | BlobRef | Address | None = value
    if said.texts.get("ce_type") == NAMES_ONE:
        media_type, source = None, None
        if (body := _read_body(said, value)) is not None:
            sender = _with_body(said, sender, body)
            media_type, source = body.media_type, _source(said, body)
    if said.wrong or source is None or sender.submission_id is None:
        return Unfit(sender, Code.INVALID_REQUEST, said.wrong[0], traceparent)
    options = tuple(said.options)
    return Submitted(sender, sender.submission_id, source, media_type, options, traceparent)


def is_submission_id(text: str) -> bool:
    """Tell whether a submission may be called so."""
    return 1 <= len(text) <= LONGEST_ID and text.isprintable()


def _hear(headers: Headers) -> _Said:
    said = _Said()
    for given, raw in headers:
        if given == UNREADABLE:
            raise CodecError((raw or b"").decode(errors="replace")[:600])
        name = given.lower()
        known = name in _ONCE or name.startswith(_OPTION)
        if raw is None or not (known or name == "traceparent"):
            continue
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            if known:
                said.wrong.append(f"the header {name[:40]} is not UTF-8")
            continue
        if name not in _ONCE and known:
            said.options.append((_option(name.removeprefix(_OPTION)), text))
        elif said.texts.setdefault(name, text) != text and known:
            said.wrong.append(f"the header {name} is given twice")
    kind = said.texts.get("ce_type", "")
    if kind.startswith(TYPE_PREFIX) and kind != NAMES_ONE:
        said.wrong.append(f"ce_type {kind[:80]!r} is no submission, {NAMES_ONE} is one")
    return said


def _sender(said: _Said, key: bytes | None, at: Origin) -> Sender:
    """Take what can be taken: whoever is refused is answered all the same."""
    texts = said.texts
    submission_id = texts.get("ce_id", "")
    if not is_submission_id(submission_id):
        said.wrong.insert(0, f"a record needs a ce_id of 1 to {LONGEST_ID} printable characters")
        submission_id = ""
    if key is not None and len(key) > LONGEST_KEY_BYTES:
        said.wrong.append(f"a key may have {LONGEST_KEY_BYTES} bytes")
        key = None
    tenant = _tenant(said, texts.get("pw-tenant"))
    reference = texts.get("pw-reference")
    if reference is not None and len(reference) > LONGEST_REFERENCE:
        said.wrong.append(f"a reference may have {LONGEST_REFERENCE} characters")
        reference = None
    return Sender(at, key, submission_id or None, tenant, reference)


def _tenant(said: _Said, text: str | None) -> str | None:
    if text is None or is_tenant(text):
        return text
    said.wrong.append(f"{text[:80]!r} names no tenant: use a-z, 0-9, '-' and '_'")
    return None


def _read_body(said: _Said, value: bytes) -> DocumentSubmitted | None:
    try:
        return msgspec.convert(orjson.loads(value), DocumentSubmitted)
    except (ValueError, msgspec.ValidationError, RecursionError) as error:
        said.wrong.append(f"DocumentSubmitted: {error}"[:600])
        return None


def _with_body(said: _Said, sender: Sender, body: DocumentSubmitted) -> Sender:
    """Take what the value says too; it may not say otherwise than the headers."""
    said.options += [(_option(name.lower()), text) for name, text in body.options.items()]
    tenant = _tenant(said, body.tenant)
    for name, header, own in (
        ("tenant", sender.tenant, tenant),
        ("reference", sender.reference, body.reference),
    ):
        if None not in (header, own) and header != own:
            said.wrong.append(f"the header pw-{name} and the value say different things")
    return replace(
        sender, tenant=sender.tenant or tenant, reference=sender.reference or body.reference
    )


def _source(said: _Said, body: DocumentSubmitted) -> BlobRef | Address | None:
    if body.blob is not None and body.url is None:
        return BlobRef(body.blob, body.sha256, body.size_bytes)
    if body.url is not None and body.blob is None:
        return Address(body.url, body.sha256, body.size_bytes)
    said.wrong.append("DocumentSubmitted names a document by `blob` or by `url`: one of them")
    return None


def _option(name: str) -> str:
    return name.replace("-", "_")


def _size(value: bytes, headers: Headers, key: bytes | None) -> int:
    own = sum(len(name.encode()) + len(raw or b"") for name, raw in headers)
    return len(value) + len(key or b"") + own
