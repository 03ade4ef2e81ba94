"""The verbs about webhooks: `sign`, `send` and `verify`, by the sources that are configured."""

import asyncio
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import aiohttp
import orjson
import typer

from schemas.signature_scheme import Scheme
from schemas.signatures import Refusal, sign
from schemas.webhook_source import Credential, Source
from services.cli.client import API
from services.cli.run_file import find_gateway
from services.cli.terminal import OUT, CommandError, say
from services.config import load_settings
from services.webhook_sources import load_sources

WEBHOOK = typer.Typer(help="Sign, send and verify webhooks.", no_args_is_help=True)

_SEND_SECONDS = 60.0
_WHY = {
    Refusal.UNCONFIGURED: "the source has no active secret: see docs/webhooks.md",
    Refusal.NO_SIGNATURE: "there is no signature header",
    Refusal.MALFORMED: "a header is missing, repeated or not of the scheme's form",
    Refusal.STALE: "it was signed too long ago, or a clock is wrong",
    Refusal.FUTURE: "it was signed in the future: a clock is wrong",
    Refusal.MISMATCH: "no active secret signed this body: not one byte of it may change",
}

File = Annotated[Path, typer.Argument(help="The body; - is stdin.", metavar="FILE")]
SourceName = Annotated[str, typer.Option("--source", help="The source.")]
SchemeName = Annotated[str, typer.Option("--scheme", help="One of its schemes; empty: the first.")]
EventId = Annotated[str, typer.Option("--id", help="The event's id; empty: a new one.")]
Timestamp = Annotated[int | None, typer.Option(help="Unix seconds; nothing: now.")]


@WEBHOOK.command("sign")
def sign_file(
    file: File,
    source: SourceName = "llamaparse",
    scheme: SchemeName = "",
    event_id: EventId = "",
    timestamp: Timestamp = None,
) -> None:
    """Print the headers that prove a body, with the source's first active secret."""
    for name, value in _signed(_body(file), _source(source), scheme, event_id, timestamp):
        OUT.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=True)


@WEBHOOK.command("send")
def send_file(
    file: File,
    source: SourceName = "llamaparse",
    scheme: SchemeName = "",
    event_id: EventId = "",
    timestamp: Timestamp = None,
    url: Annotated[str, typer.Option(help="The gateway; empty: the configured one.")] = "",
) -> None:
    """Sign a body and send it to the gateway, as the vendor would."""
    body, found = _body(file), _source(source)
    headers = dict(_signed(body, found, scheme, event_id, timestamp))
    headers["Content-Type"] = found.content_types[0]
    if event_id and found.id_header not in headers:
        headers[found.id_header] = event_id
    target = (url or find_gateway(load_settings())).rstrip("/")
    status, answer = asyncio.run(_send(f"{target}{API}/webhooks/{source}", body, headers))
    OUT.print(f"{status} {answer}", markup=False, highlight=False, soft_wrap=True)
    if status != 202:
        raise CommandError(f"the gateway at {target} refused it: its log says why")


@WEBHOOK.command("verify")
def verify_file(
    file: File,
    header: Annotated[
        list[str], typer.Option("--header", "-H", help="`Name: value`, as often as needed.")
    ],
    source: SourceName = "llamaparse",
) -> None:
    """Say which secret signed a body and its headers, or why none did."""
    body, found = _body(file), _source(source)
    headers = [_header(line) for line in header]
    now = time.time()
    outcome = found.verify(headers, body, now)
    if isinstance(outcome, Credential):
        event_id, subject = found.event_of(outcome.scheme, headers, body)
        say(f"good: {outcome.label} of {source}, by {outcome.scheme.name}")
        say(f"event {event_id}, subject {subject}")
        return
    lasting = tuple(replace(c, expires_at=None) for c in found.credentials)
    expired = replace(found, credentials=lasting).verify(headers, body, now)
    if isinstance(expired, Credential):
        raise CommandError(f"refused: {expired.label} of {source} signed it, and has expired")
    raise CommandError(f"refused: {_WHY[outcome]} ({outcome})")


def _source(name: str) -> Source:
    sources = load_sources(load_settings())
    if name not in sources:
        raise CommandError(f"there is no source {name!r}: {', '.join(sources)}")
    return sources[name]


def _signed(
    body: bytes, source: Source, scheme_name: str, event_id: str, timestamp: int | None
) -> tuple[tuple[str, str], ...]:
    now = time.time()
    scheme = _scheme(source, scheme_name)
    active = [c for c in source.credentials if c.scheme is scheme and c.active(now)]
    if not active:
        raise CommandError(f"{source.name} has no active secret: see docs/webhooks.md")
    return sign(
        scheme,
        active[0].key,
        body,
        event_id=event_id or f"msg_{uuid.uuid4().hex}",
        unix_seconds=int(now) if timestamp is None else timestamp,
    )


def _scheme(source: Source, name: str) -> Scheme:
    for scheme in source.schemes:
        if name in ("", scheme.name):
            return scheme
    raise CommandError(f"{source.name} has no scheme {name!r}: {[s.name for s in source.schemes]}")


def _body(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from None


def _header(line: str) -> tuple[str, bytes]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise CommandError(f"{line!r} is no header: write `Name: value`")
    return name.strip().lower(), value.strip().encode()


async def _send(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    timeout = aiohttp.ClientTimeout(total=_SEND_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=body, headers=headers) as response,
        ):
            return response.status, _one_line(await response.read())
    except (aiohttp.ClientError, TimeoutError) as error:
        raise CommandError(f"{url}: {error or type(error).__name__}") from None


def _one_line(raw: bytes) -> str:
    try:
        return orjson.dumps(orjson.loads(raw)).decode()
    except orjson.JSONDecodeError:
        return raw.decode(errors="replace")
