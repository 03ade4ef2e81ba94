"""The alert hook: one POST to the operator's webhook, bounded in time and in what is read."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import ClientResponse, ClientSession
from yarl import URL

from streams.alert_sender import Answer
from streams.foreign_words import clean

CALL_SECONDS = 10.0

_ANSWER_LIMIT_BYTES = 4096
_WORDS_SECONDS = 1.0
_LONGEST_WORDS = 200


class AiohttpAlertHook:
    """Posts to one URL; make it with `open_alert_hook`."""

    def __init__(self, url: str, session: ClientSession, *, seconds: float) -> None:
        self._url = URL(url)
        self._session = session
        self._seconds = seconds

    async def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send it once; redirects are answers like any other, and not followed."""
        request = self._session.post(self._url, data=body, headers=headers, allow_redirects=False)
        try:
            async with asyncio.timeout(self._seconds), request as response:
                return Answer(response.status, await _words(response))
        except TimeoutError:
            return Answer(None, f"no answer in {self._seconds:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # By its kind alone: its text may hold the URL, and that a token.
            return Answer(None, f"no connection: {type(error).__name__}")


@asynccontextmanager
async def open_alert_hook(
    url: str, *, seconds: float = CALL_SECONDS
) -> AsyncIterator[AiohttpAlertHook]:
    """Lend a hook for this URL; a proxy or a .netrc of the environment is not looked at."""
    async with ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "parsewire", "Accept-Encoding": "identity"},
        # What is packed may be a thousand times larger once it is unpacked.
        auto_decompress=False,
        trust_env=False,
    ) as session:
        yield AiohttpAlertHook(url, session, seconds=seconds)


async def _words(response: ClientResponse) -> str:
    """Read the beginning of a refusal; its status counts, whatever becomes of its words."""
    if 200 <= response.status < 300:
        return ""
    try:
        async with asyncio.timeout(_WORDS_SECONDS):
            said = await response.content.read(_ANSWER_LIMIT_BYTES)
    except (TimeoutError, aiohttp.ClientError):
        return ""
    return clean(said.decode(errors="replace"), longest=_LONGEST_WORDS)
