# ruff: noqa: INP001  a script in a folder of documents, not a package
"""The script that makes the sample documents: `python -m samples.make_samples` at the root."""

import hashlib
import random
import struct
from pathlib import Path

from tests.pdfs import Image, build_pdf

HERE = Path(__file__).parent
BENCH = HERE.parent / "bench" / "documents"

PROSE = (
    "the harbour a buoy tide of salt and water measures every reading arrives late twice never "
    "lost pier lighthouse river north south slow bright morning count by hand before noon"
)

PASSWORD = "parsewire"  # noqa: S105  the sample's password is public
_PADDING = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
_PERMISSIONS = struct.pack("<i", -4)

REPORT = (
    (
        "# Harbour Water Report",
        "",
        "This report tells what the harbour's four buoys measured in the spring.",
        "Every buoy sends a reading each ten minutes; a reading that arrives twice",
        "is counted once, and one that arrives late still finds its place.",
        "",
        "## What was measured",
        "",
        "- Temperature of the water, one metre below the surface",
        "- Salinity, in grams of salt per kilogram of water",
        "- Height of the tide against the old harbour wall",
        "",
        "## Averages of the season",
        "",
        "|Buoy|Temperature|Salinity|",
        "|North pier|9.4 C|31.2 g/kg|",
        "|South pier|9.9 C|30.8 g/kg|",
        "|Lighthouse|8.7 C|33.5 g/kg|",
        "|River mouth|11.2 C|12.6 g/kg|",
    ),
    (
        "# What It Means",
        "",
        "The river brings warm, fresh water in April, when the snow of the hills melts.",
        "The lighthouse buoy lies outside the current and hardly notices it.",
        "",
        "## Two surprises",
        "",
        "On the third of April the south pier read 14.1 degrees for one hour: a ferry",
        "had left its cooling pump running. On the ninth of May the river mouth was",
        "silent from noon until midnight, and then sent all 72 readings at once.",
        "",
        "- None of these readings was lost",
        "- None was counted twice",
    ),
    (
        "# Outlook",
        "",
        "A fifth buoy will be laid beyond the lighthouse in autumn. Until then the",
        "figures for open water rest on a single instrument and should be read so.",
    ),
)

MIXED = (
    ("# Minutes", "", "Page one was typed, and has its text."),
    None,
    ("# Decisions", "", "Page three was typed again; page two was scanned."),
)

NOTES = """# Notes on the harbour

Plain **Markdown** goes through as it stands.

1. Take the bytes.
2. Keep the bytes.
3. Only then say so.

| buoy | depth |
| --- | --- |
| north | 4 m |
"""

TABLE = """buoy;temperature;remark
North pier;9,4;"calm; clear"
South pier;9,9;"ferry | pump"
Lighthouse;8,7
River mouth;11,2;"silent
until midnight"
"""

LETTER = """Dear harbour master,

the readings of May are complete; the river mouth was late, but nothing is missing.

Yours, the people of the lighthouse\N{EM DASH}all three of them.
\fPostscript

A form feed began this page.
"""

LATIN1 = "Grüße vom Leuchtturm, die Möwen lärmen.\n"

GLYPHS = {
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "C": "01110 10001 10000 10000 10000 10001 01110",
    "D": "11110 10001 10001 10001 10001 10001 11110",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "N": "10001 11001 10101 10011 10001 10001 10001",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "G": "01110 10001 10000 10111 10001 10001 01110",
    "S": "01111 10000 10000 01110 00001 00001 11110",
}


def scanned(words: str) -> Image:
    """Draw words as pixels, as a scanner would see them."""
    width, height, scale = 595, 842, 8
    pixels = bytearray(b"\xf8" * (width * height))
    for index, letter in enumerate(words):
        for row, bits in enumerate(GLYPHS.get(letter, "").split()):
            for column, bit in enumerate(bits):
                if bit == "1":
                    left = 56 + (index * 6 + column) * scale
                    for y in range(120 + row * scale, 120 + (row + 1) * scale):
                        pixels[y * width + left : y * width + left + scale] = b"\x10" * scale
    return Image(width, height, bytes(pixels))


def rc4(key: bytes, content: bytes) -> bytes:
    """Encrypt by RC4, which the oldest PDF readers speak."""
    box = list(range(256))
    j = 0
    for i in range(256):
        j = (j + box[i] + key[i % len(key)]) & 255
        box[i], box[j] = box[j], box[i]
    out = bytearray()
    i = j = 0
    for byte in content:
        i = (i + 1) & 255
        j = (j + box[i]) & 255
        box[i], box[j] = box[j], box[i]
        out.append(byte ^ box[(box[i] + box[j]) & 255])
    return bytes(out)


def encrypted(pages: list[list[str]], password: str, file_id: bytes) -> bytes:
    """Make a PDF that wants a user password: standard handler, revision 2 (ISO 32000-1, 7.6.3)."""
    padded = (password.encode() + _PADDING)[:32]
    owner = rc4(_md5(padded)[:5], padded)
    key = _md5(padded + owner + _PERMISSIONS + file_id)[:5]

    def seal(number: int, content: bytes) -> bytes:
        salt = struct.pack("<I", number)[:3] + b"\x00\x00"
        return rc4(_md5(key + salt)[:10], content)

    body = b"/Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s>" % (
        owner.hex().encode(),
        rc4(key, _PADDING).hex().encode(),
    )
    return build_pdf(pages, file_id=file_id, seal=seal, encryption=body)


def _md5(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


def dense(number: int) -> list[str]:
    """Fill a page as a report does: a heading, three sections of prose, bullets, a table."""
    rng = random.Random(number)  # noqa: S311  prose, not a secret
    words = PROSE.split()
    lines = [f"# Chapter {number}", ""]
    for section in range(1, 4):
        lines += [f"## Section {number}.{section}", ""]
        lines += [" ".join(rng.choices(words, k=13)).capitalize() for _ in range(7)]
        lines += [""]
    lines += [f"- {' '.join(rng.choices(words, k=6))}" for _ in range(3)]
    rows = [f"|{rng.choice(words)}|{rng.randrange(1000)}|{rng.random():.3f}|" for _ in range(4)]
    return [*lines, "", "|Name|Count|Share|", *rows]


def main() -> None:
    """Write every sample beside this script, and the documents of the bench."""
    for name, count in (("one-page.pdf", 1), ("ten-pages.pdf", 10)):
        pages = [dense(number) for number in range(1, count + 1)]
        (BENCH / name).write_bytes(build_pdf(pages, file_id=_md5(name.encode())))
    scan = scanned("SCANNED PAGE")
    report = build_pdf(REPORT, file_id=_md5(b"report"))
    mixed = build_pdf([page or scan for page in MIXED], file_id=_md5(b"mixed"))
    files = {
        "report.pdf": report,
        "scan.pdf": build_pdf([scan], file_id=_md5(b"scan")),
        "mixed.pdf": mixed,
        "encrypted.pdf": encrypted(
            [["# Sealed", "", "Nobody reads this without the password."]],
            PASSWORD,
            _md5(b"encrypted"),
        ),
        "broken.pdf": report[: len(report) // 2],
        "notes.md": NOTES.encode(),
        "table.csv": TABLE.encode(),
        "letter.txt": LETTER.encode(),
        "latin1.txt": LATIN1.encode("latin-1"),
    }
    for name, content in files.items():
        (HERE / name).write_bytes(content)


if __name__ == "__main__":
    main()
