"""The router: chooses the parser of a document, the first that accepts its media type."""

from collections.abc import Sequence

from schemas.errors import Code, PermanentError
from streams.parsers.base import Parser


class Router:
    """Parsers in order of preference."""

    def __init__(self, parsers: Sequence[Parser]) -> None:
        self._parsers = tuple(parsers)

    def choose(self, media_type: str) -> Parser:
        """Give the parser that serves; raise PermanentError(UNSUPPORTED_MEDIA_TYPE)."""
        for parser in self._parsers:
            if parser.accepts(media_type):
                return parser
        raise PermanentError(
            Code.UNSUPPORTED_MEDIA_TYPE, f"no parser of this deployment reads {media_type}"
        )
