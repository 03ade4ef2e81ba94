"""The demo by way of LlamaParse, run as `make demo-llamaparse` runs it."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.processes import environment_of

ROOT = Path(__file__).parent.parent.parent
WAIT_SECONDS = 120

pytestmark = [pytest.mark.processes, pytest.mark.embedded]


def section(printed: str, headline: str) -> list[list[str]]:
    """Give a section's lines below its headline, in words."""
    _, found, rest = printed.partition(f"\n{headline}")
    assert found, headline
    lines = rest.split("\n\n")[0].splitlines()[1:]
    return [line.split() for line in lines]


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_the_demo_goes_the_whole_way_and_says_so(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.doubles.llamacloud.demo"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment_of({}) | {"COLUMNS": "200", "TMPDIR": str(tmp_path)},
        cwd=ROOT,
    )
    async with asyncio.timeout(WAIT_SECONDS):
        raw, _ = await process.communicate()
    printed = raw.decode()
    assert process.returncode == 0, printed

    documents = {words[0]: words[1:] for words in section(printed, "Documents")[1:]}
    assert documents["report.pdf"][:3] == ["complete", "3", "llamaparse"]
    assert documents["encrypted.pdf"][-1] == "document_encrypted"
    assert documents["broken.pdf"][-1] == "document_broken"
    assert "Page 3 of " in printed

    lines = section(printed, "history")[1:]
    moved = [(words[3], words[-1]) for words in lines if words[3] != "ParseStarted"]
    assert moved == [
        ("DocumentUploaded", "uploaded"),
        ("ParseQueued", "parse_queued"),
        ("ParseSucceeded", "parsed"),
        ("ParseSucceeded", "complete"),
    ]

    submitted = {words[0]: words for words in section(printed, "Submitted to http://127.0.0.1")[1:]}
    assert submitted["report.pdf"][-3:] == ["billed", "9.0", "no"]
    assert "Billed: 21 credits for 5 submissions." in printed

    (webhook,) = section(printed, "Webhooks for report.pdf")[1:]
    assert (webhook[0], webhook[3]) == ("webhooks.received", "WebhookReceived")
    assert webhook[4] == submitted["report.pdf"][1]
    assert webhook[5] == "lc-signature:"

    asked = {words[0]: words[1:] for words in section(printed, "What the double was asked")[1:]}
    assert asked["create"] == ["200", "5"]
    delivered = section(printed, "What it delivered")[1:]
    assert sorted({(words[0], words[3]) for words in delivered}) == [
        ("parse.error", "202"),
        ("parse.success", "202"),
    ]
    assert names_in(tmp_path) == []
