"""What the environment says of the settings that can be changed at run time."""

from services.config import Settings
from streams.settings import Defaults
from streams.token_bucket import Rate

LLAMAPARSE = "llamaparse"
CALLBACK = "callback"
"""Accounts' names in limits, circuits and metrics: their parsers' own."""

_LOCAL_PARSERS = ("liteparse", "text")


def defaults_of(settings: Settings) -> Defaults:
    """Give the defaults; an account is among them where its key is configured, and not empty."""
    rates: dict[str, Rate] = {}
    if settings.llamaparse_api_key:
        rates[LLAMAPARSE] = Rate(settings.llamaparse_requests_per_minute, settings.llamaparse_burst)
    if settings.callback_parser_url:
        per_minute = settings.callback_parser_requests_per_minute
        rates[CALLBACK] = Rate(per_minute, settings.callback_parser_burst)
    return Defaults(
        mode=settings.mode,
        production=settings.env == "production",
        rates=rates,
        local_parsers=_LOCAL_PARSERS,
        remote_parser=settings.remote_parser,
    )
