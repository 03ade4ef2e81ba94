"""Content-Disposition: the names that a sender gives to a part or a body (RFC 6266, RFC 7578)."""

import warnings
from dataclasses import dataclass

from aiohttp.multipart import content_disposition_filename, parse_content_disposition

from schemas.errors import Code
from services.gateway.problems import RefusedError

_LONGEST = 4_096


@dataclass(frozen=True, slots=True)
class Disposition:
    """What a Content-Disposition says; all None where there is none."""

    kind: str | None
    name: str | None
    filename: str | None


def read_disposition(header: str | None) -> Disposition:
    """Read the header; raise RefusedError for a broken one, which aiohttp only warns of."""
    if header is not None and len(header) > _LONGEST:
        raise _refused("longer than 4096 characters")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            kind, parameters = parse_content_disposition(header)
        except RuntimeWarning:
            raise _refused("broken") from None
    return Disposition(
        kind,
        content_disposition_filename(parameters, "name"),
        content_disposition_filename(parameters),
    )


def _refused(how: str) -> RefusedError:
    return RefusedError(Code.INVALID_REQUEST, f"a Content-Disposition header is {how}")
