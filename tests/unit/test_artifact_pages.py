"""The pages that a self-hosted parser sends: every form, and what is wrong with the others."""

from typing import Any

import orjson
import pytest

from schemas.artifact_webhook import ArtifactWebhook, read_artifact_webhook
from schemas.errors import Code, PermanentError
from streams.artifact_pages import read_pages
from streams.parsers.base import Page
from tests.doubles.callback_service import artifact

MARKED = "<!-- page 1 -->\n\n# One\n\n<!-- page 3 -->\n\nThree\n"


def pages(*entries: dict[str, Any]) -> dict[str, Any]:
    return artifact("pages", orjson.dumps(list(entries)).decode())


@pytest.mark.parametrize(
    ("artifacts", "expected"),
    [
        ([artifact("markdown", "# One\n")], [Page(1, "# One", "# One")]),
        ([artifact("markdown", MARKED)], [Page(1, "# One", "# One"), Page(3, "Three", "Three")]),
        (
            [artifact("markdown", MARKED.replace("\n", "\r\n"))],
            [Page(1, "# One", "# One"), Page(3, "Three", "Three")],
        ),
        # A head before the first mark, and numbers that fall, are somebody's own text.
        ([artifact("markdown", "x\n<!-- page 1 -->")], [Page(1, *["x\n<!-- page 1 -->"] * 2)]),
        (
            [artifact("markdown", "<!-- page 2 -->\na\n<!-- page 1 -->\nb")],
            [Page(1, *["<!-- page 2 -->\na\n<!-- page 1 -->\nb"] * 2)],
        ),
        ([artifact("text", "one\n\ftwo\n")], [Page(1, "one", "one"), Page(2, "two", "two")]),
        ([artifact("text", "one\f \f")], [Page(1, "one", "one"), Page(2, " ", "")]),
        (
            [artifact("markdown", "# \u00dcber"), artifact("text", "\u00dcber")],
            [Page(1, "# \u00dcber", "\u00dcber")],
        ),
        (
            [
                artifact("markdown", "<!-- page 1 -->\n**a**\n<!-- page 2 -->\n**b**"),
                artifact("text", "a\fb"),
            ],
            [Page(1, "**a**", "a"), Page(2, "**b**", "b")],
        ),
        # Text that is divided otherwise is not put beside the pages.
        (
            [artifact("markdown", MARKED), artifact("text", "one\fthree")],
            [Page(1, "# One", "# One"), Page(3, "Three", "Three")],
        ),
        (
            [
                pages(
                    {"number": 2, "markdown": "# b", "text": "b", "boxes": []},
                    {"number": 5, "text": "e"},
                    {"number": 6, "markdown": "# f"},
                    {"number": 7},
                ),
                artifact("markdown", "something else"),
                artifact("image/png", "aGk="),
            ],
            [Page(2, "# b", "b"), Page(5, "e", "e"), Page(6, "# f", "# f"), Page(7, "", "")],
        ),
        (
            [
                artifact(
                    "text",
                    "a",
                    sha256="CA978112CA1BBDCAFAC231B39A23DC4DA786EFF8147C4E72B9807785AFEE48BB",
                )
            ],
            [Page(1, "a", "a")],
        ),
    ],
)
def test_each_form_gives_its_pages(artifacts: list[Any], expected: list[Page]) -> None:
    assert read_pages(artifacts) == expected


@pytest.mark.parametrize(
    ("artifacts", "says"),
    [
        (None, "artifacts: Expected `array`, got `null`"),
        ([], "neither pages nor markdown nor text"),
        ([artifact("image/png", "aGk=")], "neither pages nor markdown nor text"),
        ([artifact("markdown", "secret", sha256="0" * 64)], "artifact 0 has another sha256"),
        ([artifact("markdown", "secret", sha256="")], "artifact 0 has another sha256"),
        ([artifact("markdown", "secret", bytes=7)], "artifact 0 has 6 bytes, and says 7"),
        ([artifact("markdown", "\u00fc", bytes=1)], "artifact 0 has 2 bytes, and says 1"),
        ([artifact("markdown", "a"), artifact("image/png", "b", bytes=9)], "artifact 1 has 1"),
        ([artifact("text", "a"), artifact("text", "b")], "artifact 1 is the second of its type"),
        ([artifact("text", "a")] * 101, "more than 100 artifacts"),
        ([{"type": "text", "content": "secret"}], "missing required field `sha256`"),
        ([artifact("text", "secret") | {"content": 5}], "Expected `str`, got `int`"),
        ([artifact("pages", "secret")], "of the type pages is no JSON"),
        ([artifact("pages", "{}")], "pages: Expected `array`, got `object`"),
        ([artifact("pages", "[]")], "the result has no pages"),
        ([pages({"number": 0})], "pages: Expected `int` >= 1"),
        ([pages({"number": 1}, {"number": 1})], "the numbers of the pages do not rise"),
        ([pages({"number": 2}, {"number": 1})], "the numbers of the pages do not rise"),
        ([pages({"number": 1, "markdown": ["secret"]})], "Expected `str | null`, got `array`"),
    ],
)
def test_a_result_that_cannot_be_used_is_named_without_a_word_of_it(
    artifacts: Any, says: str
) -> None:
    with pytest.raises(PermanentError) as caught:
        read_pages(artifacts)
    assert caught.value.code is Code.ARTIFACT_UNUSABLE
    assert says in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("given_id", "attempt"),
    [
        (None, None),
        ("1", 1),
        (7, 7),
        ("07", 7),
        ("", 0),
        ("-1", 0),
        ("x", 0),
        (True, 0),
        (1.0, 0),
        ("9" * 30, 0),
        ("\u0663", 0),
        ([], 0),
    ],
)
def test_the_attempt_is_a_number(given_id: Any, attempt: int | None) -> None:
    sent = ArtifactWebhook("j", "d", "parsed", correlation_id=given_id)
    assert sent.attempt() == attempt


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b"null", b"\xff", b'"{}"', b"[" * 5000, b'{"job_id":"\\ud800"}'),
        b'{"job_id": "a", "document_id": "b"}',
        b'{"job_id": "a", "document_id": "b", "status": "done"}',
        b'{"job_id": 1, "document_id": "b", "status": "parsed"}',
        b'{"document_id": "b", "status": "parsed"}',
    ],
)
def test_what_is_no_webhook_of_ours_is_not_read(body: bytes) -> None:
    assert read_artifact_webhook(body) is None
