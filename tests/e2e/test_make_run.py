"""The README beside `make run`: its program that writes a dead letter, as it stands there."""

import asyncio
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.processes import environment_of, until

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WAIT_SECONDS = 60
STAYS = b"Ctrl-C ends it.\n"

pytestmark = [pytest.mark.processes, pytest.mark.embedded]


def program() -> bytes:
    """Give the README's one Python program."""
    (found,) = re.findall(r"<<'END'\n(.*?)END\n", README, re.DOTALL)
    return str(found).encode()


async def run(folder: Path, *command: str, stdin: bytes = b"") -> bytes:
    """Run a command where a reader stands, and give what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment_of({}),
        cwd=folder,
    )
    async with asyncio.timeout(WAIT_SECONDS):
        printed, _ = await process.communicate(stdin)
    assert process.returncode == 0, printed
    return printed


async def cli(folder: Path, *words: str) -> Any:
    return orjson.loads(await run(folder, "-P", "-m", "services.cli.main", *words, "--json"))


@asynccontextmanager
async def make_run(folder: Path) -> AsyncIterator[None]:
    """Do what `make run` does, until the reader's Ctrl-C."""
    shutil.copytree(ROOT / "samples", folder / "samples")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "services.cli.main", "demo", "--stay"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=environment_of({"gateway_port": 0}),
        cwd=folder,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_SECONDS):
            while line := await process.stdout.readline():
                if line == STAYS:
                    break
        yield
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(WAIT_SECONDS):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_reader_lists_failed_jobs_and_reads_a_dead_letter_of_his_own(
    tmp_path: Path,
) -> None:
    async with make_run(tmp_path):
        failed = await cli(tmp_path, "jobs", "--state", "failed_parse")
        assert {job["name"]: job["error"]["code"] for job in failed["jobs"]} == {
            "broken.pdf": "document_broken",
            "encrypted.pdf": "document_encrypted",
            "scan.pdf": "document_has_no_text",
        }
        await run(tmp_path, "-", stdin=program())

        async def listed() -> list[dict[str, Any]]:
            return list((await cli(tmp_path, "dead-letters", "list"))["dead_letters"])

        (letter,) = await until(listed, "the dead letter is listed", within_seconds=20)
        shown = await cli(tmp_path, "dead-letters", "show", str(letter["id"]))
        assert (shown["key"], shown["value"]) == ("my-job", "garbage")
        assert (shown["processor"], shown["topic"]) == ("job_state", "jobs.events")
