"""A request's JSON body, read whole and as a type."""

from typing import TypeVar

import msgspec
import orjson
from aiohttp import web

from schemas.errors import Code
from services.gateway.body import Body
from services.gateway.parts import PARTS
from services.gateway.problems import RefusedError

T = TypeVar("T")

_MOST_BYTES = 16_384


async def read_json(request: web.Request, kind: type[T]) -> T:
    """Read the body as `kind`, `{}` where there is none; raise RefusedError 400, 408 or 413."""
    body = Body(request, request.app[PARTS].limits)
    await body.begin()
    raw = b""
    while chunk := await body.read():
        raw += chunk
        if len(raw) > _MOST_BYTES:
            raise RefusedError(Code.TOO_LARGE, f"this body may have {_MOST_BYTES} bytes")
    try:
        return msgspec.convert(orjson.loads(raw or b"{}"), kind)
    except orjson.JSONDecodeError:
        raise RefusedError(Code.INVALID_REQUEST, "the body is not JSON") from None
    except msgspec.ValidationError as error:
        raise RefusedError(Code.INVALID_REQUEST, f"the body is wrong: {error}") from None
