"""A LiteParse child process: documents by path on stdin, page texts on stdout, one at a time.

Frames both ways: 4 bytes of length (big-endian), then JSON. A request is answered by frames of
`pages` and one that ends it: `done`, the document's page count (alone where that is too high), or
`error`, what LiteParse said. One with `look` is answered by `scanned` or `error`, one with `count`
by `counted`, the page count, or `error`.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import orjson

# The public wrapper copies every text item's box into Python objects and drops them again: a
# quarter of the time of a page. Its native class has the same call with the page texts alone.
from liteparse._liteparse import LiteParse

PAGES_PER_BATCH = 25
FRAME_CHARACTERS = 500_000
LOOK_PAGES = 20

_LENGTH = struct.Struct(">I")
_PR_SET_PDEATHSIG = 1
_DESCRIPTORS = Path("/proc/self/fd")
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_FIRST = "1000"


def main() -> None:
    """Serve until stdin ends."""
    settings = orjson.loads(sys.argv[1])
    inlet, outlet = _take_pipes()
    _die_with(settings["parent_pid"])
    _die_first()
    if settings["memory_limit_bytes"] is not None:
        limit = settings["memory_limit_bytes"]
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    name = _PdfName(Path(settings["link"]))
    parser = _new_parser(max_pages=settings["max_pages"] + 1)
    _send(outlet, {"ready": True})
    while (request := _receive(inlet)) is not None:
        # The alarm's default action ends the process in native code too, parent or no parent.
        signal.setitimer(signal.ITIMER_REAL, request["deadline_seconds"])
        for answer in _answers(parser, name, request):
            _send(outlet, answer)
        signal.setitimer(signal.ITIMER_REAL, 0)


class _PdfName:
    """A name that ends in .pdf, for one document after the other: blobs have no suffix.

    LiteParse goes by the name. Where a descriptor has one, the link is made once: to make and
    remove a file for each document slows down whoever makes files there, for minutes (ext4).
    """

    def __init__(self, link: Path) -> None:
        self._link = link
        self._nothing = os.open(os.devnull, os.O_RDONLY)
        self._document = os.dup(self._nothing)
        self._lasts = _DESCRIPTORS.is_dir()
        if self._lasts:
            link.symlink_to(_DESCRIPTORS / str(self._document))

    @contextmanager
    def given_to(self, path: str) -> Iterator[str]:
        """Lend the name; raise FileNotFoundError where there is no such document."""
        opened = os.open(path, os.O_RDONLY)
        os.dup2(opened, self._document)
        os.close(opened)
        if not self._lasts:
            self._link.symlink_to(path)
        try:
            yield str(self._link)
        finally:
            # A document that is held open takes up its place on the disk though it is deleted.
            os.dup2(self._nothing, self._document)
            if not self._lasts:
                self._link.unlink()


def _answers(parser: Any, name: _PdfName, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    try:
        with name.given_to(request["path"]) as path:
            if "look" in request:
                eye = LiteParse(max_pages=LOOK_PAGES, quiet=True)
                yield {"scanned": _has_no_text(eye.is_complex(path))}
                return
            session = parser.open_batch_session(path, PAGES_PER_BATCH)
            total = session.total_pages
            if "count" in request:
                yield {"counted": total}
                return
            if request["ranges"] is not None:
                yield from _chosen_frames(path, request["ranges"], total)
            elif total <= request["max_pages"]:
                while (batch := session.next_batch()) is not None:
                    yield from _page_frames(batch.result)
    except RuntimeError as error:
        yield {"error": str(error)}
    except FileNotFoundError:
        yield {"error": "file not found"}
    else:
        yield {"done": total}


def _new_parser(**settings: Any) -> Any:
    return LiteParse(
        output_format="markdown",
        ocr_enabled=False,
        image_mode="off",
        keep_headers_footers=True,
        continue_on_page_error=True,
        quiet=True,
        **settings,
    )


def _chosen_frames(
    path: str, ranges: Sequence[tuple[int, int]], total: int
) -> Iterator[dict[str, Any]]:
    """Parse some pages alone, a batch at a time: a session of LiteParse's gives them all."""
    numbers = [n for first, last in ranges for n in range(first, min(last, total) + 1)]
    for start in range(0, len(numbers), PAGES_PER_BATCH):
        batch = numbers[start : start + PAGES_PER_BATCH]
        parser = _new_parser(target_pages=",".join(map(str, batch)))
        yield from _page_frames(parser.parse(path))


def _has_no_text(pages: list[Any]) -> bool:
    """Tell a scan: `needs_ocr` is no sign of one, since it is true of short pages of text too."""
    return not any(page.text_length and not page.is_garbled for page in pages)


def _page_frames(result: Any) -> Iterator[dict[str, Any]]:
    """Cut a batch into frames that are small enough to decode on an event loop."""
    pages: list[tuple[int, str, str]] = []
    characters = 0
    for page in result.pages:
        text = page.text.strip("\n")
        blank = not text.strip()
        # A page without text comes as an empty fenced block.
        pages.append((page.page_num, "", "") if blank else (page.page_num, page.markdown, text))
        characters += len(page.markdown) + len(text)
        if characters > FRAME_CHARACTERS:
            yield {"pages": pages, "failed": []}
            pages, characters = [], 0
    yield {"pages": pages, "failed": [error.page_num for error in result.page_errors]}


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the pipes for frames alone: what native code prints goes to stderr."""
    inlet, outlet = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return inlet, outlet


def _die_with(parent_pid: int) -> None:
    """End with the parent, and leave signals that a terminal or init sends to all to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit(1)


def _die_first() -> None:
    """Be the one that is ended where memory runs out: a small PDF may ask for all that there is."""
    with suppress(OSError):
        # Where there is no such file, or no leave to write it, documents are parsed all the same.
        _OOM_SCORE.write_text(_FIRST)


def _receive(inlet: BinaryIO) -> dict[str, Any] | None:
    head = inlet.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    request: dict[str, Any] = orjson.loads(inlet.read(_LENGTH.unpack(head)[0]))
    return request


def _send(outlet: BinaryIO, answer: dict[str, Any]) -> None:
    body = orjson.dumps(answer)
    outlet.write(_LENGTH.pack(len(body)) + body)
    outlet.flush()


if __name__ == "__main__":
    main()
