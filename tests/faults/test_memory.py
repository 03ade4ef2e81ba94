"""A very large upload through a real gateway process, which must not grow by it."""

import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.fleet import TENANT, open_fleet

pytestmark = [pytest.mark.processes, pytest.mark.embedded]

MIB = 1024 * 1024
BODY_BYTES = 512 * MIB
FORM_HEAD = (
    b'--end\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n'
    b"Content-Type: application/pdf\r\n\r\n"
)
FORM_TAIL = b"\r\n--end--\r\n"
CONTENT_TYPES = {"raw": "application/pdf", "form": "multipart/form-data; boundary=end"}
PIECE = bytes(range(256)) * 1024


def memory_bytes(pid: int, line: str) -> int:
    """Read a line of a process's memory: VmRSS is now, VmHWM the most ever."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{line}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def forget_peak(pid: int) -> None:
    """Let VmHWM begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def body_of(kind: str, digest: "hashlib._Hash") -> AsyncIterator[bytes]:
    """Give a body of 512 MiB that begins as a PDF does, a form's part or alone."""
    if kind == "form":
        yield FORM_HEAD
    for piece in document():
        digest.update(piece)
        yield piece
    if kind == "form":
        yield FORM_TAIL


def document() -> Iterator[bytes]:
    head = b"%PDF-1.7\n"
    yield head
    left = BODY_BYTES - len(head)
    while left:
        yield PIECE[:left]
        left -= min(left, len(PIECE))


@pytest.mark.parametrize("kind", ["raw", "form"])
async def test_an_upload_of_512_mib(
    embedded_bootstrap: str, tmp_path: Path, topic_prefix: str, kind: str
) -> None:
    async with open_fleet(tmp_path, embedded_bootstrap, topic_prefix, workers=0) as fleet:
        client = await fleet.client()
        pid = fleet.gateway.pid
        # The first upload brings in what every later one uses.
        assert (await client.upload(b"some text", "small.txt")).status == 202
        before = memory_bytes(pid, "VmRSS")
        forget_peak(pid)
        digest = hashlib.sha256()
        uploaded = await client.ask(
            "POST",
            "/api/v1/upload",
            data=body_of(kind, digest),
            headers={"Content-Type": CONTENT_TYPES[kind]},
        )
        growth = memory_bytes(pid, "VmHWM") - before
        assert uploaded.status == 202, uploaded.content
        job = await client.job(uploaded.json["job_id"])
        assert (job["size_bytes"], job["sha256"]) == (BODY_BYTES, digest.hexdigest())
        print(f"the gateway grew by {growth / MIB:.1f} MiB")  # noqa: T201  # shown with -s
        assert growth < 32 * MIB
        # Half a gibibyte is not left for whoever looks at old runs.
        await fleet.blobs.delete(f"{TENANT}/{job['job_id']}/source")
