"""LiteParse alone: a process that parses its share of a folder, as our child processes do.

python -m bench.lite_alone FOLDER SHARE SHARES, then a line to go
"""

import sys
import time
from pathlib import Path

import orjson
from liteparse._liteparse import LiteParse

_PAGES_PER_BATCH = 25


def main() -> None:
    """Say that it is ready; at each line parse the share, and tell each document's seconds."""
    folder, share, shares = sys.argv[1:]
    paths = sorted(Path(folder).glob("*.pdf"))[int(share) :: int(shares)]
    parser = LiteParse(
        output_format="markdown",
        ocr_enabled=False,
        image_mode="off",
        keep_headers_footers=True,
        continue_on_page_error=True,
        max_pages=2001,
        quiet=True,
    )
    for path in paths[:3]:
        _parse(parser, path)
    _say("ready")
    while sys.stdin.buffer.readline():
        _say([_parse(parser, path) for path in paths])


def _parse(parser: LiteParse, path: Path) -> float:
    started = time.perf_counter()
    session = parser.open_batch_session(str(path), _PAGES_PER_BATCH)
    characters = 0
    while (batch := session.next_batch()) is not None:
        characters += sum(len(page.markdown) + len(page.text) for page in batch.result.pages)
    if characters == 0:
        raise RuntimeError(f"{path} gave no text")
    return time.perf_counter() - started


def _say(what: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
