"""The upload form: multipart/form-data (RFC 7578), read part by part and never held."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp.helpers import parse_mimetype

from schemas.errors import Code
from services.gateway.body import Body
from services.gateway.disposition import read_disposition
from services.gateway.problems import RefusedError

FORM = "multipart/form-data"

_LONGEST_BOUNDARY = 70
_MOST_HEADERS = 32
_LONGEST_FIELD = 16_384
"""Bytes; a prompt of 4,000 characters may have that many."""
_FIRST_RETURNS = 32
_PLAIN_ENCODINGS = frozenset({"identity", "binary", "7bit", "8bit"})


def is_form(content_type: str) -> bool:
    """Tell whether a Content-Type names a form."""
    return content_type.partition(";")[0].strip().lower() == FORM


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a form whose content is still to be read."""

    name: str
    filename: str | None
    content_type: str | None
    body: Body
    boundary: bytes

    async def content(self) -> AsyncIterator[bytes]:
        """Give the content in chunks; raise RefusedError when the form ends within it."""
        delimiter = b"\r\n" + self.boundary
        # What ends the headers may begin the boundary of a part without content.
        window, given = b"\r\n", 2
        while chunk := await self.body.read():
            window += chunk
            end = _find(window, delimiter)
            if end >= 0:
                self.body.unread(window[end + 2 :])
                if end > given:
                    yield window[given:end]
                return
            kept = len(window) - len(delimiter) + 1
            if kept > given:
                yield window[given:kept]
                window, given = window[kept:], 0
        raise _malformed()

    async def text(self) -> str:
        """Read an option field."""
        content = b""
        async for chunk in self.content():
            content += chunk
            if len(content) > _LONGEST_FIELD:
                raise _refused(f"the field {self.name[:40]!r} has more than {_LONGEST_FIELD} bytes")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise _refused(f"the field {self.name[:40]!r} is not UTF-8") from None


class Form:
    """Goes from part to part.

    `aiohttp.MultipartReader` guesses at broken headers, takes 80 us for each good one and as much
    for each chunk, and gives `_charset_` a meaning that no option has.
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

    async def _headers(self) -> dict[str, str]:
        """Read a part's headers by their lower-case names; of equal ones the first counts."""
        headers: dict[str, str] = {}
        for _ in range(_MOST_HEADERS + 1):
            line = (await self._body.readline()).rstrip(b"\r\n")
            if not line:
                return headers
            name, colon, value = line.partition(b":")
            if not colon:
                break
            text = value.strip().decode("utf-8", "surrogateescape")
            headers.setdefault(name.strip().lower().decode("latin-1"), text)
        raise _malformed()

    def _part(self, headers: dict[str, str]) -> Part:
        for header in ("Content-Encoding", "Content-Transfer-Encoding"):
            if headers.get(header.lower(), "identity").lower() not in _PLAIN_ENCODINGS:
                raise _refused(f"a part may not have a {header}: pack the whole body instead")
        content_type = headers.get("content-type")
        if (content_type or "").lower().startswith("multipart/"):
            raise _refused("a part of the form is a multipart of its own")
        disposition = read_disposition(headers.get("content-disposition"))
        if disposition.kind != "form-data" or not disposition.name:
            raise _refused("a part has no `Content-Disposition: form-data` with a name")
        return Part(
            disposition.name, disposition.filename, content_type, self._body, self._boundary
        )


def _find(window: bytes, delimiter: bytes) -> int:
    """Do what `window.find(delimiter)` does, which is slow in bytes that look like a boundary's.

    One byte is looked for at memory's speed; where it is frequent, little is lost.
    """
    at = -1
    for _ in range(_FIRST_RETURNS):
        at = window.find(b"\r", at + 1)
        if at < 0 or window.startswith(delimiter, at):
            return at
    return window.find(delimiter, at + 1)


def _malformed() -> RefusedError:
    return _refused("the form is malformed, or ends early")


def _refused(message: str) -> RefusedError:
    return RefusedError(Code.INVALID_REQUEST, message)
