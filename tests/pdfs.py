"""A small PDF writer: text pages from a line markup, image pages, optionally sealed.

Line markup: `# ` and `## ` are headings, `- ` a bullet, `|a|b|` a row of a ruled table, an empty
line a gap, anything else a line of text. Base-14 Helvetica, so nothing is embedded.
"""

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

WIDTH, HEIGHT, MARGIN = 595, 842, 56
COLUMN = 150

Seal = Callable[[int, bytes], bytes]
"""Encrypts one stream, given the number of its object."""


@dataclass(frozen=True, slots=True)
class Image:
    """A page that is nothing but a picture: 8-bit grey pixels, row by row."""

    width: int
    height: int
    pixels: bytes


def text_pdf(lines_per_page: Sequence[Sequence[str]], unique: str) -> bytes:
    """Make a text PDF; every page ends with `unique`, so no two documents have the same bytes."""
    pages = [[*lines, "", unique] for lines in lines_per_page]
    return build_pdf(pages, file_id=hashlib.md5(unique.encode()).digest())


def stamped(pdf: bytes, unique: str) -> bytes:
    """Give the same document other bytes: a comment after its end."""
    return pdf + f"% {unique}\n".encode()


def build_pdf(
    pages: Sequence[Sequence[str] | Image],
    *,
    file_id: bytes,
    seal: Seal | None = None,
    encryption: bytes | None = None,
) -> bytes:
    """Write the pages as PDF 1.4; `encryption` is the body of the trailer's Encrypt dictionary."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        _font("Helvetica"),
        _font("Helvetica-Bold"),
    ]
    kids = [_add_page(objects, page, seal) for page in pages]
    refs = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), refs)
    extra = b""
    if encryption is not None:
        objects.append(b"<< %s >>" % encryption)
        extra = b" /Encrypt %d 0 R" % len(objects)
    return _assemble(objects, file_id, extra)


def _font(base: str) -> bytes:
    font = f"<< /Type /Font /Subtype /Type1 /BaseFont /{base} /Encoding /WinAnsiEncoding >>"
    return font.encode()


def _assemble(objects: list[bytes], file_id: bytes, extra: bytes) -> bytes:
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets: list[int] = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for offset in offsets:
        out += b"%010d 00000 n \n" % offset
    identity = file_id.hex().encode()
    out += b"trailer\n<< /Size %d /Root 1 0 R /ID [<%s> <%s>]%s >>\n" % (
        len(objects) + 1,
        identity,
        identity,
        extra,
    )
    out += b"startxref\n%d\n%%%%EOF\n" % start
    return bytes(out)


def _add_page(objects: list[bytes], page: Sequence[str] | Image, seal: Seal | None) -> int:
    if isinstance(page, Image):
        head = b"/Type /XObject /Subtype /Image /ColorSpace /DeviceGray /BitsPerComponent 8"
        head += b" /Width %d /Height %d /Filter /FlateDecode" % (page.width, page.height)
        image = _add_stream(objects, head, zlib.compress(page.pixels, 9), seal)
        content = _add_stream(objects, b"", b"q %d 0 0 %d 0 0 cm /I Do Q" % (WIDTH, HEIGHT), seal)
        resources = b"/XObject << /I %d 0 R >>" % image
    else:
        content = _add_stream(objects, b"", _draw(tuple(page)), seal)
        resources = b"/Font << /R 3 0 R /B 4 0 R >>"
    objects.append(
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents %d 0 R"
        b" /Resources << %s >> >>" % (WIDTH, HEIGHT, content, resources)
    )
    return len(objects)


def _add_stream(objects: list[bytes], head: bytes, content: bytes, seal: Seal | None) -> int:
    number = len(objects) + 1
    body = content if seal is None else seal(number, content)
    objects.append(b"<< %s /Length %d >>\nstream\n%s\nendstream" % (head, len(body), body))
    return number


@lru_cache(maxsize=64)
def _draw(lines: tuple[str, ...]) -> bytes:
    """Lay the lines out from the page's top; raise ValueError when they do not fit."""
    out: list[bytes] = []
    y = HEIGHT - MARGIN
    for line in lines:
        if y < MARGIN:
            raise ValueError(f"{len(lines)} lines do not fit on one page")
        if line.startswith("|"):
            y -= 20
            _draw_row(out, line.strip("|").split("|"), y)
        elif line.startswith("# "):
            y -= 34
            out.append(_run("B", 22, MARGIN, y, line[2:]))
            y -= 8
        elif line.startswith("## "):
            y -= 26
            out.append(_run("B", 15, MARGIN, y, line[3:]))
            y -= 6
        elif line.startswith("- "):
            y -= 15
            out.append(_run("R", 11, MARGIN + 12, y, "\u2022 " + line[2:]))
        elif line:
            y -= 15
            out.append(_run("R", 11, MARGIN, y, line))
        else:
            y -= 12
    return b"\n".join(out)


def _draw_row(out: list[bytes], cells: Sequence[str], y: int) -> None:
    for index, cell in enumerate(cells):
        x = MARGIN + index * COLUMN
        out.append(b"%d %d %d 20 re S" % (x, y - 6, COLUMN))
        out.append(_run("R", 11, x + 5, y, cell.strip()))


def _run(font: str, size: int, x: int, y: int, text: str) -> bytes:
    raw = text.encode("cp1252", "replace")
    for mark in (b"\\", b"(", b")"):
        raw = raw.replace(mark, b"\\" + mark)
    return b"BT /%s %d Tf %d %d Td (%s) Tj ET" % (font.encode(), size, x, y, raw)
