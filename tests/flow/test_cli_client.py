"""The gateway's client against a gateway that answers what it is told to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from services.cli.client import GatewayClient, GatewayError, UploadOptions, open_client
from services.cli.follow import Following
from services.cli.run_file import Target
from services.cli.submission import Submission, Submitter, open_bars

JOB = "01890000-0000-7000-8000-00000000000a"
LINKS = {"self": "", "history": "", "result": "", "retry": "", "cancel": ""}
PROBLEM = {
    "type": "about:blank",
    "title": "Not found",
    "status": 404,
    "detail": "there is no such job",
    "code": "not_found",
    "advice": "Check the id.",
    "support_id": "s-1",
}


def job(state: str, *, attempt: int = 1, job_id: str = JOB, **values: Any) -> dict[str, Any]:
    body = {
        "job_id": job_id,
        "document_id": "d",
        "state": state,
        "attempt": attempt,
        "generation": 1,
        "name": "a.pdf",
        "media_type": "application/pdf",
        "size_bytes": 3,
        "sha256": "0" * 64,
        "options": {},
        "parser": None,
        "parser_version": None,
        "pages": None,
        "warnings": [],
        "error": None,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "links": LINKS,
    }
    return {**body, **values}


def kept(state: str = "uploaded", *, duplicate: bool = False) -> dict[str, Any]:
    return {
        "job_id": JOB,
        "document_id": "d",
        "state": state,
        "duplicate": duplicate,
        "links": LINKS,
    }


Answer = Callable[[], web.Response]


@dataclass
class Gateway:
    """Answers each path's prepared answers in turn, the last one for ever."""

    answers: dict[str, list[Answer]]
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def says(self, path: str, body: Any, status: int = 200, **headers: str) -> None:
        names = {name.replace("_", "-"): value for name, value in headers.items()}

        def answer() -> web.Response:
            if isinstance(body, bytes):
                return web.Response(body=body, status=status, headers=names)
            return web.json_response(body, status=status, headers=names)

        self.answers.setdefault(path, []).append(answer)

    async def handle(self, request: web.Request) -> web.Response:
        given: dict[str, Any] = dict(request.query)
        if request.content_type.startswith("multipart/"):
            for name, value in (await request.post()).items():
                given[name] = (
                    (value.filename, value.file.read())
                    if isinstance(value, web.FileField)
                    else value
                )
        self.asked.append((request.method, request.path, given))
        waiting = self.answers[request.path]
        return (waiting.pop(0) if len(waiting) > 1 else waiting[0])()


@pytest.fixture
def gateway() -> Gateway:
    return Gateway({})


@asynccontextmanager
async def client_of(gateway: Gateway, attempts: int = 1) -> AsyncIterator[GatewayClient]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", gateway.handle)
    async with (
        TestServer(app) as server,
        open_client(Target(str(server.make_url("")).rstrip("/"), "pw_k"), attempts=attempts) as it,
        asyncio.timeout(10),
    ):
        yield it


async def test_an_upload_is_a_form_with_the_file_and_its_options(
    gateway: Gateway, tmp_path: Path
) -> None:
    gateway.says("/api/v1/upload", kept(), 202)
    file = tmp_path / "a.pdf"
    file.write_bytes(b"abc")
    sent: list[int] = []
    async with client_of(gateway) as client:
        options = UploadOptions(max_pages=7, target_pages="1,3-5", prompt="Zürich\n", force=True)
        answer = await client.upload(file, options, sent.append)
    assert (answer.job_id, answer.duplicate) == (JOB, False)
    assert gateway.asked == [
        (
            "POST",
            "/api/v1/upload",
            {
                "max_pages": "7",
                "target_pages": "1,3-5",
                "prompt": "Zürich\n",
                "force": "true",
                "file": ("a.pdf", b"abc"),
            },
        )
    ]
    assert sum(sent) == 3


async def test_an_overloaded_gateway_is_asked_again(gateway: Gateway, tmp_path: Path) -> None:
    overloaded = {**PROBLEM, "status": 503, "code": "overloaded"}
    gateway.says("/api/v1/upload", overloaded, 503, Retry_After="0")
    gateway.says("/api/v1/upload", overloaded, 503, Retry_After="0")
    gateway.says("/api/v1/upload", kept(), 202)
    file = tmp_path / "a.pdf"
    file.write_bytes(b"abc")
    sent: list[int] = []
    async with client_of(gateway, attempts=3) as client:
        await client.upload(file, UploadOptions(), sent.append)
    assert [given["file"] for _, _, given in gateway.asked] == [("a.pdf", b"abc")] * 3
    assert sum(sent) == 3


async def test_patience_ends(gateway: Gateway) -> None:
    gateway.says(f"/api/v1/jobs/{JOB}", {**PROBLEM, "code": "overloaded"}, 503, Retry_After="0")
    async with client_of(gateway, attempts=2) as client:
        with pytest.raises(GatewayError, match="overloaded"):
            await client.job(JOB)
    assert len(gateway.asked) == 2


async def test_a_refusal_is_one_line_and_final(gateway: Gateway) -> None:
    gateway.says(f"/api/v1/jobs/{JOB}", PROBLEM, 404)
    async with client_of(gateway, attempts=5) as client:
        with pytest.raises(GatewayError) as caught:
            await client.job(JOB)
    line = "there is no such job (not_found) - Check the id. [support id s-1]"
    assert str(caught.value) == line
    assert caught.value.code == "not_found"
    assert len(gateway.asked) == 1


async def test_an_answer_that_is_no_problem_document_is_told_by_its_status(
    gateway: Gateway,
) -> None:
    gateway.says(f"/api/v1/jobs/{JOB}", b"<html>", 500)
    gateway.says(f"/api/v1/jobs/{JOB}/history", b"[]")
    async with client_of(gateway) as client:
        with pytest.raises(GatewayError, match=r"Internal Server Error \(http_500\)"):
            await client.job(JOB)
        with pytest.raises(GatewayError, match="not an answer of Parsewire"):
            await client.history(JOB)


async def test_nobody_there_says_how_to_start_one(free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}"
    async with open_client(Target(url, "pw_k")) as client:
        with pytest.raises(GatewayError, match=f"no gateway at {url}: .*parsewire up"):
            await client.jobs(state=None, limit=1)


async def test_a_list_is_asked_with_what_was_given(gateway: Gateway) -> None:
    gateway.says("/api/v1/jobs", {"jobs": [job("complete", pages=2)], "next": "n"})
    async with client_of(gateway) as client:
        page = await client.jobs(state="complete", limit=3)
    assert (page.jobs[0].pages, page.next) == (2, "n")
    assert gateway.asked == [("GET", "/api/v1/jobs", {"state": "complete", "limit": "3"})]


async def test_following_gives_each_job_when_it_has_ended(gateway: Gateway) -> None:
    gateway.says("/api/v1/jobs/a", job("parsing", job_id="a"))
    gateway.says("/api/v1/jobs/a", job("complete", job_id="a"))
    gateway.says("/api/v1/jobs/b", job("failed_parse", job_id="b"))
    async with client_of(gateway) as client:
        following = Following(client)
        following.add("a")
        following.add("b")
        following.close()
        ends = [(end.job_id, end.state) async for end in following.ends()]
    assert ends == [("b", "failed_parse"), ("a", "complete")]


async def submitted(
    gateway: Gateway, submissions: list[Submission], *, wait: bool = True
) -> list[Submission]:
    console = Console(file=StringIO())
    async with client_of(gateway) as client:
        with open_bars(console, [one.file for one in submissions], wait=wait) as bars:
            await Submitter(client, UploadOptions(), bars).run(submissions, wait=wait)
    return submissions


async def test_files_of_the_same_bytes_both_get_their_result(
    gateway: Gateway, tmp_path: Path
) -> None:
    files = [tmp_path / "a.pdf", tmp_path / "b.pdf"]
    for file in files:
        file.write_bytes(b"abc")
    gateway.says("/api/v1/upload", kept(), 202)
    gateway.says("/api/v1/upload", kept("parsing", duplicate=True))
    gateway.says(f"/api/v1/jobs/{JOB}", job("complete", pages=4))
    gateway.says(f"/api/v1/jobs/{JOB}/result.md", b"# text")
    found = await submitted(
        gateway, [Submission(file, result=file.with_suffix(".md")) for file in files]
    )
    assert [(one.state, one.pages, one.error) for one in found] == [("complete", 4, None)] * 2
    assert [file.with_suffix(".md").read_bytes() for file in files] == [b"# text"] * 2


async def test_a_known_failure_is_followed_through_its_new_attempt(
    gateway: Gateway, tmp_path: Path
) -> None:
    file = tmp_path / "a.pdf"
    file.write_bytes(b"abc")
    gateway.says("/api/v1/upload", kept("failed_parse", duplicate=True))
    asked = {"job_id": JOB, "asked": "retry", "state": "failed_parse", "attempt": 1}
    gateway.says(f"/api/v1/jobs/{JOB}/retry", {**asked, "links": LINKS}, 202)
    gateway.says(f"/api/v1/jobs/{JOB}", job("failed_parse", attempt=1))
    gateway.says(f"/api/v1/jobs/{JOB}", job("complete", attempt=2))
    found = await submitted(gateway, [Submission(file)])
    assert (found[0].state, found[0].error) == ("complete", None)


async def test_one_refused_file_stops_no_other(gateway: Gateway, tmp_path: Path) -> None:
    files = [tmp_path / "a.pdf", tmp_path / "b.pdf"]
    for file in files:
        file.write_bytes(b"abc")
    refused = {**PROBLEM, "status": 422, "code": "document_empty", "detail": "no bytes"}
    gateway.says("/api/v1/upload", refused, 422)
    gateway.says("/api/v1/upload", kept(), 202)
    broken = {"code": "document_broken", "title": "t", "message": "cut off", "advice": "a"}
    gateway.says(f"/api/v1/jobs/{JOB}", job("failed_parse", error=broken))
    found = await submitted(gateway, [Submission(file) for file in files])
    assert sorted(str(one.error).split(" (")[1].split(")")[0] for one in found) == [
        "document_broken",
        "document_empty",
    ]
