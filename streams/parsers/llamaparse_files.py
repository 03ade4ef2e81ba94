"""Large results of LlamaParse, downloaded as files from the vendor's storage."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from schemas.errors import Code, PermanentError, TransientError
from streams.parsers.llamaparse_answers import UnexpectedAnswerError, read_answer
from streams.parsers.llamaparse_calls import MEGABYTE, Call, Calls, seconds_for
from streams.parsers.llamaparse_pages import (
    ContentFile,
    MarkdownPage,
    MarkdownResult,
    ResultAnswer,
    TextPage,
    TextResult,
)

LARGEST_RESULT_BYTES = 256 * MEGABYTE
"""Decoding takes several times as much memory."""

FILE_PARTS = ("markdown_content_metadata", "text_content_metadata")

# The documentation names these keys in more than one way.
_MARKDOWN_KEYS = ("markdown", "md")
_TEXT_KEYS = ("text", "txt")


async def download_result(
    calls: Calls, answer: ResultAnswer, call_seconds: float, largest_bytes: int
) -> ResultAnswer:
    """Fill in what the answer's files hold; raise as `Calls.download` does.

    Raise PermanentError(DOCUMENT_TOO_LARGE) for a file that is larger than what we take, and
    TransientError(VENDOR_FAILED) when there is no file at all.
    """
    files = answer.result_content_metadata or {}
    found = _file(files, _MARKDOWN_KEYS), _file(files, _TEXT_KEYS)
    if found == (None, None):
        raise TransientError(Code.VENDOR_FAILED, "LlamaParse names no file of the result")
    markdown, text = [
        None if file is None else (file, await _load(calls, file, call_seconds, largest_bytes))
        for file in found
    ]
    return replace(
        answer,
        markdown=None if markdown is None else await asyncio.to_thread(_markdown, *markdown),
        text=None if text is None else await asyncio.to_thread(_text, *text),
    )


def _file(files: Mapping[str, ContentFile], keys: Sequence[str]) -> ContentFile | None:
    for key in keys:
        file = files.get(key)
        if file is not None and file.exists is not False and file.presigned_url:
            return file
    return None


async def _load(calls: Calls, file: ContentFile, call_seconds: float, largest_bytes: int) -> bytes:
    if file.size_bytes > largest_bytes:
        raise PermanentError(
            Code.DOCUMENT_TOO_LARGE,
            f"the document's result has {file.size_bytes} bytes, the limit is {largest_bytes}",
        )
    call = Call(
        "download",
        "GET",
        file.presigned_url or "",
        seconds_for(call_seconds, file.size_bytes),
        limit_bytes=largest_bytes,
    )
    return await calls.download(call)


def _markdown(file: ContentFile, content: bytes) -> MarkdownResult:
    """Read a file of pages, or, where it is the bare markdown, its only page."""
    if _is_json(content):
        return read_answer(content, MarkdownResult)
    return MarkdownResult([MarkdownPage(1, markdown=_bare(file, content))])


def _text(file: ContentFile, content: bytes) -> TextResult:
    if _is_json(content):
        return read_answer(content, TextResult)
    return TextResult([TextPage(1, _bare(file, content))])


def _is_json(content: bytes) -> bool:
    return content.lstrip()[:1] == b"{"


def _bare(file: ContentFile, content: bytes) -> str:
    """Read bare text of the size that was told: an error page of some proxy is no result."""
    if len(content) != file.size_bytes:
        raise UnexpectedAnswerError("a file of another size")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UnexpectedAnswerError("a file that is not UTF-8") from None
