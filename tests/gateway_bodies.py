"""Bodies for the gateway's tests, and what every refusal must look like."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.gateway_desk import Answer, GatewayDesk


def form_of(content: bytes = b"some text", /, **fields: str) -> Any:
    form = aiohttp.FormData()
    form.add_field("file", content, filename="a.txt", content_type="text/plain")
    for field, text in fields.items():
        form.add_field(field, text)
    return form


async def in_chunks(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json
    assert (answer.status, problem["code"]) == (status, code), problem
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["type"] == f"urn:parsewire:problem:{code}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["advice"]
    assert problem["detail"]
    assert len(problem["support_id"]) == 16
    return problem


async def nothing_left(desk: GatewayDesk) -> None:
    assert desk.files() == []
    assert desk.said() == []
    assert (await desk.get("/api/v1/jobs")).json["jobs"] == []
