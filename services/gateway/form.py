"""The upload form: multipart/form-data (RFC 7578), read part by part and never held."""

from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import TypeVar, cast

from aiohttp import BodyPartReader, StreamReader
from aiohttp.helpers import parse_mimetype
from multidict import CIMultiDict, CIMultiDictProxy

from schemas.errors import Code
from services.gateway.body import CHUNK_BYTES, Body
from services.gateway.disposition import read_disposition
from services.gateway.problems import RefusedError

FORM = "multipart/form-data"

_LONGEST_BOUNDARY = 70
_MOST_HEADERS = 32
_LONGEST_FIELD = 4_096
_PLAIN_ENCODINGS = frozenset({"identity", "binary", "7bit", "8bit"})

T = TypeVar("T")


def is_form(content_type: str) -> bool:
    """Tell whether a Content-Type names a form."""
    return content_type.partition(";")[0].strip().lower() == FORM


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a form whose content is still to be read."""

    name: str
    filename: str | None
    content_type: str | None
    reader: BodyPartReader

    async def content(self) -> AsyncIterator[bytes]:
        """Give the content in chunks; raise RefusedError when the form ends within it."""
        # An empty chunk is what a cut-off form gives too: only at_eof tells the two apart.
        while not self.reader.at_eof():
            if chunk := await _well_formed(self.reader.read_chunk(CHUNK_BYTES)):
                yield chunk

    async def text(self) -> str:
        """Read an option field."""
        content = b""
        async for chunk in self.content():
            content += chunk
            if len(content) > _LONGEST_FIELD:
                raise _refused(f"the field {self.name[:40]!r} has more than 4096 bytes")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise _refused(f"the field {self.name[:40]!r} is not UTF-8") from None


class Form:
    """Goes from part to part; aiohttp reads their contents.

    `aiohttp.MultipartReader` guesses at broken headers, takes 80 us for each good one, and gives
    `_charset_` a meaning that no option has.
    """

    def __init__(self, content_type: str, body: Body) -> None:
        boundary = parse_mimetype(content_type).parameters.get("boundary", "")
        if not 1 <= len(boundary) <= _LONGEST_BOUNDARY or not boundary.isascii():
            raise _refused("the Content-Type names no usable boundary")
        self._boundary = b"--" + boundary.encode()
        self._body = body
        self._begun = False

    async def next(self) -> Part | None:
        """Give the next part, the one before it read whole; None after the last."""
        line = (await self._body.readline()).rstrip()
        while not self._begun and line != self._boundary and not self._body.at_eof():
            if line == self._boundary + b"--":
                return None
            # What stands before the first boundary means nothing (RFC 2046, 5.1.1).
            line = (await self._body.readline()).rstrip()
        self._begun = True
        if line == self._boundary + b"--":
            return None
        if line != self._boundary:
            raise _malformed()
        return self._part(await self._headers())

    async def _headers(self) -> CIMultiDict[str]:
        headers: CIMultiDict[str] = CIMultiDict()
        while line := (await self._body.readline()).rstrip(b"\r\n"):
            name, colon, value = line.partition(b":")
            if not colon or len(headers) == _MOST_HEADERS:
                raise _malformed()
            headers.add(
                name.strip().decode("latin-1"), value.strip().decode("utf-8", "surrogateescape")
            )
        return headers

    def _part(self, headers: CIMultiDict[str]) -> Part:
        for header in ("Content-Encoding", "Content-Transfer-Encoding"):
            if headers.get(header, "identity").lower() not in _PLAIN_ENCODINGS:
                raise _refused(f"a part may not have a {header}: pack the whole body instead")
        content_type = headers.get("Content-Type")
        if (content_type or "").lower().startswith("multipart/"):
            raise _refused("a part of the form is a multipart of its own")
        disposition = read_disposition(headers.get("Content-Disposition"))
        if disposition.kind != "form-data" or not disposition.name:
            raise _refused("a part has no `Content-Disposition: form-data` with a name")
        # The reader takes from a body what it takes from a stream: read, readline, unread_data.
        content = cast("StreamReader", self._body)
        reader = BodyPartReader(
            self._boundary, CIMultiDictProxy(headers), content, subtype="form-data"
        )
        return Part(disposition.name, disposition.filename, content_type, reader)


async def _well_formed(reading: Awaitable[T]) -> T:
    try:
        return await reading
    except (ValueError, AssertionError):
        raise _malformed() from None


def _malformed() -> RefusedError:
    return _refused("the form is malformed, or ends early")


def _refused(message: str) -> RefusedError:
    return RefusedError(Code.INVALID_REQUEST, message)
