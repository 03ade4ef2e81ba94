"""The upload form: multipart/form-data, read part by part and never held."""

from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import TypeVar, cast

from aiohttp import BodyPartReader, MultipartReader, StreamReader, hdrs
from aiohttp.http_exceptions import HttpProcessingError

from schemas.errors import Code
from services.gateway.body import CHUNK_BYTES, Body
from services.gateway.disposition import read_disposition
from services.gateway.problems import RefusedError

FORM = "multipart/form-data"

_LONGEST_FIELD = 4_096
_PLAIN_ENCODINGS = frozenset({"identity", "binary", "7bit", "8bit"})

T = TypeVar("T")


def is_form(content_type: str | None) -> bool:
    """Tell whether a Content-Type names a form."""
    return (content_type or "").partition(";")[0].strip().lower() == FORM


class FormReader(MultipartReader):
    """Aiohttp's reader, which meets no part whose headers it would only guess at."""

    async def fetch_next_part(self) -> MultipartReader | BodyPartReader:
        """Read the next part's headers, and refuse what is not a plain part of a form."""
        part = await super().fetch_next_part()
        if not isinstance(part, BodyPartReader):
            raise _refused("a part of the form is a multipart of its own")
        for header in (hdrs.CONTENT_ENCODING, hdrs.CONTENT_TRANSFER_ENCODING):
            if part.headers.get(header, "identity").strip().lower() not in _PLAIN_ENCODINGS:
                raise _refused(f"a part may not have a {header}: pack the whole body instead")
        disposition = read_disposition(part.headers.get(hdrs.CONTENT_DISPOSITION))
        if disposition.kind != "form-data" or not disposition.name:
            raise _refused("a part has no `Content-Disposition: form-data` with a name")
        return part


def open_form(headers: Mapping[str, str], body: Body) -> FormReader:
    """Begin to read a form; raise RefusedError for a boundary that is none."""
    try:
        return FormReader(headers, cast("StreamReader", body))
    except (ValueError, AssertionError):
        raise _refused("the Content-Type names no usable boundary") from None


async def next_part(form: FormReader) -> BodyPartReader | None:
    """Give the next part; None after the last."""
    # fetch_next_part lets no other kind of part through.
    return cast("BodyPartReader | None", await _well_formed(form.next()))


async def content_of(part: BodyPartReader) -> AsyncIterator[bytes]:
    """Give the part's content in chunks; raise RefusedError when the form ends within it."""
    # An empty chunk is what a cut-off form gives too: only at_eof tells the two apart.
    while not part.at_eof():
        if chunk := await _well_formed(part.read_chunk(CHUNK_BYTES)):
            yield chunk


async def text_of(part: BodyPartReader) -> str:
    """Read an option field."""
    content = b""
    async for chunk in content_of(part):
        content += chunk
        if len(content) > _LONGEST_FIELD:
            raise _refused(f"the field {_shown(part)} has more than {_LONGEST_FIELD} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _refused(f"the field {_shown(part)} is not UTF-8") from None


async def _well_formed(reading: Awaitable[T]) -> T:
    try:
        return await reading
    except (ValueError, RuntimeError, AssertionError, HttpProcessingError):
        raise _refused("the form is malformed, or ends early") from None


def _shown(part: BodyPartReader) -> str:
    return repr((part.name or "")[:40])


def _refused(message: str) -> RefusedError:
    return RefusedError(Code.INVALID_REQUEST, message)
