"""The kinds of values that settings have, each with what is right for it."""

from typing import Annotated

from pydantic import AfterValidator, Field

from schemas.periods import read_zone


def _topic_prefix(text: str) -> str:
    if text.strip(".-_abcdefghijklmnopqrstuvwxyz0123456789"):
        raise ValueError("use a-z, 0-9, '.', '_' and '-' only")
    return text


def _zone_name(text: str) -> str:
    read_zone(text)
    return text


Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
TopicPrefix = Annotated[str, AfterValidator(_topic_prefix)]
ZoneName = Annotated[str, AfterValidator(_zone_name)]
