"""The kinds of values that settings have, each with what is right for it."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from schemas.periods import read_zone
from streams.fetch_hosts import read_fetch_hosts
from streams.speakers import read_speakers

LONGEST_LINK_SECONDS = 604_800
"""A week, as long as the topics keep what carries a link."""


def _none_for_empty(value: Any) -> Any:
    return None if value == "" else value


def _not_empty(value: Any) -> Any:
    """Refuse what pathlib takes for the working directory."""
    if value == "":
        raise ValueError("name a directory, or leave the variable out")
    return value


def _topic_prefix(text: str) -> str:
    if text.strip(".-_abcdefghijklmnopqrstuvwxyz0123456789"):
        raise ValueError("use a-z, 0-9, '.', '_' and '-' only")
    return text


def _zone_name(text: str) -> str:
    read_zone(text)
    return text


def _intake(text: str) -> str:
    read_speakers(text)
    return text


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    odd = parts.query or parts.fragment or "@" in parts.netloc or set(text) & set(" \t\r\n?#")
    if text and (parts.scheme not in ("http", "https") or not parts.hostname or odd):
        raise ValueError("use the gateway's http or https address, with no user, query or fragment")
    return text.rstrip("/")


def _host_list(text: str) -> str:
    read_fetch_hosts(text)
    return text


Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
MaybeCount = Annotated[Count | None, BeforeValidator(_none_for_empty)]
MaybePath = Annotated[Path | None, BeforeValidator(_none_for_empty)]
Folder = Annotated[Path, BeforeValidator(_not_empty)]
MaybeSecret = Annotated[SecretStr | None, BeforeValidator(_none_for_empty)]
LinkSeconds = Annotated[int, Field(ge=0, le=LONGEST_LINK_SECONDS)]
Intake = Annotated[str, AfterValidator(_intake)]
TopicPrefix = Annotated[str, AfterValidator(_topic_prefix)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
ZoneName = Annotated[str, AfterValidator(_zone_name)]
HostList = Annotated[str, AfterValidator(_host_list)]
