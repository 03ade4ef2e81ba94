"""Fields that events share: types whose values are checked when an event is read."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

Aware = Annotated[datetime, Meta(tz=True)]
Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Credits = Annotated[float, Meta(ge=0)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Language = Annotated[str, Meta(pattern="^[a-z]{2,3}(_[a-z]{1,10})?$")]
Languages = Annotated[tuple[Language, ...], Meta(max_length=10)]
TargetPages = Annotated[
    str,
    Meta(pattern="^[1-9][0-9]{0,5}(-[1-9][0-9]{0,5})?(,[1-9][0-9]{0,5}(-[1-9][0-9]{0,5})?)*$"),
    Meta(max_length=500),
]
Prompt = Annotated[str, Meta(min_length=1, max_length=4000)]
