"""Results and keys over real HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.keys import Key, find_key, list_keys, revoke_key
from tests.gateway_desk import GatewayDesk, open_gateway

MARKDOWN = b"<!-- page 1 -->\n\n# One\n\n<!-- page 2 -->\n\nTwo\n"
TEXT = b"One\n\x0cTwo\n"


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[GatewayDesk]:
    async with open_gateway(tmp_path) as opened:
        yield opened


async def uploaded(desk: GatewayDesk, content: bytes = b"some text") -> str:
    job_id: str = (await desk.upload(content)).json["job_id"]
    desk.said()
    return job_id


class TestResult:
    @pytest.mark.parametrize(
        ("suffix", "accept", "kind", "content"),
        [
            ("", None, "text/markdown; charset=utf-8", MARKDOWN),
            ("", "*/*", "text/markdown; charset=utf-8", MARKDOWN),
            ("", "text/*", "text/markdown; charset=utf-8", MARKDOWN),
            ("", "text/html, */*;q=0.1", "text/markdown; charset=utf-8", MARKDOWN),
            ("", "text/plain", "text/plain; charset=utf-8", TEXT),
            ("", "text/markdown;q=0.2, text/plain; q=0.7", "text/plain; charset=utf-8", TEXT),
            ("", "*/*, text/plain", "text/plain; charset=utf-8", TEXT),
            (".md", "text/plain", "text/markdown; charset=utf-8", MARKDOWN),
            (".txt", "application/json", "text/plain; charset=utf-8", TEXT),
        ],
    )
    async def test_formats(
        self, desk: GatewayDesk, suffix: str, accept: str | None, kind: str, content: bytes
    ) -> None:
        job_id = await uploaded(desk)
        await desk.complete(job_id)
        headers = {} if accept is None else {"Accept": accept}
        answer = await desk.get(f"/api/v1/jobs/{job_id}/result{suffix}", headers=headers)
        assert (answer.status, answer.content) == (200, content)
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    @pytest.mark.parametrize(("suffix", "accept"), [(".json", "*/*"), ("", "application/json")])
    async def test_json(self, desk: GatewayDesk, suffix: str, accept: str) -> None:
        job_id = await uploaded(desk)
        await desk.complete(job_id)
        answer = await desk.get(f"/api/v1/jobs/{job_id}/result{suffix}", headers={"Accept": accept})
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json["pages"] == [
            {"number": 1, "markdown": "# One\n", "text": "One\n"},
            {"number": 2, "markdown": "Two\n", "text": "Two\n"},
        ]

    @pytest.mark.parametrize(
        ("suffix", "accept"),
        [
            (".html", "*/*"),
            (".", "*/*"),
            ("", "text/html"),
            ("", "text/markdown;q=0, text/html"),
            ("", "text/plain;q=none"),
            ("", ";;,=;q"),
        ],
    )
    async def test_other_formats(self, desk: GatewayDesk, suffix: str, accept: str) -> None:
        job_id = await uploaded(desk)
        await desk.complete(job_id)
        answer = await desk.get(f"/api/v1/jobs/{job_id}/result{suffix}", headers={"Accept": accept})
        assert (answer.status, answer.json["code"]) == (406, "not_acceptable")

    async def test_a_head_has_no_body(self, desk: GatewayDesk) -> None:
        job_id = await uploaded(desk)
        await desk.complete(job_id)
        answer = await desk.ask("HEAD", f"/api/v1/jobs/{job_id}/result.txt")
        assert (answer.status, answer.content) == (200, b"")
        assert answer.headers["Content-Length"] == "9"

    async def test_not_ready(self, desk: GatewayDesk) -> None:
        job_id = await uploaded(desk)
        waiting = await desk.get(f"/api/v1/jobs/{job_id}/result.md")
        assert (waiting.status, waiting.json["code"]) == (409, "result_not_ready")
        assert waiting.json["state"] == "uploaded"
        assert "error_code" not in waiting.json
        await desk.fail(job_id, "document_broken")
        failed = await desk.get(f"/api/v1/jobs/{job_id}/result")
        assert (failed.status, failed.json["code"]) == (409, "result_not_ready")
        assert (failed.json["state"], failed.json["error_code"]) == (
            "failed_parse",
            "document_broken",
        )

    async def test_a_result_that_the_disk_lost_is_our_fault(self, desk: GatewayDesk) -> None:
        job_id = await uploaded(desk)
        await desk.complete(job_id)
        (desk.folder / f"acme/{job_id}.1.result").write_bytes(b"changed")
        answer = await desk.get(f"/api/v1/jobs/{job_id}/result")
        assert (answer.status, answer.json["code"]) == (500, "source_corrupt")
        assert "acme" not in answer.json["detail"]


class TestKeys:
    @pytest.mark.parametrize(
        "value",
        [
            "",
            "Bearer",
            "Bearer ",
            "Bearer pw_wrong",
            "Bearer nothing",
            "Basic pw_wrong",
            "pw_wrong",
            "Bearer pw_" + "x" * 300,
            "Bearer pw_\u00e9\u20ac",
        ],
    )
    async def test_wrong_ones(self, desk: GatewayDesk, value: str) -> None:
        answer = await desk.get("/api/v1/jobs", tenant=None, headers={"Authorization": value})
        assert (answer.status, answer.json["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="parsewire"')

    async def test_a_revoked_key_ends_when_its_memory_does(self, tmp_path: Path) -> None:
        async with open_gateway(tmp_path, key_cache_seconds=0.0) as desk:
            assert (await desk.get("/api/v1/jobs")).status == 200
            keys = {row["tenant"]: row["id"] for row in await list_keys(desk.tables)}
            assert await revoke_key(desk.tables, keys["acme"])
            assert (await desk.get("/api/v1/jobs")).status == 401
            assert (await desk.get("/api/v1/jobs", tenant="globex")).status == 200

    async def test_a_key_is_looked_up_once_in_a_while(self, tmp_path: Path) -> None:
        looked_up: list[str] = []
        async with open_gateway(tmp_path / "keys") as other:

            async def counted(token: str) -> Key | None:
                looked_up.append(token)
                return await find_key(other.tables, token)

            async with open_gateway(tmp_path / "gateway", find_key=counted) as desk:
                for _ in range(3):
                    await desk.get("/api/v1/jobs", tenant=None, headers=other.bearer("acme"))
        assert len(looked_up) == 1

    @pytest.mark.parametrize("path", ["/", "/health", "/ready", "/metrics"])
    async def test_probes_need_none(self, desk: GatewayDesk, path: str) -> None:
        assert (await desk.get(path, tenant=None)).status == 200
