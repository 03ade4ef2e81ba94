"""Replies of the double: refusals, and answers that are spoilt on their way."""

import asyncio
import uuid
from typing import Any, NoReturn

from aiohttp import web

from tests.doubles.llamacloud.behaviour import Call
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.faults import REFUSALS, Fault, Injection

CLOUD = web.AppKey("cloud", LlamaCloud)
CALL = web.RequestKey("call", Call)


class RefusalError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


class CutError(Exception):
    """A request that is never answered."""


def refuse(status: int, detail: Any) -> NoReturn:
    """Answer with an error: a text, or the list of a 422 body."""
    raise RefusalError(status, detail)


def refusal(card: Injection) -> web.Response:
    """Give the error that an injection stands for."""
    status, text = REFUSALS[card.fault]
    status = card.status or status
    if card.fault is Fault.BAD_GATEWAY:
        return web.Response(status=status, text=text, content_type="text/html")
    detail = text.format(correlation_id=uuid.uuid4())
    return web.json_response({"detail": detail}, status=status)


async def hang(cloud: LlamaCloud, seconds: float) -> None:
    """Say nothing for a while, or until the double closes."""
    try:
        await asyncio.wait_for(cloud.closing.wait(), seconds)
    except TimeoutError:
        return


async def spoil(
    request: web.Request, answer: web.StreamResponse, card: Injection
) -> web.StreamResponse:
    """Give what is left of an answer after an injection had its way."""
    cloud = request.app[CLOUD]
    if card.fault is Fault.CUT_AFTER:
        raise CutError
    if card.fault is Fault.HANG_AFTER:
        await hang(cloud, card.seconds)
        raise CutError
    if card.fault is Fault.GARBLED:
        return web.Response(text="<html>It works!</html>", content_type="text/html")
    body = answer.body if isinstance(answer, web.Response) else b""
    whole = body if isinstance(body, bytes) else b""
    slow = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
    slow.content_length = len(whole)
    await slow.prepare(request)
    await slow.write(whole[: len(whole) // 2])
    if card.fault is Fault.SHORT_BODY:
        raise CutError
    await hang(cloud, card.seconds)
    await slow.write(whole[len(whole) // 2 :])
    return slow
