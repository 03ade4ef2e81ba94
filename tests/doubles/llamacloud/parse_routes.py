"""Routes of `/api/v2/parse`."""

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.doubles.llamacloud.catalogue import ENDS, EXPANDS, LATEST, NOT_ON_FAST, VERSIONS, Status
from tests.doubles.llamacloud.checks import flaws_of
from tests.doubles.llamacloud.faults import WEBHOOK, Fault
from tests.doubles.llamacloud.file_routes import read_form
from tests.doubles.llamacloud.jobs import Hook, Job, hook_from
from tests.doubles.llamacloud.replies import CALL, CLOUD, refuse
from tests.doubles.llamacloud.results import answer
from tests.doubles.llamacloud.shape import flaw

RESULT_NOT_FOUND = "Result not found. Check job status to see if it has completed."
NO_MARKDOWN = "Markdown expansion is not available for FAST tier jobs."
SOURCE_FILE_SECONDS = 48 * 3600
DEFAULT_PAGE_SIZE = 20
MOST_PAGE_SIZE = 1000


async def create(request: web.Request) -> web.Response:
    """Make a job of a file that was uploaded before, or of a URL."""
    cloud = request.app[CLOUD]
    options = checked(request, await body_of(request), has_file=False)
    file_id, url = options.get("file_id"), options.get("source_url")
    if file_id is None:
        # The double fetches nothing: the URL itself stands for its document.
        name, content = str(url).rpartition("/")[2] or "document", str(url).encode()
        return await submit(request, name, content, options)
    request[CALL].file_id = file_id
    file = cloud.files.get(file_id)
    if file is None or file.created_at + SOURCE_FILE_SECONDS <= cloud.clock():
        refuse(404, "Source file not found in storage")
    return await submit(request, file.name, file.content, options)


async def parse_upload(request: web.Request) -> web.Response:
    """Make a job of the file in the request; this form keeps no user_metadata."""
    form = await read_form(request)
    try:
        configuration = json.loads(form.fields.get("configuration", ""))
    except ValueError:
        found = flaw("json_invalid", ("body", "configuration"), "Invalid JSON", None)
        refuse(422, [found])
    options = checked(request, configuration, has_file=True)
    options["user_metadata"] = None
    return await submit(request, form.name, form.content, options)


async def submit(
    request: web.Request, name: str, content: bytes, options: dict[str, Any]
) -> web.Response:
    """Create a job and answer with it; an early webhook goes out first."""
    cloud = request.app[CLOUD]
    job, shown = cloud.submit(name, content, options, hook_of(request, options))
    request[CALL].job_id = job.id
    if job.status not in ENDS and cloud.deck.draw(WEBHOOK, {Fault.EARLY}, job):
        await cloud.end_early(job)
    return web.json_response(shown)


def checked(request: web.Request, body: Any, *, has_file: bool) -> dict[str, Any]:
    """Give a request's options, or refuse it with all that is wrong with it."""
    public_only = request.app[CLOUD].behaviour.public_hooks_only
    found = flaws_of(body, has_file=has_file, public_hooks_only=public_only)
    if found:
        refuse(422, found)
    options: dict[str, Any] = body
    return options


def hook_of(request: web.Request, options: dict[str, Any]) -> Hook | None:
    """Give the webhook of a job: only the first configuration is used."""
    for config in options.get("webhook_configurations") or []:
        return hook_from(config)
    for config_id in options.get("webhook_configuration_ids") or []:
        stored = request.app[CLOUD].hooks.get(config_id)
        if stored is None:
            refuse(404, "Webhook configuration not found")
        return hook_from(stored)
    return None


async def body_of(request: web.Request) -> Any:
    """Read a JSON body."""
    try:
        return json.loads(await request.read())
    except ValueError:
        refuse(422, [flaw("json_invalid", ("body", 0), "JSON decode error", {})])


def job_of(request: web.Request) -> Job:
    """Give the job that a path names."""
    job = request.app[CLOUD].jobs.get(request.match_info["job_id"])
    if job is None:
        refuse(404, "Parse job not found")
    return job


def expands_of(request: web.Request) -> frozenset[str]:
    """Read `expand`, as repeated parameters, as a list with commas, or both."""
    written = ",".join(request.query.getall("expand", []))
    names = [name.strip() for name in written.split(",") if name.strip()]
    found = [
        flaw("literal_error", ("query", "expand", index), "Input should be a known value", name)
        for index, name in enumerate(names)
        if name not in EXPANDS
    ]
    if found:
        refuse(422, found)
    return frozenset(names)


async def get(request: web.Request) -> web.Response:
    """Give a job, and of its result what `expand` asks for."""
    cloud = request.app[CLOUD]
    job, expands = job_of(request), expands_of(request)
    if job.tier == "fast" and expands & NOT_ON_FAST and not cloud.behaviour.fast_has_markdown:
        refuse(400, NO_MARKDOWN)
    if job.status is Status.COMPLETED and expands - {"usage", "job_metadata"}:
        call = request[CALL]
        card = cloud.deck.draw(call.operation, {Fault.RESULT_NOT_FOUND}, call)
        if card is not None:
            call.fault = card.fault
            refuse(404, RESULT_NOT_FOUND)
    return web.json_response(answer(job, expands, cloud.presign))


async def list_jobs(request: web.Request) -> web.Response:
    """List jobs, newest first, a page at a time."""
    query = request.query
    wanted = {part for ids in query.getall("job_ids", []) for part in ids.split(",")}
    after = time_of(request, "created_at_on_or_after")
    before = time_of(request, "created_at_on_or_before")
    status = query.get("status")
    if status is not None and status not in Status.__members__:
        message = "Input should be 'PENDING', 'RUNNING', 'COMPLETED', 'FAILED' or 'CANCELLED'"
        refuse(422, [flaw("enum", ("query", "status"), message, status)])
    chosen = [
        job
        for job in reversed(request.app[CLOUD].jobs.values())
        if (not wanted or job.id in wanted)
        and (status is None or job.status == status)
        and (after is None or job.created_at >= after)
        and (before is None or job.created_at <= before)
    ]
    return web.json_response(page_of(request, [job.view() for job in chosen]))


def time_of(request: web.Request, name: str) -> float | None:
    """Read a time in ISO 8601 as seconds; without a zone it is UTC."""
    written = request.query.get(name)
    if written is None:
        return None
    try:
        read = datetime.fromisoformat(written)
    except ValueError:
        message = "Input should be a valid datetime"
        refuse(422, [flaw("datetime_from_date_parsing", ("query", name), message, written)])
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def page_of(request: web.Request, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Cut the page that `page_size` and `page_token` ask for."""
    written = request.query.get("page_size", str(DEFAULT_PAGE_SIZE))
    if not written.isdecimal() or not 1 <= int(written) <= MOST_PAGE_SIZE:
        message = f"Input should be from 1 to {MOST_PAGE_SIZE}"
        refuse(422, [flaw("int_range", ("query", "page_size"), message, written)])
    try:
        start = int(base64.urlsafe_b64decode(request.query.get("page_token", "")) or 0)
    except (ValueError, binascii.Error):
        refuse(400, "Invalid page token")
    end = start + int(written)
    token = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(rows) else None
    return {"items": rows[start:end], "next_page_token": token}


async def cancel(request: web.Request) -> web.Response:
    """Cancel a job that has not ended."""
    job = job_of(request)
    if not request.app[CLOUD].cancel(job.id):
        refuse(409, f"Cannot cancel a job in status {job.status}")
    return web.json_response(job.view())


async def delete(request: web.Request) -> web.Response:
    """Delete a job that has ended, with its results."""
    job = job_of(request)
    if job.status not in ENDS:
        refuse(409, f"Cannot delete a job in status {job.status}")
    request.app[CLOUD].forget(job.id)
    return web.json_response({"id": job.id, "project_id": job.project_id})


async def versions(_request: web.Request) -> web.Response:
    """List the versions of each tier, and what `latest` means."""
    return web.json_response({**VERSIONS, "latest": LATEST})


ROUTES = [
    web.post("/api/v2/parse/upload", parse_upload, name="parse_upload"),
    web.post("/api/v2/parse", create, name="create"),
    web.get("/api/v2/parse", list_jobs, name="list", allow_head=False),
    web.get("/api/v2/parse/versions", versions, name="versions", allow_head=False),
    web.get("/api/v2/parse/{job_id}", get, name="get", allow_head=False),
    web.post("/api/v2/parse/{job_id}/cancel", cancel, name="cancel"),
    web.delete("/api/v2/parse/{job_id}", delete, name="delete"),
]
