"""Webhook sources by configuration: the built-in ones, and those of the webhook file."""

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from schemas.signature_scheme import SCHEMES, Encoding, KeyEncoding, Scheme
from schemas.webhook_source import (
    ARTIFACTS,
    BUILT_IN,
    EVENT_ID_HEADER,
    LLAMAPARSE,
    Credential,
    Source,
)
from services.config import PREFIX, ConfigError, Settings, read_variable
from services.webhook_secret import deployment_secret

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_RESERVED = "health"
_LEAST_LETTERS = 8
_SCHEME_FIELDS = frozenset(
    {
        *("header", "encoding", "template", "separator", "timestamp_header", "timestamp_prefix"),
        *("tolerance_seconds", "key_prefix", "key_encoding"),
    }
)
_STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SecretEntry(BaseModel):
    """A secret, or where it stands: exactly one of the first three."""

    model_config = _STRICT

    secret: str | None = None
    file: Path | None = None
    env: str | None = None
    expires: AwareDatetime | None = None


class SourceEntry(BaseModel):
    """A source: a scheme by its name, or a header and how it is signed."""

    model_config = _STRICT

    scheme: str | None = None
    header: str | None = None
    encoding: Encoding | None = None
    prefix: str | None = None
    template: str | None = None
    separator: str | None = None
    timestamp_header: str | None = None
    timestamp_prefix: str | None = None
    tolerance_seconds: float | None = None
    key_prefix: str | None = None
    key_encoding: KeyEncoding | None = None
    id_header: str | None = None
    id_field: str | None = None
    subject_field: str | None = None
    content_types: tuple[str, ...] | None = Field(None, min_length=1)
    secrets: tuple[SecretEntry, ...] = ()


class SourcesFile(BaseModel):
    """The whole webhook file."""

    model_config = _STRICT

    sources: dict[str, SourceEntry] = Field(default_factory=dict)


def load_sources(settings: Settings) -> Mapping[str, Source]:
    """Give every source by its name; raise ConfigError, which names the place, for each mistake.

    `llamaparse` has the deployment's own secret unless the file lists others, `artifacts` the one
    that the self-hosted parser shares with us.
    """
    entries = _read(settings.webhook_file) if settings.webhook_file is not None else {}
    base = settings.webhook_file.parent if settings.webhook_file is not None else Path()
    sources = dict(BUILT_IN)
    for name, entry in entries.items():
        try:
            sources[name] = _source(name, entry, base)
        except ValueError as error:
            raise ConfigError(f"{settings.webhook_file}: sources.{name}: {error}") from None
    if not sources[LLAMAPARSE.name].credentials:
        own = deployment_secret(settings.data_dir)
        given = [("the deployment's own secret", own, None)]
        sources[LLAMAPARSE.name] = _with_secrets(sources[LLAMAPARSE.name], given)
    shared = settings.callback_parser_secret
    if shared is not None and not sources[ARTIFACTS.name].credentials:
        given = [("the self-hosted parser's secret", shared.get_secret_value(), None)]
        sources[ARTIFACTS.name] = _with_secrets(sources[ARTIFACTS.name], given)
    return sources


def registered_secret(settings: Settings) -> str:
    """Give the secret that LlamaCloud is told to sign with.

    Of those listed, the one that lasts longest, the first of equals; else the deployment's own.
    """
    if settings.webhook_file is not None:
        entry = _read(settings.webhook_file).get(LLAMAPARSE.name)
        if entry is not None and entry.secrets:
            lasting = max(entry.secrets, key=_lasts_until)
            try:
                return _secret(lasting, settings.webhook_file.parent)
            except ValueError as error:
                raise ConfigError(f"{settings.webhook_file}: {LLAMAPARSE.name}: {error}") from None
    return deployment_secret(settings.data_dir)


def _read(path: Path) -> Mapping[str, SourceEntry]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return SourcesFile.model_validate(document).sources
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError(f"{PREFIX}WEBHOOK_FILE={path}: {why}") from None
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_input=False)
        ]
        raise ConfigError("\n".join(lines)) from None
    except ValueError as error:
        raise ConfigError(f"{path} is no TOML: {error}") from None


def _source(name: str, entry: SourceEntry, base: Path) -> Source:
    if _NAME.fullmatch(name) is None or name == _RESERVED:
        raise ValueError(f"a name is 1 to 63 of a-z, 0-9, '-', '_', and not {_RESERVED!r}")
    known = BUILT_IN.get(name)
    signed = {"scheme", "header"} & entry.model_fields_set
    if known is None and not signed:
        raise ValueError(f"it needs a scheme ({', '.join(SCHEMES)}) or a header")
    schemes = (_scheme(name, entry),) if known is None or signed else known.schemes
    source = known or Source(name, schemes)
    source = replace(
        source,
        schemes=schemes,
        id_header=entry.id_header or source.id_header or EVENT_ID_HEADER,
        id_fields=(entry.id_field,) if entry.id_field else source.id_fields,
        subject_fields=(entry.subject_field,) if entry.subject_field else source.subject_fields,
        content_types=tuple(t.lower() for t in entry.content_types or source.content_types),
    )
    given = []
    for number, secret in enumerate(entry.secrets, 1):
        try:
            expires = secret.expires.timestamp() if secret.expires is not None else None
            given.append((f"secret {number}", _secret(secret, base), expires))
        except ValueError as error:
            raise ValueError(f"secret {number}: {error}") from None
    return _with_secrets(source, given)


def _scheme(name: str, entry: SourceEntry) -> Scheme:
    """Make the scheme of an entry: the one it names, with what it says otherwise."""
    if entry.scheme is not None and entry.scheme not in SCHEMES:
        raise ValueError(f"there is no scheme {entry.scheme!r}: {', '.join(SCHEMES)}")
    changes: dict[str, Any] = {
        field: value
        for field in _SCHEME_FIELDS & entry.model_fields_set
        if (value := getattr(entry, field)) is not None
    }
    if entry.prefix is not None:
        changes["prefixes"] = (entry.prefix,)
    base = SCHEMES.get(entry.scheme or "")
    template = changes.get("template", base.template if base else "{body}")
    if entry.id_header is not None and "{id}" in template:
        changes["id_header"] = entry.id_header
    return replace(base, **changes) if base is not None else Scheme(name, **changes)


def _secret(entry: SecretEntry, base: Path) -> str:
    """Read a secret from where it stands; raise ValueError without a letter of it."""
    given = [field for field in ("secret", "file", "env") if getattr(entry, field) is not None]
    if len(given) != 1:
        raise ValueError("it needs exactly one of secret, file and env")
    if entry.file is not None:
        try:
            secret = (base / entry.file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ValueError(f"{base / entry.file}: {error.strerror}") from None
    elif entry.env is not None:
        secret = (read_variable(entry.env) or "").strip()
        if not secret:
            raise ValueError(f"the variable {entry.env} is not set")
    else:
        secret = entry.secret or ""
    if len(secret) < _LEAST_LETTERS:
        raise ValueError(f"it is shorter than {_LEAST_LETTERS} letters, and could be guessed")
    return secret


def _with_secrets(source: Source, given: Sequence[tuple[str, str, float | None]]) -> Source:
    credentials = [
        Credential(label, scheme, scheme.key_of(secret), expires_at)
        for scheme in source.schemes
        for label, secret, expires_at in given
    ]
    return replace(source, credentials=tuple(credentials))


def _lasts_until(entry: SecretEntry) -> float:
    return math.inf if entry.expires is None else entry.expires.timestamp()
