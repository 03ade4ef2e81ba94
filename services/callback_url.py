"""The callback URL: whether LlamaCloud would call it, said before anybody waits for it."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from services.config import PREFIX, ConfigError, Settings

_PRIVATE_SUFFIXES = (
    *(".localhost", ".local", ".internal", ".lan", ".home", ".corp", ".intranet"),
    *(".home.arpa", ".test", ".invalid", ".example", ".onion"),
)
_ODD_ADDRESS = re.compile(r"(0x[0-9a-f]*|[0-9]+)")
"""The last label of what resolvers take for an IPv4 address in some other notation."""


def callback_url_problem(url: str, *, loopback_allowed: bool = False) -> str | None:
    """Say why LlamaCloud would refuse to call this URL; None where nothing speaks against it.

    Nothing is looked up: a public name that leads to a private address is not found out here.
    `loopback_allowed` is for a double of LlamaCloud on this machine: plain http is taken then.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
        port = parts.port
    except ValueError as error:
        return f"it is no URL: {error}"
    if not host or port == 0:
        return "it names no host" if not host else "port 0 cannot be called"
    if parts.scheme in ("http", "https") and loopback_allowed and is_loopback(host):
        return None
    if parts.scheme != "https":
        return "it must begin with https://"
    return _odd_part(parts) or _private_host(host)


def callback_problem(settings: Settings) -> str | None:
    """Say why LlamaCloud would refuse to call the gateway; None where nothing speaks against it."""
    try:
        vendor = urlsplit(settings.llamaparse_url).hostname or ""
    except ValueError:
        vendor = ""
    return callback_url_problem(settings.webhook_url, loopback_allowed=is_loopback(vendor))


def check_callback_url(settings: Settings) -> None:
    """Raise ConfigError when webhooks are asked for at a URL that LlamaCloud would refuse."""
    asked_for = settings.mode in ("real", "hybrid") and settings.remote_parser == "llamaparse"
    if not settings.webhook_url or not asked_for:
        return
    problem = callback_problem(settings)
    if problem is not None:
        raise ConfigError(
            f"{PREFIX}WEBHOOK_URL={settings.webhook_url!r}: LlamaCloud would not call it: "
            f"{problem}. Name the gateway's public https address, or leave it empty: results "
            "are polled for then."
        )


def callback_url(settings: Settings, source: str) -> str | None:
    """Give the URL at which a source's webhooks reach the gateway; None where they cannot."""
    if not settings.webhook_url:
        return None
    return f"{settings.webhook_url.rstrip('/')}/api/v1/webhooks/{source}"


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine by its very name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _odd_part(parts: SplitResult) -> str | None:
    if "@" in parts.netloc:
        return "it holds a user name or password"
    if parts.query or parts.fragment:
        return "it has a query or a fragment, and a path is put behind it"
    if any(ord(letter) <= 32 for letter in parts.geturl()):
        return "it holds a blank"
    return None


def _private_host(host: str) -> str | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _private_name(host)
    mapped = getattr(address, "ipv4_mapped", None) or address
    if mapped.is_loopback:
        return f"{host} is a loopback address"
    if not mapped.is_global or mapped.is_multicast:
        return f"{host} is a private or reserved address"
    return None


def _private_name(host: str) -> str | None:
    if host == "localhost" or host.endswith(".localhost"):
        return f"{host} is this machine"
    if _ODD_ADDRESS.fullmatch(host.rpartition(".")[2]):
        return f"{host} is an address in an odd notation"
    if "." not in host or host.endswith(_PRIVATE_SUFFIXES):
        return f"{host} is a private name"
    return None
