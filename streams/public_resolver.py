"""A resolver of host names that gives public addresses, which are the ones connected to."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor

from aiohttp.abc import AbstractResolver, ResolveResult

from schemas.errors import Code, PermanentError
from streams.public_addresses import is_public

LookUp = Callable[[str], Awaitable[Sequence[str]]]
"""Gives the addresses of a host; raises OSError."""

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def look_up_in(threads: Executor) -> LookUp:
    """Give what asks the system for a host's addresses, each of them once, in these threads.

    A name server that does not answer holds a thread for half a minute: let it be nobody else's.
    """

    async def look_up(host: str) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, _addresses, host)

    return look_up


class PublicResolver(AbstractResolver):
    """Refuses a host if any of its addresses is not public; raises URL_ADDRESS_PRIVATE then.

    The connector goes to the addresses that it is given and asks nobody again, so a name that
    leads elsewhere a moment later leads nowhere.
    """

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp's signature
    ) -> list[ResolveResult]:
        """Look the host up once, and give its addresses if all of them are public."""
        addresses = await self._look_up(host)
        # One of several is enough: whoever owns the name decides which of them answers.
        if not all(is_public(address) for address in addresses):
            raise PermanentError(
                Code.URL_ADDRESS_PRIVATE, f"{host} leads to an address that is not public"
            )
        if not addresses:
            raise OSError(f"{host} has no address")
        return [_result(host, port, address) for address in addresses]

    async def close(self) -> None:
        """Hold nothing, so close nothing."""


def _addresses(host: str) -> Sequence[str]:
    found = socket.getaddrinfo(
        host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_ADDRCONFIG
    )
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _result(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=0, flags=_NUMERIC
    )
