"""The pages that a self-hosted parser sent: its artifacts verified, and read into pages.

pages     JSON: [{"number": 1, "markdown": "...", "text": "..."}], numbers rising; it goes first
markdown  the whole document; `<!-- page N -->` on a line of its own begins page N, else one page
text      the whole document; a form feed stands between two pages
Of the same document, `text` is the plain text beside `markdown`. Other types are left aside.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
import orjson

from schemas.artifact_webhook import Artifact, ArtifactPage
from schemas.errors import Code, PermanentError
from streams.parsers.base import Page
from streams.results import PAGE_BREAK

T = TypeVar("T")

MOST_ARTIFACTS = 100

_SEPARATOR = re.compile(r"^<!-- page ([1-9][0-9]{0,5}) -->[ \t]*\r?$", re.MULTILINE)


def read_pages(artifacts: Any) -> list[Page]:
    """Give the pages; raise PermanentError(ARTIFACT_UNUSABLE) where there are none to be used."""
    found = verified(artifacts)
    if "pages" in found:
        pages = _from_json(found["pages"])
    elif "markdown" in found:
        pages = _from_markdown(found["markdown"], found.get("text"))
    elif "text" in found:
        pages = [_page(n, text, text) for n, text in _split_text(found["text"]).items()]
    else:
        raise unusable("there is neither pages nor markdown nor text among the artifacts")
    if not pages:
        raise unusable("the result has no pages")
    return pages


def verified(artifacts: Any) -> Mapping[str, str]:
    """Give each artifact's content by its type; all of them have the hash and size they say."""
    found: dict[str, str] = {}
    given = _convert(artifacts, list[Artifact], "artifacts")
    if len(given) > MOST_ARTIFACTS:
        raise unusable(f"there are more than {MOST_ARTIFACTS} artifacts")
    for number, artifact in enumerate(given):
        raw = artifact.content.encode()
        if len(raw) != artifact.size_bytes:
            raise unusable(
                f"artifact {number} has {len(raw)} bytes, and says {artifact.size_bytes}"
            )
        if hashlib.sha256(raw).hexdigest() != artifact.sha256.lower():
            raise unusable(f"artifact {number} has another sha256 than it says")
        if artifact.type in found:
            raise unusable(f"artifact {number} is the second of its type")
        found[artifact.type] = artifact.content
    return found


def unusable(why: str) -> PermanentError:
    """Say what is wrong with a result, without a word of it.

    Permanent, since what sent it would send the same again: somebody has to look at it first.
    """
    return PermanentError(Code.ARTIFACT_UNUSABLE, why)


def _from_json(content: str) -> list[Page]:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise unusable("the artifact of the type pages is no JSON") from None
    given = _convert(value, list[ArtifactPage], "pages")
    if not _rising([page.number for page in given]):
        raise unusable("the numbers of the pages do not rise")
    pages = []
    for page in given:
        markdown = page.text if page.markdown is None else page.markdown
        text = page.markdown if page.text is None else page.text
        pages.append(_page(page.number, markdown or "", text or ""))
    return pages


def _from_markdown(content: str, text: str | None) -> list[Page]:
    marked = _split_markdown(content)
    plain = _split_text(text) if text is not None else {}
    if len(marked) == 1 and text is not None:
        plain = dict.fromkeys(marked, text)
    # Text that is divided otherwise would put words on pages that do not have them.
    together = plain.keys() == marked.keys()
    return [_page(n, body, plain[n] if together else body) for n, body in marked.items()]


def _split_markdown(content: str) -> dict[int, str]:
    head, *rest = _SEPARATOR.split(content)
    numbers = [int(number) for number in rest[::2]]
    if not numbers or head.strip() or not _rising(numbers):
        return {1: content}
    return dict(zip(numbers, rest[1::2], strict=True))


def _split_text(content: str) -> dict[int, str]:
    return dict(enumerate(content.removesuffix(PAGE_BREAK).split(PAGE_BREAK), 1))


def _page(number: int, markdown: str, text: str) -> Page:
    """Make a page; a blank one has no text at all."""
    return Page(number, markdown.strip("\r\n"), text.strip("\r\n") if text.strip() else "")


def _rising(numbers: Sequence[int]) -> bool:
    return all(before < after for before, after in pairwise(numbers))


def _convert(value: Any, kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        # It tells places and types, and nothing that stands there.
        raise unusable(f"{what}: {str(error)[:200]}") from None
