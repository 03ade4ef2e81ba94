"""The router: hands each document to the first parser that accepts its media type."""

from collections.abc import Sequence

from schemas.errors import Code, PermanentError
from streams.parsers.base import Document, Parsed, Parser


class Router:
    """A parser made of parsers, in order of preference; the result names the one that served."""

    name = "router"
    version = "1"

    def __init__(self, parsers: Sequence[Parser]) -> None:
        self._parsers = tuple(parsers)

    def accepts(self, media_type: str) -> bool:
        """Tell whether any of its parsers reads this media type."""
        return any(parser.accepts(media_type) for parser in self._parsers)

    def choose(self, media_type: str) -> Parser:
        """Name the parser that would serve; raise PermanentError(UNSUPPORTED_MEDIA_TYPE)."""
        for parser in self._parsers:
            if parser.accepts(media_type):
                return parser
        raise PermanentError(
            Code.UNSUPPORTED_MEDIA_TYPE, f"no parser of this deployment reads {media_type}"
        )

    async def parse(self, document: Document) -> Parsed:
        """Parse with the chosen parser; its failure is the document's, there is no second try."""
        return await self.choose(document.media_type).parse(document)
