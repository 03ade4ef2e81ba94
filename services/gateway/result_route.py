"""A job's result over HTTP: Markdown, text or JSON, by suffix or by Accept."""

import asyncio
from typing import get_args

from aiohttp import web

from schemas.errors import Code
from schemas.events import BlobRef
from schemas.job import Job
from services.gateway.job_routes import find_job, job_id_of
from services.gateway.parts import PARTS
from services.gateway.problems import RefusedError
from services.keys import Key
from streams.results import CONTENT_TYPES, Format, render

_SUFFIXES: dict[str, Format] = {".md": "markdown", ".txt": "text", ".json": "json"}
_RANGES: dict[str, Format] = {
    "text/markdown": "markdown",
    "text/plain": "text",
    "application/json": "json",
    "text/*": "markdown",
    "application/*": "json",
    "*/*": "markdown",
}
_LARGE_BYTES = 1 << 16
"""From here on rendering leaves the loop: 64 kB takes under a millisecond."""


async def show_result(request: web.Request, key: Key) -> web.Response:
    """Give the result in the format that was asked for."""
    parts = request.app[PARTS]
    wanted = wanted_format(request, request.match_info["suffix"])
    job_id = job_id_of(request)
    job = await parts.tables.read(lambda tx: find_job(tx, job_id, key))
    return await rendered(await parts.blobs.read(result_of(job)), wanted)


async def rendered(raw: bytes, wanted: Format) -> web.Response:
    """Answer with a result blob in this format."""
    if len(raw) > _LARGE_BYTES and wanted != "json":
        content = await asyncio.to_thread(render, raw, wanted)
    else:
        content = render(raw, wanted)
    headers = {
        "Content-Type": CONTENT_TYPES[wanted],
        # The text is a stranger's: no browser is to take it for a page.
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept",
    }
    return web.Response(body=content, headers=headers)


def wanted_format(request: web.Request, suffix: str) -> Format:
    """Tell the format by its suffix, without one by Accept; raise RefusedError 406 for another."""
    wanted = _SUFFIXES.get(suffix) if suffix else _accepted(request.headers.getall("Accept", []))
    if wanted is None:
        raise RefusedError(
            Code.NOT_ACCEPTABLE,
            "a result is given as .md, .txt or .json, or by Accept",
            members={"formats": [CONTENT_TYPES[known] for known in get_args(Format)]},
        )
    return wanted


def _accepted(headers: list[str]) -> Format | None:
    """Choose by Accept (RFC 9110, 12.5.1): the highest weight, then the closest range."""
    ranges = [part for header in headers for part in header.split(",") if part.strip()]
    if not ranges:
        return "markdown"
    best: tuple[float, int, Format] | None = None
    for text in ranges:
        name, *parameters = (piece.strip().lower() for piece in text.split(";"))
        wanted = _RANGES.get(name)
        weight = _weight(parameters)
        if wanted is None or weight <= 0:
            continue
        choice = (weight, -name.count("*"), wanted)
        if best is None or choice[:2] > best[:2]:
            best = choice
    return best[2] if best else None


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(float(value), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def result_of(job: Job) -> BlobRef:
    """Give the job's result, or raise RefusedError 409 for a job that has none."""
    if job.result is not None:
        return job.result
    members = {"state": job.state.value}
    if job.error_code is not None:
        members["error_code"] = job.error_code
    raise RefusedError(
        Code.RESULT_NOT_READY, f"the job is {job.state}: it has no result", members=members
    )
