"""Expectations: what becomes of an `Expect` header that nobody's route looks at."""

from aiohttp import web
from aiohttp.web_urldispatcher import UrlMappingMatchInfo


class OddExpectations(web.DynamicResource):
    """Answers 417 at every path that is no route's own, where aiohttp itself would break.

    Its own check quotes the header, and fails with 500 when that is not UTF-8.
    """

    def __init__(self) -> None:
        super().__init__("/{path:.*}")
        self.add_route("*", _refuse, expect_handler=expect_nothing)

    async def resolve(self, request: web.Request) -> tuple[UrlMappingMatchInfo | None, set[str]]:
        """Match requests with such a header alone; 404 and 405 stay aiohttp's."""
        if request.headers.get("Expect", "100-continue").lower() == "100-continue":
            return None, set()
        return await super().resolve(request)


async def expect_nothing(_request: web.Request) -> None:
    """Leave `100 Continue` to the handler: a body that is refused need not be sent."""


async def _refuse(_request: web.Request) -> web.Response:
    raise web.HTTPExpectationFailed
