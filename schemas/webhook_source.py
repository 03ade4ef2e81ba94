"""A webhook source: whom a webhook may come from, how it proves that, and what it is about."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from schemas.ids import derived_id
from schemas.signature_scheme import LC_SIGNATURE, X_WEBHOOK_SIGNATURE, Scheme
from schemas.signatures import Headers, Refusal, verify

JSON_TYPES = ("application/json",)
EVENT_ID_HEADER = "X-Webhook-Event-ID"

_LONGEST_ID = 200
_ALWAYS_KEPT = frozenset({"content-type", "user-agent"})
_MOST_NAMES = 1024
_MOST_HEADER_BYTES = 40_960
"""More than all headers of one source's verification can have, and far below a record's limit."""


@dataclass(frozen=True, slots=True)
class Credential:
    """One secret under one scheme; `label` names it to people without a letter of it."""

    label: str
    scheme: Scheme
    key: bytes = field(repr=False)
    expires_at: float | None = None
    """Unix seconds; None: for ever."""

    def active(self, unix_seconds: float) -> bool:
        """Tell whether it still counts."""
        return self.expires_at is None or unix_seconds < self.expires_at


class _KeptNames(dict[bytes, str]):
    """The names of headers as they were sent: in lower case those that are kept, empty others."""

    def __init__(self, needed: frozenset[str]) -> None:
        super().__init__()
        self._needed = needed

    def __missing__(self, raw: bytes) -> str:
        name = raw.decode("latin-1").lower()
        kept = name in self._needed or name in _ALWAYS_KEPT
        if not kept and not name.startswith(("x-webhook-", "webhook-")):
            name = ""
        if len(self) < _MOST_NAMES:
            self[raw] = name
        return name


_Paths = tuple[tuple[str, ...], ...]
_ByScheme = list[tuple[Scheme, list[Credential], list[bytes]]]


def _paths(fields: Iterable[str]) -> _Paths:
    return tuple(tuple(field.split(".")) for field in fields)


def _by_scheme(schemes: Iterable[Scheme], credentials: Sequence[Credential]) -> _ByScheme:
    """Give the schemes that have credentials, each with them and their keys."""
    found = []
    for scheme in schemes:
        its = [credential for credential in credentials if credential.scheme is scheme]
        if its:
            found.append((scheme, its, [credential.key for credential in its]))
    return found


@dataclass(frozen=True, slots=True)
class Source:
    """A vendor, or another service, whose webhooks are taken; without a credential, none is.

    `id_fields` and `subject_fields` are paths into the JSON body (`data.job_id`), the first that
    is there counts.
    """

    name: str
    schemes: tuple[Scheme, ...]
    credentials: tuple[Credential, ...] = ()
    content_types: tuple[str, ...] = JSON_TYPES
    id_header: str = EVENT_ID_HEADER
    id_fields: tuple[str, ...] = ("event_id",)
    subject_fields: tuple[str, ...] = ()
    _needed: frozenset[str] = field(init=False, repr=False, compare=False)
    _names: _KeptNames = field(init=False, repr=False, compare=False)
    _id_paths: _Paths = field(init=False, repr=False, compare=False)
    _subject_paths: _Paths = field(init=False, repr=False, compare=False)
    _by_scheme: _ByScheme = field(init=False, repr=False, compare=False)
    _expires: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        needed = {self.id_header.lower()}.union(*(scheme.headers() for scheme in self.schemes))
        fix = partial(object.__setattr__, self)
        fix("_needed", frozenset(needed))
        fix("_names", _KeptNames(self._needed))
        fix("_id_paths", _paths(self.id_fields))
        fix("_subject_paths", _paths(self.subject_fields))
        fix("_by_scheme", _by_scheme(self.schemes, self.credentials))
        fix("_expires", any(c.expires_at is not None for c in self.credentials))

    def verify(self, headers: Headers, body: bytes, unix_seconds: float) -> Credential | Refusal:
        """Give the credential that signed the request, or the most telling reason against it."""
        refusal = Refusal.UNCONFIGURED
        by_scheme = self._by_scheme
        if self._expires:
            active = [c for c in self.credentials if c.active(unix_seconds)]
            by_scheme = _by_scheme(self.schemes, active)
        for scheme, credentials, keys in by_scheme:
            outcome = verify(scheme, keys, headers, body, unix_seconds)
            if not isinstance(outcome, Refusal):
                return credentials[outcome]
            if refusal in (Refusal.UNCONFIGURED, Refusal.NO_SIGNATURE):
                refusal = outcome
        return refusal

    def takes(self, content_type: str) -> bool:
        """Tell whether bodies of this Content-Type are taken; JSON means every `+json` too."""
        if content_type in self.content_types:
            return True
        essence = content_type.partition(";")[0].strip().lower()
        if essence in self.content_types:
            return True
        is_json = essence.startswith("application/") and essence.endswith("+json")
        return is_json and "application/json" in self.content_types

    def kept(self, raw_headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, bytes], ...]:
        """Choose what is kept of a request's headers: enough to verify it again, and bounded."""
        names = self._names
        kept = []
        size = 0
        for raw, value in raw_headers:
            if name := names[raw]:
                kept.append((name, value))
                size += len(name) + len(value)
        if size <= _MOST_HEADER_BYTES:
            return tuple(kept)
        needed_first = sorted(kept, key=lambda header: header[0] not in self._needed)
        return _within(needed_first, _MOST_HEADER_BYTES)

    def event_of(self, scheme: Scheme, headers: Headers, body: bytes) -> tuple[str, str]:
        """Give the event's id, the same for the same event delivered twice, and its subject.

        What is signed goes before a header that is not: whoever repeats a request can change that.
        """
        content = read_json(body)
        vendor_id = _header(headers, scheme.id_header) if scheme.signs_id else ""
        vendor_id = vendor_id or _first(content, self._id_paths) or _header(headers, self.id_header)
        if vendor_id:
            event_id = derived_id("webhook", self.name, vendor_id)
        else:
            event_id = derived_id("webhook-body", self.name, hashlib.sha256(body).hexdigest())
        return event_id, _first(content, self._subject_paths) or event_id


LLAMAPARSE = Source(
    "llamaparse",
    (LC_SIGNATURE, X_WEBHOOK_SIGNATURE),
    subject_fields=("data.job_id", "data.id"),
)
ARTIFACTS = Source("artifacts", (X_WEBHOOK_SIGNATURE,), subject_fields=("job_id",))
BUILT_IN = {source.name: source for source in (LLAMAPARSE, ARTIFACTS)}


def read_json(body: bytes) -> Any:
    """Read a body that is JSON, or a JSON string that holds JSON; None for any other."""
    try:
        content = orjson.loads(body)
        return orjson.loads(content) if isinstance(content, str) else content
    except orjson.JSONDecodeError:
        return None


def _first(content: Any, paths: _Paths) -> str:
    """Give the first id that stands under one of the paths, empty where none does."""
    for path in paths:
        value = content
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and 0 < len(value) <= _LONGEST_ID:
            return value
    return ""


def _header(headers: Headers, name: str) -> str:
    """Give a header's only value as text, empty where it is missing, repeated or too long."""
    wanted = name.lower()
    values = [value for given, value in headers if given == wanted]
    if len(values) != 1 or len(values[0]) > _LONGEST_ID:
        return ""
    # Every byte has its own letter in latin-1: two ids stay two.
    return values[0].decode("latin-1")


def _within(headers: Headers, most_bytes: int) -> tuple[tuple[str, bytes], ...]:
    """Give as many of the first headers as fit."""
    found: list[tuple[str, bytes]] = []
    for name, value in headers:
        most_bytes -= len(name) + len(value)
        if most_bytes < 0:
            break
        found.append((name, value))
    return tuple(found)
