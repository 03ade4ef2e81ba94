"""The hosts that documents may be fetched from, and the addresses that are on that list."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.errors import Code, PermanentError

HTTPS_PORT = 443

_LONGEST_URL = 8192
_LONGEST_HOST = 253

_URL = re.compile(
    r"https://(?P<host>[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<rest>(?:[/?][!\"$-\[\]-~]*)?)(?:#[!-~]*)?",
    re.ASCII | re.IGNORECASE,
)
"""ASCII alone, and no user: what two readers of an address could understand differently is out."""

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""The last label of what resolvers take for an IPv4 address, in whatever notation."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address on the list; its path and query may be a secret (signed URLs)."""

    host: str
    port: int
    rest: str = field(repr=False)

    @property
    def url(self) -> str:
        """Give the address in its one spelling; path and query are as they were signed."""
        port = "" if self.port == HTTPS_PORT else f":{self.port}"
        return f"https://{self.host}{port}{self.rest}"


@dataclass(frozen=True, slots=True)
class _Entry:
    host: str
    port: int
    below: bool

    def holds(self, host: str, port: int) -> bool:
        if port != self.port:
            return False
        return host.endswith(f".{self.host}") if self.below else host == self.host


@dataclass(frozen=True, slots=True)
class FetchHosts:
    """The list; an empty one allows nothing. Make it with `read_fetch_hosts`."""

    entries: Sequence[_Entry] = ()

    def check(self, url: str) -> Address:
        """Read an address; raise PermanentError(URL_NOT_ALLOWED) unless it is on the list."""
        found = _URL.fullmatch(url) if len(url) <= _LONGEST_URL else None
        if found is None:
            raise _not_allowed(
                "the address is not https://HOST/PATH in plain ASCII, without a user"
            )
        host = _name(found["host"])
        port = int(found["port"] or HTTPS_PORT)
        if host is None:
            raise _not_allowed("the address names no host, or an IP address in place of one")
        if not any(entry.holds(host, port) for entry in self.entries):
            raise _not_allowed(f"{host}:{port} is not on the list")
        rest = found["rest"]
        return Address(host, port, rest if rest.startswith("/") else f"/{rest}")


def read_fetch_hosts(text: str) -> FetchHosts:
    """Read `a.example,*.b.example,c.example:8443`; raise ValueError, which names what is wrong.

    `*.` stands for every host below a name and not for the name itself; the port is 443 unless
    one is named.
    """
    return FetchHosts(tuple(_entry(part.strip()) for part in text.split(",") if part.strip()))


def _entry(text: str) -> _Entry:
    name, colon, port = text.partition(":")
    below = name.startswith("*.")
    host = _name(name.removeprefix("*.").lower())
    if host is None:
        raise ValueError(f"{text!r} is no host name: use 'docs.example.com' or '*.example.com'")
    if below and "." not in host:
        raise ValueError(f"{text!r} stands for half the world: name what is below it")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError(f"{text!r} has a port that cannot be")
    return _Entry(host, int(port) if colon else HTTPS_PORT, below)


def _name(text: str) -> str | None:
    """Give a host's name in its one spelling; None for what is none."""
    host = text.lower().removesuffix(".")
    labels = host.split(".")
    if len(host) > _LONGEST_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    return None if _NUMBER.fullmatch(labels[-1]) else host


def _not_allowed(why: str) -> PermanentError:
    return PermanentError(Code.URL_NOT_ALLOWED, why)
