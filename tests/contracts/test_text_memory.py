"""Large texts: what parsing them takes of memory."""

import hashlib
import tracemalloc
from pathlib import Path

import pytest

from schemas.errors import PermanentError
from schemas.events import ParseOptions
from streams.parsers.base import Document
from streams.parsers.text import TextParser


async def parse_bytes(folder: Path, raw: bytes, media_type: str) -> None:
    path = folder / "document"
    path.write_bytes(raw)
    digest = hashlib.sha256(raw).hexdigest()
    given = Document("j", "acme", 1, path, digest, len(raw), media_type, ParseOptions())
    await TextParser(max_pages=100).parse(given)


@pytest.mark.parametrize(
    ("raw", "media_type", "code"),
    [
        pytest.param(b"\f" * 500_000, "text/plain", "document_too_many_pages", id="pages"),
        pytest.param(
            b"a" + b"," * 20_000 + b"\n" + b"x\n" * 20_000,
            "text/csv",
            "document_too_large",
            id="one long row and many short ones",
        ),
        pytest.param(b"a,b\n" * 60_000, "text/csv", None, id="many rows"),
    ],
)
async def test_no_text_takes_a_hundred_times_its_memory(
    tmp_path: Path, raw: bytes, media_type: str, code: str | None
) -> None:
    tracemalloc.start()
    try:
        if code is None:
            await parse_bytes(tmp_path, raw, media_type)
        else:
            with pytest.raises(PermanentError) as caught:
                await parse_bytes(tmp_path, raw, media_type)
            assert caught.value.code == code
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The test's own copies of the document are among it.
    assert peak < 4_000_000 + 12 * len(raw)
