"""The verbs about webhooks: what one signs, another verifies, and a gateway takes."""

import asyncio
import io
import time
from pathlib import Path

import pytest

from schemas.ids import derived_id
from services.cli.terminal import CommandError
from services.cli.webhook_verbs import send_file, sign_file, verify_file
from services.config import load_settings
from services.webhook_sources import load_sources
from tests.webhook_desk import ENVELOPE, open_webhooks

FILE = """
[sources.standard]
scheme = "standard-webhooks"
secrets = [{secret = "whsec_AAECAwQFBgc="}]

[sources.old]
header = "X-Signature"
secrets = [{secret = "the old secret", expires = 2026-01-01T00:00:00Z}]

[sources.renewed]
header = "X-Signature"
secrets = [{secret = "the new secret"}, {secret = "the old secret", expires = 2026-01-01T00:00:00Z}]
"""


@pytest.fixture
def body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARSEWIRE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PARSEWIRE_WEBHOOK_FILE", str(tmp_path / "webhooks.toml"))
    (tmp_path / "webhooks.toml").write_text(FILE)
    (tmp_path / "body.json").write_bytes(ENVELOPE)
    return tmp_path / "body.json"


def signed(body: Path, capsys: pytest.CaptureFixture[str], source: str, scheme: str) -> list[str]:
    sign_file(body, source, scheme)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("source", "scheme", "names"),
    [
        ("llamaparse", "", ["LC-Signature"]),
        ("llamaparse", "x-webhook-signature", ["X-Webhook-Signature"]),
        ("standard", "", ["webhook-id", "webhook-timestamp", "webhook-signature"]),
    ],
)
def test_what_is_signed_verifies(
    body: Path, capsys: pytest.CaptureFixture[str], source: str, scheme: str, names: list[str]
) -> None:
    headers = signed(body, capsys, source, scheme)
    assert [line.partition(": ")[0] for line in headers] == names
    verify_file(body, headers, source)
    said = capsys.readouterr().err
    label = "the deployment's own secret" if source == "llamaparse" else "secret 1"
    assert said.startswith(f"good: {label} of {source}, by ")
    body.write_bytes(ENVELOPE + b"\n")
    with pytest.raises(CommandError, match=r"refused: no active secret signed this body"):
        verify_file(body, headers, source)


def test_why_something_is_refused(body: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sign_file(body, "standard", timestamp=int(time.time()) - 301)
    stale = capsys.readouterr().out.splitlines()
    for headers, source, why in (
        (stale, "standard", "signed too long ago"),
        (stale[:2], "standard", "no signature header"),
        (["X-Signature: 00"], "old", "no active secret: see docs"),
        (["no colon"], "old", "is no header"),
        ([], "nobody", "there is no source 'nobody': llamaparse, artifacts, standard"),
    ):
        with pytest.raises(CommandError, match=why):
            verify_file(body, headers, source)
    with pytest.raises(CommandError, match="old has no active secret"):
        sign_file(body, "old")
    with pytest.raises(CommandError, match="llamaparse has no scheme 'md5'"):
        sign_file(body, "llamaparse", "md5")
    with pytest.raises(CommandError, match="No such file"):
        sign_file(body.with_name("none"))


def test_an_expired_secret_is_named(body: Path) -> None:
    body.write_bytes(b"hello")
    # printf '%s' hello | openssl dgst -sha256 -hmac 'the old secret'
    headers = ["X-Signature: c14a1c72b767bc690bb0d14c8e4059a1add9d59da4d99b0007072c2e1c42eb9c"]
    with pytest.raises(CommandError, match="refused: secret 2 of renewed signed it, and has exp"):
        verify_file(body, headers, "renewed")


def test_a_body_from_stdin(
    body: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = signed(body, capsys, "llamaparse", "")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(ENVELOPE)))
    verify_file(Path("-"), headers)


async def test_what_is_sent_arrives(
    body: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = load_sources(load_settings())
    async with open_webhooks(tmp_path, *sources.values()) as desk:
        url = f"http://127.0.0.1:{desk.gateway.port}"
        for source in ("llamaparse", "standard"):
            await asyncio.to_thread(send_file, body, source, event_id="evt-7", url=url)
        assert [event.id for event, _ in desk.received()].count(
            derived_id("webhook", "llamaparse", "5b1c1d3e")
        ) == 1
        assert derived_id("webhook", "standard", "evt-7") in {e.id for e, _ in desk.received()}
        assert capsys.readouterr().out.count("202 {") == 2
        with pytest.raises(CommandError, match="artifacts has no active secret"):
            await asyncio.to_thread(send_file, body, "artifacts", url=url)
        desk.bus.set_away(True)
        with pytest.raises(CommandError, match=f"the gateway at {url} refused it"):
            await asyncio.to_thread(send_file, body, url=url)
    with pytest.raises(CommandError, match=f"{url}/api/v1/webhooks/llamaparse: "):
        await asyncio.to_thread(send_file, body, url=url)
