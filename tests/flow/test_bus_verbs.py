"""The verbs of the bus beside a real deployment: documents in, their moves and results out."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.keys import create_key
from tests.fleet import open_fleet
from tests.forks import Fork, start_fork
from tests.processes import MAIN, environment_of, until

pytestmark = pytest.mark.processes

WAIT_SECONDS = 40


@dataclass
class Verbs:
    """The command line with a deployment's settings."""

    folder: Path
    settings: dict[str, object]

    async def begin(self, *arguments: str, output: Path) -> Fork:
        with output.open("wb") as out:
            return await start_fork(
                MAIN,
                arguments,
                environment=environment_of(self.settings),
                folder=self.folder,
                output=out.fileno(),
            )

    async def run(self, *arguments: str) -> tuple[int, str]:
        output = self.folder / "verb.out"
        process = await self.begin(*arguments, output=output)
        async with asyncio.timeout(WAIT_SECONDS):
            code = await process.wait()
        return code, output.read_text()

    @asynccontextmanager
    async def watching(self, *arguments: str) -> AsyncIterator[Path]:
        """Watch beside the block, until Ctrl-C."""
        output = self.folder / "watch.out"
        process = await self.begin("watch", "--json", *arguments, output=output)
        try:
            yield output
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(WAIT_SECONDS):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def moves_in(output: Path) -> list[Any]:
    return [json.loads(line) for line in output.read_text().splitlines()]


@pytest.fixture(
    params=[
        pytest.param("embedded", marks=pytest.mark.embedded),
        pytest.param("kafka", marks=pytest.mark.kafka),
    ]
)
def servers(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_bootstrap"))


async def test_documents_in_and_results_out_without_http(
    servers: str, tmp_path: Path, topic_prefix: str
) -> None:
    given: dict[str, Any] = {
        "intake": "documents.submitted:acme|globex",
        "result_link_seconds": 600,
    }
    async with open_fleet(tmp_path, servers, topic_prefix, **given) as fleet:
        places = {"kafka_bootstrap_servers": servers, "topic_prefix": topic_prefix}
        more = {"kafka_session_timeout_seconds": 6, "data_dir": tmp_path}
        _, token = await create_key(fleet.tables, "acme", "test")
        reached = {"gateway_url": fleet.url, "api_key": token}
        verbs = Verbs(tmp_path, {**places, **more, **reached})
        (tmp_path / "good.txt").write_text("Dear harbour master")
        (tmp_path / "empty.txt").write_text("")
        # From the start: this one is not asked when it has joined its group.
        async with verbs.watching("--from-start", "--reference", "inv-7") as output:
            files = [str(tmp_path / "good.txt"), str(tmp_path / "empty.txt")]
            sent = ["--bus", "--tenant", "acme", "--reference", "inv-7", "--json"]
            code, printed = await verbs.run("submit", *files, *sent)
            good, empty = json.loads(printed)["submissions"]
            assert code == 1
            assert good["accepted"]["duplicate"] is False
            assert good["accepted"]["submission_id"] == good["submission_id"]
            assert empty["refused"]["code"] == "document_empty"

            async def complete() -> bool:
                return any(move["to_state"] == "complete" for move in moves_in(output))

            await until(complete, "the watch says complete", within_seconds=WAIT_SECONDS)
        job_id = good["accepted"]["job_id"]
        moves = moves_in(output)
        assert {move["job_id"] for move in moves} == {job_id}
        last = next(move for move in moves if move["to_state"] == "complete")
        assert (last["parser"], last["pages"], last["reference"]) == ("text", 1, "inv-7")
        assert last["result"]["size_bytes"] > 0
        assert await text_at(fleet.url + last["result_url"]) == "Dear harbour master\n"

        again = ["--bus", "--tenant", "acme", "--id", good["submission_id"], "--json"]
        code, printed = await verbs.run("submit", files[0], *again)
        (answer,) = json.loads(printed)["submissions"]
        assert (code, answer["accepted"]["job_id"]) == (0, job_id)

        code, printed = await verbs.run("submit", files[0], "--bus", "--tenant", "initech")
        assert code == 1
        assert "(forbidden)" in printed

        code, printed = await verbs.run("result", "--link", "--seconds", "60", job_id)
        assert code == 0
        assert await text_at(printed.strip()) == "Dear harbour master\n"


async def text_at(url: str) -> str:
    """Fetch a result as somebody without a key does."""
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession() as session,
        session.get(url, params={"format": "txt"}) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return await answer.text()
