"""Problems: every error as an RFC 9457 document with a stable code and a support id."""

import dataclasses
import math
import secrets
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from schemas.errors import Code, ParsewireError, PermanentError, TransientError
from schemas.http import Problem
from schemas.meanings import MEANINGS
from streams.media import ACCEPTED

CONTENT_TYPE = "application/problem+json"
_TYPE = "urn:parsewire:problem:"

RETRY_AFTER_SECONDS = 5.0
"""What a client is told to wait when whatever is in trouble said nothing."""

_CODES = {
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    406: Code.NOT_ACCEPTABLE,
    408: Code.REQUEST_TIMEOUT,
    413: Code.TOO_LARGE,
}


class RefusedError(PermanentError):
    """A request that is not served; `members` go into its problem document."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(code, message)
        self.status = status or MEANINGS[code].status
        self.headers = dict(headers or {})
        self.members = dict(members or {})


class DisconnectedError(Exception):
    """The client is gone; nobody reads an answer."""


def new_support_id() -> str:
    """Make an id that stands in the answer and in the log line of the same error."""
    return secrets.token_hex(8)


def of_error(error: ParsewireError, support_id: str) -> web.Response:
    """Answer an expected trouble; what is ours to mend is 503 or 500 and tells no more."""
    meaning = MEANINGS[error.code]
    status, headers, members = meaning.status, {}, {}
    if isinstance(error, RefusedError):
        status, headers, members = error.status, error.headers, error.members
    if isinstance(error, TransientError):
        status = 503
        seconds = error.retry_after_seconds or RETRY_AFTER_SECONDS
        headers = {"Retry-After": str(math.ceil(seconds))}
    if error.code is Code.UNSUPPORTED_MEDIA_TYPE:
        members = {"accepted": list(ACCEPTED), **members}
    # Our own trouble may quote paths and statements: those are for the log.
    detail = error.message if status < 500 else f"{meaning.title}; the log names the reason."
    return _response(error.code, status, detail, support_id, headers, members)


def of_http(error: web.HTTPException, path: str, support_id: str) -> web.Response:
    """Answer what aiohttp itself refused: no such path, method or length."""
    code = _CODES.get(error.status, Code.INVALID_REQUEST)
    if error.status >= 500:
        code = Code.INTERNAL_ERROR
    details = {
        404: f"there is nothing at {path[:200]}",
        405: f"{path[:200]} does not serve this method",
    }
    kept = ("Allow", "Retry-After")
    headers = {name: error.headers[name] for name in kept if name in error.headers}
    return _response(
        code, error.status, details.get(error.status, error.reason), support_id, headers
    )


def of_defect(support_id: str) -> web.Response:
    """Answer an error that nobody expected, without a word of it."""
    meaning = MEANINGS[Code.INTERNAL_ERROR]
    detail = "The log has the reason under this support id."
    return _response(Code.INTERNAL_ERROR, meaning.status, detail, support_id)


def _response(
    code: Code,
    status: int,
    detail: str,
    support_id: str,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> web.Response:
    meaning = MEANINGS[code]
    problem = Problem(
        type=_TYPE + code,
        title=meaning.title,
        status=status,
        detail=detail,
        code=code.value,
        advice=meaning.advice,
        support_id=support_id,
        members=dict(members or {}),
    )
    document = {f.name: getattr(problem, f.name) for f in dataclasses.fields(problem)}
    document |= document.pop("members")
    return web.Response(
        status=status,
        # A path may hold bytes that are not UTF-8, which JSON cannot.
        body=orjson.dumps(_printable(document)),
        headers={"Content-Type": CONTENT_TYPE, **(headers or {})},
    )


def _printable(document: dict[str, Any]) -> dict[str, Any]:
    detail = document["detail"].encode("utf-8", "replace").decode()
    return document | {"detail": detail}
