"""Media types: what is accepted, and what the first bytes decide."""

from pathlib import Path

import pytest

from schemas.errors import Code, PermanentError
from streams.media import HEAD_BYTES, sniff

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.mark.parametrize(
    ("name", "declared", "expected"),
    [
        ("report.pdf", None, "application/pdf"),
        ("report.pdf", "text/plain", "application/pdf"),
        ("report.pdf", "application/x-pdf; q=1", "application/pdf"),
        ("notes.md", None, "text/markdown"),
        ("notes.md", "application/octet-stream", "text/markdown"),
        ("notes.md", "text/plain; charset=utf-8", "text/plain"),
        ("table.csv", "", "text/csv"),
        ("table.csv", "Application/CSV", "text/csv"),
        ("letter.txt", "application/x-www-form-urlencoded", "text/plain"),
        ("latin1.txt", None, "text/plain"),
    ],
)
def test_samples_are_known_for_what_they_are(
    name: str, declared: str | None, expected: str
) -> None:
    head = (SAMPLES / name).read_bytes()[:HEAD_BYTES]
    assert sniff(head, declared, name) == expected


def test_text_without_name_and_declaration_is_plain_text() -> None:
    assert sniff(b"hello", None, None) == "text/plain"


def test_a_character_cut_by_the_heads_end_is_still_text() -> None:
    head = ("x" + "é" * HEAD_BYTES).encode()[:HEAD_BYTES]
    assert head[-1] == 0xC3
    assert sniff(head, None, None) == "text/plain"


def test_junk_before_the_header_of_a_pdf_is_allowed() -> None:
    assert sniff(b"junk\r\n" * 100 + b"%PDF-1.7\n", None, None) == "application/pdf"
    assert sniff(b"junk\r\n" * 100 + b"%PDF-1.7\n", "application/pdf", "a") == "application/pdf"


def test_a_text_may_quote_the_header_of_a_pdf() -> None:
    assert sniff(b"# A PDF begins with %PDF-1.7", None, "a.md") == "text/markdown"


@pytest.mark.parametrize(
    "head",
    [
        b"PK\x03\x04\x14\x00\x06\x00[Content_Types].xml",
        b"PK\x03\x04\x14\x00\x00\x00a.pdf%PDF-1.7",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        b"\xff\xd8\xff\xe0\x00\x10JFIF",
        b"GIF89a",
        b"MZ\x90\x00\x03",
        b"\x7fELF\x02\x01",
        b"\x1f\x8b\x08",
        b"{\\rtf1 hello}",
        b"text with a \x00 in it",
    ],
)
@pytest.mark.parametrize("declared", [None, "text/plain", "application/pdf", "text/csv"])
def test_binaries_are_refused_whatever_they_are_called(head: bytes, declared: str | None) -> None:
    with pytest.raises(PermanentError) as caught:
        sniff(head, declared, "innocent.txt")
    assert caught.value.code == Code.UNSUPPORTED_MEDIA_TYPE
    for accepted in ("application/pdf", "text/plain", "text/markdown", "text/csv"):
        assert accepted in caught.value.message


@pytest.mark.parametrize(
    ("head", "declared", "name", "code"),
    [
        (b"", "application/pdf", "a.pdf", Code.DOCUMENT_EMPTY),
        (b"hello", "application/pdf", None, Code.UNSUPPORTED_MEDIA_TYPE),
        (b"hello", None, "a.pdf", Code.UNSUPPORTED_MEDIA_TYPE),
        (b"<p>hello</p>", "text/html", None, Code.UNSUPPORTED_MEDIA_TYPE),
        (b"<p>hello</p>", None, "page.html", Code.UNSUPPORTED_MEDIA_TYPE),
        (b"Gr\xfc\xdfe", None, None, Code.UNSUPPORTED_MEDIA_TYPE),
        ("\ufeffhello".encode("utf-16-le"), "text/plain", None, Code.DOCUMENT_NOT_UTF8),
    ],
)
def test_what_is_refused_says_why(
    head: bytes, declared: str | None, name: str | None, code: Code
) -> None:
    with pytest.raises(PermanentError) as caught:
        sniff(head, declared, name)
    assert caught.value.code == code
