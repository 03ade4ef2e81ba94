"""Stamps: the same document with other bytes, as many times as are asked for."""

from pathlib import Path

DOCUMENTS = Path(__file__).parent / "documents"
ONE_PAGE = DOCUMENTS / "one-page.pdf"
TEN_PAGES = DOCUMENTS / "ten-pages.pdf"


def stamped_copy(document: bytes, stamp: str, number: int, pad_to_bytes: int = 0) -> bytes:
    """Put a comment of a fixed length after the document's end, and fill it up to a size."""
    comment = f"% {stamp}-{number:08d}".encode()
    padding = b"." * max(0, pad_to_bytes - len(document) - len(comment) - 1)
    return document + comment + padding + b"\n"
