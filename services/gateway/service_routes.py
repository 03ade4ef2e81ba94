"""Services over HTTP: the mode and the parsers' health; an operator's key sees all of it."""

from aiohttp import web

from services.gateway.answers import answer
from services.gateway.parts import PARTS
from services.keys import Key, Role
from services.service_report import read_services


async def show_services(request: web.Request, key: Key) -> web.Response:
    """Show the mode and how each parser does."""
    parts = request.app[PARTS]
    details = key.role is Role.OPERATOR
    body = await parts.tables.read(lambda tx: read_services(tx, parts.defaults, details=details))
    return answer(body)
