"""The self-hosted parser's settings: whether they hang together, said before anybody waits."""

import asyncio
import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from services.config import PREFIX, ConfigError, Settings
from services.doctor import Check, Finding, fail, ok

_NAME = "self-hosted parser"
_LEAST_LETTERS = 16
_CONNECT_SECONDS = 5.0
_PRIVATE_SUFFIXES = (".local", ".internal", ".lan", ".home.arpa", ".localhost")


def check_self_hosted(settings: Settings) -> None:
    """Raise ConfigError, a line for each setting that keeps documents or results from arriving."""
    lines = list(_problems(settings))
    if lines:
        raise ConfigError("\n".join(lines))


def self_hosted_checks(settings: Settings) -> list[Check]:
    """List the doctor's checks: the settings, and whether somebody listens; nothing is sent."""

    async def look() -> Sequence[Finding]:
        check_self_hosted(settings)
        parts = urlsplit(settings.callback_parser_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(parts.hostname, port)
        except (OSError, TimeoutError):
            what = f"nobody answers at {parts.hostname}:{port}"
            return [fail(_NAME, what, f"Start it, or correct {PREFIX}CALLBACK_PARSER_URL.")]
        writer.close()
        return [ok(_NAME, f"somebody listens at {parts.hostname}:{port}")]

    return [Check(_NAME, look)] if settings.callback_parser_url else []


def service_url_problem(url: str) -> str | None:
    """Say why documents cannot be sent to this URL; None where nothing speaks against it.

    Plain http is for one's own network: loopback and private addresses, and names without a dot
    or under a private suffix. Nothing is looked up.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        return f"it is no URL: {error}"
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return "it must be http(s)://host[:port]/path"
    if "@" in parts.netloc or parts.fragment or any(ord(letter) <= 32 for letter in url):
        return "it holds a user name, a fragment or a blank"
    if parts.scheme == "http" and not _own_network(host):
        return "plain http is for one's own network: it must begin with https://"
    return None


def _problems(settings: Settings) -> list[str]:
    url, secret = settings.callback_parser_url, settings.callback_parser_secret
    if not url:
        return []
    found = []
    problem = service_url_problem(url)
    if problem is not None:
        found.append(f"{PREFIX}CALLBACK_PARSER_URL={url!r}: {problem}")
    if secret is None or len(secret.get_secret_value()) < _LEAST_LETTERS:
        found.append(
            f"{PREFIX}CALLBACK_PARSER_SECRET must have {_LEAST_LETTERS} letters at least: it signs "
            "what is sent to the parser, and what comes back"
        )
    if not settings.webhook_url:
        found.append(
            f"{PREFIX}CALLBACK_PARSER_URL needs {PREFIX}WEBHOOK_URL, the gateway's address as the "
            "parser sees it: results come by webhook alone"
        )
    return found


def _own_network(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.lower()
        return ("." not in name and not name.isdigit()) or name.endswith(_PRIVATE_SUFFIXES)
    return address.is_private and not address.is_unspecified
