"""An incoming document: from the body's bytes to a blob writer, looked at on the way."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from schemas.errors import Code
from schemas.events import ParseOptions
from services.gateway.body import Body, too_large
from services.gateway.disposition import read_disposition
from services.gateway.form import Form, Part, is_form
from services.gateway.parts import Limits
from services.gateway.problems import RefusedError
from streams.blobs.base import BlobWriter
from streams.media import HEAD_BYTES, sniff
from streams.upload_options import GivenOptions, UploadOptions, given_among
from streams.upload_options import harmless_name as harmless

CheckOptions = Callable[[ParseOptions], Awaitable[None]]
"""Raises PermanentError for options that this deployment does not honour."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A document that was written, not yet kept, and what was asked of it."""

    media_type: str
    name: str | None
    options: UploadOptions
    size_bytes: int


class DocumentWriter:
    """Writes a document's chunks to a blob; sniffs the first, counts all."""

    def __init__(self, writer: BlobWriter, limits: Limits) -> None:
        self._writer = writer
        self._limits = limits
        self.size_bytes = 0
        self.write_seconds = 0.0

    async def take(
        self, chunks: AsyncIterator[bytes], declared: str | None, name: str | None
    ) -> str:
        """Write them all and give the media type; raise as `sniff` does, and 413."""
        head = b""
        media_type = None
        async for chunk in chunks:
            self.size_bytes += len(chunk)
            if self.size_bytes > self._limits.max_upload_bytes:
                raise too_large(self._limits)
            if media_type is None:
                head += chunk
                if len(head) < HEAD_BYTES:
                    continue
                media_type = sniff(head[:HEAD_BYTES], declared, name)
                await self._write(head)
            else:
                await self._write(chunk)
        if media_type is None:
            media_type = sniff(head, declared, name)
            await self._write(head)
        return media_type

    async def _write(self, chunk: bytes) -> None:
        started = time.perf_counter()
        await self._writer.write(chunk)
        self.write_seconds += time.perf_counter() - started


async def read_document(
    request: web.Request, body: Body, document: DocumentWriter, check: CheckOptions
) -> Incoming:
    """Read a whole upload, form or raw body, with its options, and write its document.

    The options are checked before a raw body is read, and once a form, whose parts come in any
    order, is whole.
    """
    given = given_among(request.query.items())
    await body.begin()
    declared = request.headers.get("Content-Type")
    if declared is not None and is_form(declared):
        media_type, name = await _read_form(Form(declared, body), document, given)
        await body.drain()
        options = given.read()
        await check(options.parse)
    else:
        disposition = read_disposition(request.headers.get("Content-Disposition"))
        options = given.read()
        await check(options.parse)
        name = options.name or harmless(disposition.filename or "")
        media_type = await document.take(_chunks(body), declared, name)
    return Incoming(media_type, options.name or name, options, document.size_bytes)


async def _read_form(
    form: Form, document: DocumentWriter, given: GivenOptions
) -> tuple[str, str | None]:
    found: tuple[str, str | None] | None = None
    while (part := await form.next()) is not None:
        if part.name != "file":
            given.add(part.name, await part.text())
        elif found is None:
            found = await _read_file(part, document, given)
        else:
            raise RefusedError(Code.INVALID_REQUEST, "there are two parts named file: send one")
    if found is None:
        raise RefusedError(Code.INVALID_REQUEST, "the form has no part named file")
    return found


async def _read_file(
    part: Part, document: DocumentWriter, given: GivenOptions
) -> tuple[str, str | None]:
    name = given.read().name or harmless(part.filename or "")
    return await document.take(part.content(), part.content_type, name), name


async def _chunks(body: Body) -> AsyncIterator[bytes]:
    while chunk := await body.read():
        yield chunk
