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
