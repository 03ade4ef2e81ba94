"""Trouble that is ours, and what the gateway tells of itself: checks, metrics, traces, logs."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from schemas.errors import Code, TransientError
from streams.metrics import Recorder
from streams.tables.base import OnCommit, T, Tables, Unit
from streams.tables.sqlite import open_sqlite
from tests.gateway_desk import UPLOAD, open_gateway
from tests.gateway_wire import AWAY, WatchedBlobs, head_of, open_wire


class AwayTables:
    """Tables that cannot be written; `broken` by a defect, else by an outage."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def write(self, unit: Unit[T]) -> T:  # noqa: ARG002 - the seam's own name
        raise self._error

    async def read(self, unit: Unit[T]) -> T:  # noqa: ARG002 - the seam's own name
        raise self._error

    def on_commit(self, listener: OnCommit) -> None:
        raise NotImplementedError


class LostAnswer(AwayTables):
    """Tables that commit, and lose the answer, as a connection does that breaks after COMMIT."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(TransientError(Code.TABLES_UNAVAILABLE, "the answer was lost"))
        self._tables = tables

    async def write(self, unit: Unit[T]) -> T:
        await self._tables.write(unit)
        return await super().write(unit)


class TestOurs:
    async def test_a_store_that_fails_at_the_end(self, tmp_path: Path) -> None:
        blobs = WatchedBlobs(tmp_path / "blobs", refuse=True)
        async with open_gateway(tmp_path, blobs=blobs) as desk:
            with capture_logs() as logs:
                answer = await desk.upload()
            assert (answer.status, answer.json["code"]) == (503, "storage_unavailable")
            assert answer.headers["Retry-After"] == "5"
            assert b"secret" not in answer.content
            (line,) = [line for line in logs if line["event"] == "request_refused"]
            assert line["support_id"] == answer.json["support_id"]
            assert line["reason"] == AWAY.message
            assert desk.files() == []
            assert desk.said() == []

    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (TransientError(Code.TABLES_UNAVAILABLE, "SQLite: secret"), 503, "tables_unavailable"),
            (RuntimeError("secret"), 500, "internal_error"),
        ],
    )
    async def test_tables_that_are_away(
        self, tmp_path: Path, error: Exception, status: int, code: str
    ) -> None:
        async with open_gateway(tmp_path, tables=AwayTables(error)) as desk:
            for answer in (await desk.upload(), await desk.get("/api/v1/jobs")):
                assert (answer.status, answer.json["code"]) == (status, code)
                assert ("Retry-After" in answer.headers) == (status == 503)
                assert b"secret" not in answer.content
            # An outage may have come after the commit: that blob is left to the janitor.
            assert len(desk.files()) == (status == 503)
            assert desk.metric("parsewire_uploads_total", outcome=code) == 1

    async def test_a_job_whose_admission_was_not_answered_keeps_its_document(
        self, tmp_path: Path
    ) -> None:
        recorder = Recorder(CollectorRegistry())
        async with (
            open_sqlite(tmp_path / "tables.db", recorder) as tables,
            open_gateway(tmp_path, tables=LostAnswer(tables)) as desk,
        ):
            answer = await desk.upload()
            assert (answer.status, answer.json["code"]) == (503, "tables_unavailable")
            (row,) = await tables.read(
                lambda tx: tx.all("jobs.page", tenant="acme", before="~", most=9)
            )
            kept = [stored.key async for stored in desk.blobs.list_all()]
            assert kept == [row["source_blob"]]

    async def test_ready_tells_each_check_apart(self, tmp_path: Path) -> None:
        blobs = WatchedBlobs(tmp_path / "blobs")
        never = asyncio.Event()

        async def silent() -> None:
            await never.wait()

        async def well() -> None:
            return

        checks = {"bus": silent, "tables": well, "blobs": blobs.check}
        async with open_gateway(tmp_path, checks=checks, check_seconds=0.05) as desk:
            answer = await desk.get("/ready", tenant=None)
            assert answer.status == 503
            assert answer.json["ready"] is False
            found = {name: (c["state"], c["code"]) for name, c in answer.json["checks"].items()}
            assert found == {
                "bus": ("failed", "timeout"),
                "tables": ("ok", None),
                "blobs": ("failed", "storage_unavailable"),
            }
            assert all(check["latency_seconds"] >= 0 for check in answer.json["checks"].values())
            assert b"secret" not in answer.content
            assert (await desk.get("/health", tenant=None)).status == 200
        async with open_gateway(tmp_path / "2", checks={"tables": well}) as desk:
            answer = await desk.get("/ready", tenant=None)
            assert (answer.status, answer.json["ready"]) == (200, True)


class TestMeasures:
    async def test_what_is_not_http_leaves_no_key_in_the_log(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with open_gateway(tmp_path) as desk, open_wire(desk) as wire:
            head = head_of(desk, "X-Broken: \x01")
            await wire.send(head)
            assert (await wire.line()).split(b" ")[1] == b"400"
        assert "not HTTP, answered 400" in caplog.text
        assert "pw_" not in caplog.text
        assert "Broken" not in caplog.text

    async def test_routes_are_labelled_by_their_pattern(self, tmp_path: Path) -> None:
        async with open_gateway(tmp_path) as desk:
            job_id = (await desk.upload()).json["job_id"]
            await desk.get(f"/api/v1/jobs/{job_id}")
            await desk.get("/api/v1/jobs/nothing")
            await desk.get("/secret")
            await desk.ask("PROPFIND", "/secret")
            exposed = (await desk.get("/metrics", tenant=None)).content.decode()
            for labels, count in (
                (("POST", UPLOAD, "202"), 1),
                (("GET", "/api/v1/jobs/{job_id}", "200"), 1),
                (("GET", "/api/v1/jobs/{job_id}", "404"), 1),
                (("GET", "unmatched", "404"), 1),
                (("other", "unmatched", "404"), 1),
            ):
                method, route, status = labels
                found = desk.metric(
                    "parsewire_http_requests_total", method=method, route=route, status=status
                )
                assert found == count, labels
            assert "parsewire_http_requests_in_progress 1.0" in exposed
            assert job_id not in exposed
            assert "secret" not in exposed

    async def test_log_lines_have_the_trace(self, tmp_path: Path) -> None:
        trace = "00-" + "e" * 32 + "-" + "f" * 16 + "-01"
        async with open_gateway(tmp_path) as desk:
            answer = await desk.get("/nothing", headers={"traceparent": trace})
            assert answer.headers["traceparent"].startswith("00-" + "e" * 32)
            fresh = await desk.get("/nothing", headers={"traceparent": "garbage"})
            assert fresh.headers["traceparent"].startswith("00-")
            assert "garbage" not in fresh.headers["traceparent"]


class TestExpectations:
    @pytest.mark.parametrize(
        ("line", "status"),
        [
            ("GET /nothing", 417),
            ("POST /health", 417),
            ("GET /health", 200),
            ("GET /", 200),
            ("POST /api/v1/upload", 417),
            ("POST /api/v1/webhooks/nobody", 404),
        ],
    )
    async def test_one_that_is_no_text_is_no_error_of_ours(
        self, tmp_path: Path, line: str, status: int
    ) -> None:
        async with open_gateway(tmp_path) as desk, open_wire(desk) as wire:
            head = f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {desk.tokens['acme']}\r\n"
            await wire.send(head.encode() + b"Expect: \xff\r\nContent-Length: 0\r\n\r\n")
            assert (await wire.answer())[0] == status
