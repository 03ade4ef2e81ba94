"""The programs in docs/bus.md, as they stand there: they submit documents, and tell the end."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.brokers import skip_or_fail
from tests.fleet import Fleet, open_fleet
from tests.processes import until
from tests.topics import read_topic

pytestmark = [pytest.mark.processes, pytest.mark.kafka]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "bus.md").read_text(encoding="utf-8")
FILES = ("samples/notes.md", "samples/broken.pdf")


def block(language: str) -> str:
    """Give the page's one program in a language."""
    (program,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(program)


@asynccontextmanager
async def open_taking(folder: Path, servers: str, prefix: str) -> AsyncIterator[Fleet]:
    """Run a gateway and a worker that take documents of the tenant acme on the bus."""
    given = {"intake": "documents.submitted:acme", "result_link_seconds": 600}
    async with open_fleet(folder, servers, prefix, workers=1, **given) as fleet:
        yield fleet


async def run(*command: str, **environment: str) -> bytes:
    """Run a program to its good end, and give what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **environment},
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(60):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    return printed


def told(printed: bytes) -> dict[str, Any]:
    """Give the lines that a program printed, by the file that each is about."""
    lines = [orjson.loads(line) for line in printed.splitlines()]
    assert len(lines) == len({line["file"] for line in lines})
    return {line["file"]: line for line in lines}


async def test_the_python_program_tells_what_becomes_of_each_file(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    program, empty = tmp_path / "submit.py", tmp_path / "empty.txt"
    program.write_text(block("python"), encoding="utf-8")
    empty.touch()
    command = (sys.executable, str(program), *FILES, str(empty))
    places = {"BROKERS": kafka_bootstrap, "PREFIX": topic_prefix}
    async with open_taking(tmp_path, kafka_bootstrap, topic_prefix) as fleet:
        first = told(await run(*command, **places, TENANT="acme"))
        notes, broken, nothing = (first[name] for name in (*FILES, str(empty)))
        assert (notes["end"], notes["code"], notes["pages"]) == ("complete", None, 1)
        assert (broken["end"], broken["code"]) == ("failed_parse", "document_broken")
        assert (nothing["end"], nothing["code"]) == ("refused", "document_empty")
        assert nothing["job_id"] is None

        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{fleet.url}{notes['result_url']}?format=md") as answer,
        ):
            assert answer.status == 200
            assert "Plain **Markdown** goes through as it stands." in await answer.text()

        assert told(await run(*command, **places, TENANT="acme")) == first
        client = await fleet.client()
        assert len(await client.jobs()) == 2

        strange = told(await run(*command[:3], **places, TENANT="globex"))
        assert (strange[FILES[0]]["end"], strange[FILES[0]]["code"]) == ("refused", "forbidden")


async def test_the_kcat_lines_submit_a_document(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    if shutil.which("kcat") is None:
        skip_or_fail("there is no kcat on this machine")
    places = {"BROKERS": kafka_bootstrap, "PREFIX": topic_prefix}
    async with open_taking(tmp_path, kafka_bootstrap, topic_prefix) as fleet:
        await run("bash", "-ec", block("bash"), **places)
        client = await fleet.client()
        job = await job_of("invoice-4711-v1", kafka_bootstrap, topic_prefix)
        await client.reaches(job, "complete")
        printed = (await run("bash", "-ec", block("bash"), **places)).decode()
        assert "4711 ce_specversion=1.0,ce_id=" in printed
        assert '"submission_id":"invoice-4711-v1","tenant":"acme"' in printed
        assert f'{job} {{"job_id":"{job}","tenant":"acme"' in printed
        assert len(await client.jobs()) == 1


async def job_of(submission_id: str, servers: str, prefix: str) -> str:
    """Wait for the answer of a submission, and give the job that it names."""

    async def answered() -> str | None:
        for seen in await read_topic(servers, f"{prefix}documents.answered"):
            said = orjson.loads(seen.value)
            if said["submission_id"] == submission_id:
                return str(said["job_id"])
        return None

    return str(await until(answered, "the submission is answered", within_seconds=20))
