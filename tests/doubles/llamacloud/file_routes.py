"""Routes of the Files API and of presigned downloads."""

import uuid
from dataclasses import dataclass, field

from aiohttp import BodyPartReader, web

from tests.doubles.llamacloud.jobs import iso
from tests.doubles.llamacloud.replies import CALL, CLOUD, refuse
from tests.doubles.llamacloud.shape import flaw
from tests.doubles.llamacloud.storage import StoredFile

PURPOSES = frozenset({"user_data", "parse", "extract", "split", "classify", "sheet", "agent_app"})
FILE_NOT_FOUND = "File not found"
S3_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{}</Code><Message>{}</Message></Error>'
)
DEFAULT_FILE_URL_SECONDS = 3600


@dataclass(slots=True)
class Form:
    """A multipart form with one file."""

    name: str = ""
    content: bytes = b""
    fields: dict[str, str] = field(default_factory=dict)


async def read_form(request: web.Request) -> Form:
    """Read a form, or refuse it: no form, no file, no name, nothing in it, too large."""
    if not request.content_type.startswith("multipart/"):
        refuse(422, [flaw("missing", ("body", "file"), "Field required", None)])
    form, has_file = Form(), False
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            continue
        if part.name == "file":
            has_file, form.name = True, part.filename or ""
            form.content = await read_file(request, part)
        elif part.name:
            form.fields[part.name] = await part.text()
    if not has_file:
        refuse(422, [flaw("missing", ("body", "file"), "Field required", None)])
    if not form.name:
        refuse(400, "File must have a filename.")
    if not form.content:
        refuse(400, "Uploaded file is empty.")
    return form


async def read_file(request: web.Request, part: BodyPartReader) -> bytes:
    """Read a file up to the platform's limit."""
    most = request.app[CLOUD].behaviour.max_file_bytes
    kept = bytearray()
    while chunk := await part.read_chunk(1 << 18):
        kept += chunk
        if len(kept) > most:
            refuse(413, "File size exceeds the maximum allowed size.")
    return bytes(kept)


async def upload_file(request: web.Request) -> web.Response:
    """Store a file; the same external id may be given again and again."""
    cloud = request.app[CLOUD]
    form = await read_form(request)
    purpose = form.fields.get("purpose")
    if purpose is None:
        refuse(422, [flaw("missing", ("body", "purpose"), "Field required", None)])
    if purpose not in PURPOSES:
        refuse(422, [flaw("enum", ("body", "purpose"), "Input should be a known purpose", purpose)])
    file = StoredFile(
        id=str(uuid.uuid4()),
        name=form.name,
        project_id=cloud.project_id,
        purpose=purpose,
        external_file_id=form.fields.get("external_file_id"),
        content=form.content,
        created_at=cloud.clock(),
    )
    cloud.files[file.id] = file
    request[CALL].file_id = file.id
    return web.json_response(file.view())


def file_of(request: web.Request) -> StoredFile:
    """Give the file that a path names."""
    file = request.app[CLOUD].files.get(request.match_info["file_id"])
    if file is None:
        refuse(404, FILE_NOT_FOUND)
    return file


async def list_files(request: web.Request) -> web.Response:
    """List files by id, by name, by external id."""
    query = request.query
    ids, name, external = query.getall("file_ids", []), query.get("file_name"), "external_file_id"
    rows = [
        file.view()
        for file in request.app[CLOUD].files.values()
        if (not ids or file.id in ids)
        and (name is None or file.name == name)
        and (external not in query or file.external_file_id == query[external])
    ]
    return web.json_response({"items": rows, "next_page_token": None})


async def get_file(request: web.Request) -> web.Response:
    """Give a file's metadata."""
    return web.json_response(file_of(request).view())


async def file_content(request: web.Request) -> web.Response:
    """Give a presigned URL of a file's bytes."""
    cloud, file = request.app[CLOUD], file_of(request)
    seconds = float(request.query.get("expires_at_seconds", DEFAULT_FILE_URL_SECONDS))
    url = cloud.presign(file.content, "application/octet-stream", seconds)
    expires_at = iso(cloud.clock() + seconds)
    return web.json_response({"url": url, "expires_at": expires_at, "form_fields": None})


async def delete_file(request: web.Request) -> web.Response:
    """Delete a file; jobs that were made of it keep their results."""
    del request.app[CLOUD].files[file_of(request).id]
    return web.Response(status=204)


def s3_error(status: int, code: str, message: str) -> web.Response:
    """Give an error as S3 writes it."""
    text = S3_ERROR.format(code, message)
    return web.Response(status=status, text=text, content_type="application/xml")


async def download(request: web.Request) -> web.Response:
    """Give presigned bytes; S3 takes one way of authorization, so a key beside it is an error."""
    cloud = request.app[CLOUD]
    if "Authorization" in request.headers:
        message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, "
        return s3_error(400, "InvalidArgument", message + "Signature or Authorization header")
    kept = cloud.presigned.get(request.match_info["token"])
    if kept is None or "X-Amz-Signature" not in request.query:
        return s3_error(403, "AccessDenied", "Access Denied")
    if kept.expires_at <= cloud.clock():
        return s3_error(403, "AccessDenied", "Request has expired")
    return web.Response(body=kept.content, content_type=kept.content_type)


ROUTES = [
    web.post("/api/v1/beta/files", upload_file, name="upload_file"),
    web.get("/api/v1/beta/files", list_files, name="list_files", allow_head=False),
    web.get("/api/v1/beta/files/{file_id}", get_file, name="get_file", allow_head=False),
    web.get(
        "/api/v1/beta/files/{file_id}/content", file_content, name="file_content", allow_head=False
    ),
    web.delete("/api/v1/beta/files/{file_id}", delete_file, name="delete_file"),
    web.get("/s3/{token}", download, name="download", allow_head=False),
]
