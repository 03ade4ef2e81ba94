"""Media types: the closed list of accepted ones, and how a document's own is found out."""

from pathlib import PurePath

from schemas.errors import Code, PermanentError

PDF = "application/pdf"
PLAIN = "text/plain"
MARKDOWN = "text/markdown"
CSV = "text/csv"

ACCEPTED = (PDF, PLAIN, MARKDOWN, CSV)

TEXTS = frozenset({PLAIN, MARKDOWN, CSV})
"""What a parser elsewhere adds nothing to: it stays on this machine in every mode."""

HEAD_BYTES = 4096
"""How many of a document's first bytes `sniff` wants to see."""

_ALIASES = {
    "application/x-pdf": PDF,
    "text/x-markdown": MARKDOWN,
    "application/csv": CSV,
    "text/x-csv": CSV,
    "text/comma-separated-values": CSV,
    "text/tab-separated-values": CSV,
}

_SAYS_NOTHING = frozenset(
    {
        "",
        "application/octet-stream",
        "binary/octet-stream",
        # What curl says of a raw body when nobody told it more.
        "application/x-www-form-urlencoded",
    }
)

_SUFFIXES = {
    ".pdf": PDF,
    ".txt": PLAIN,
    ".text": PLAIN,
    ".log": PLAIN,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".csv": CSV,
    ".tsv": CSV,
}

_MAGICS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive (DOCX, XLSX, PPTX, ODT and EPUB are such)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an OLE2 file (DOC, XLS, PPT or MSG)"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"RIFF", "a RIFF file (WebP, WAV or AVI)"),
    (b"\x7fELF", "an executable"),
    (b"MZ\x90\x00", "an executable"),
    (b"\xca\xfe\xba\xbe", "an executable"),
    (b"\xcf\xfa\xed\xfe", "an executable"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh91AY&SY", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript document"),
)

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def sniff(head: bytes, declared: str | None, name: str | None) -> str:
    """Find the document's media type from its first bytes, what was declared, and its name.

    The bytes decide what they can decide; then the declaration, then the name's suffix. Raise
    PermanentError: DOCUMENT_EMPTY, DOCUMENT_NOT_UTF8 for UTF-16, else UNSUPPORTED_MEDIA_TYPE.
    """
    if not head:
        raise PermanentError(Code.DOCUMENT_EMPTY, "the document has no bytes")
    for magic, what in _MAGICS:
        if head.startswith(magic):
            raise _unsupported(f"the bytes are {what}")
    claimed = _claimed(declared, name)
    if _is_pdf(head, claimed):
        return PDF
    if claimed == PDF:
        raise _unsupported("said to be a PDF, but no %PDF- stands in its first 1024 bytes")
    if head.startswith(_UTF16_MARKS):
        raise PermanentError(Code.DOCUMENT_NOT_UTF8, "the text is UTF-16")
    if b"\x00" in head:
        raise _unsupported("the bytes are binary: there is a NUL among them")
    if claimed is None and not _is_utf8(head):
        raise _unsupported("no type was declared, and the bytes are not UTF-8 text")
    return claimed or PLAIN


def named(name: str) -> str:
    """Give the media type that a file's name tells of; `application/octet-stream` says nothing."""
    return _SUFFIXES.get(PurePath(name).suffix.lower(), "application/octet-stream")


def _claimed(declared: str | None, name: str | None) -> str | None:
    kind = (declared or "").partition(";")[0].strip().lower()
    kind = _ALIASES.get(kind, kind)
    if kind in ACCEPTED:
        return kind
    if kind not in _SAYS_NOTHING:
        raise _unsupported(f"{kind[:80]!r} was declared")
    suffix = PurePath(name or "").suffix.lower()
    if suffix and suffix not in _SUFFIXES:
        raise _unsupported(f"nothing was declared, and the name ends in {suffix[:20]!r}")
    return _SUFFIXES.get(suffix)


def _is_pdf(head: bytes, claimed: str | None) -> bool:
    """Look for the header where readers look (ISO 32000-1, annex H.3, note 13)."""
    at = head[:1024].find(b"%PDF-")
    # A text about PDF may quote the header; a PDF that was called text begins with it.
    return at == 0 or (at > 0 and (claimed in (None, PDF) or b"\x00" in head))


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # The head may end inside a character.
        return error.end == len(head) and len(head) - error.start < 4 and len(head) >= HEAD_BYTES
    return True


def _unsupported(why: str) -> PermanentError:
    return PermanentError(
        Code.UNSUPPORTED_MEDIA_TYPE, f"{why}; accepted are: {', '.join(ACCEPTED)}"
    )
