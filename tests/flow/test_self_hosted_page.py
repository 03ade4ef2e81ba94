"""The service in docs/self-hosted.md, as it stands there: it runs, and documents come back."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.embedded_broker import dying_with_parent
from tests.fleet import open_fleet
from tests.kafka_process import stable_port
from tests.processes import until

pytestmark = [pytest.mark.processes, pytest.mark.kafka]

PAGE = Path(__file__).parents[2] / "docs" / "self-hosted.md"
SECRET = "the secret of this page"


@asynccontextmanager
async def open_documented_service(folder: Path) -> AsyncIterator[str]:
    """Run the page's program on a free port, and give the URL that takes documents."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (program,) = blocks
    port = stable_port()
    assert "port=9000" in program
    path = folder / "service.py"
    path.write_text(program.replace("port=9000", f'host="127.0.0.1", port={port}'))
    process = await asyncio.create_subprocess_exec(
        *dying_with_parent([sys.executable, str(path)]),
        stdout=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "SECRET": SECRET},
    )

    async def listens() -> bool:
        assert process.returncode is None, "the service has ended"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await until(listens, "the service listens", within_seconds=20)
        yield f"http://127.0.0.1:{port}/parse"
    finally:
        process.terminate()
        async with asyncio.timeout(20):
            await process.wait()


async def test_the_documented_service_parses_a_document(
    kafka_bootstrap: str, tmp_path: Path, topic_prefix: str
) -> None:
    async with open_documented_service(tmp_path) as url:
        given: dict[str, object] = {
            "mode": "real",
            "remote_parser": "callback",
            "callback_parser_url": url,
            "callback_parser_secret": SECRET,
            "webhook_url": "http://127.0.0.1:1",
        }
        opened = open_fleet(tmp_path, kafka_bootstrap, topic_prefix, workers=0, **given)
        async with opened as fleet:
            await fleet.add_worker(webhook_url=fleet.url)
            client = await fleet.client()
            answer = await client.upload(b"%PDF-1.7 and some bytes", "a.pdf")
            job_id = str(answer.json["job_id"])
            job = await client.reaches(job_id, "complete", "failed_parse", within_seconds=40)
            assert (job["state"], job["parser"]) == ("complete", "callback")
            assert (await client.result(job_id, ".txt")).content == b"# 23 bytes\n"
