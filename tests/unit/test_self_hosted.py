"""The self-hosted parser's settings: what goes together, what is missing, which URLs will do."""

import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from schemas.webhook_source import ARTIFACTS
from services.config import ConfigError, Settings, load_settings
from services.defaults import defaults_of
from services.doctor import examine
from services.self_hosted import check_self_hosted, self_hosted_checks, service_url_problem
from services.webhook_sources import load_sources
from streams.token_bucket import Rate

SECRET = "sixteen letters."


def settings_of(**changes: Any) -> Settings:
    given: dict[str, Any] = {
        "remote_parser": "callback",
        "mode": "real",
        "callback_parser_url": "http://parser:9000/parse",
        "callback_parser_secret": SecretStr(SECRET),
        "webhook_url": "http://gateway:8080",
    }
    return Settings(**(given | changes))


@pytest.mark.parametrize(
    "url",
    [
        "https://parser.example.org/parse?model=1",
        "http://127.0.0.1:9000/parse",
        "http://[::1]:9000/",
        "http://10.1.2.3/parse",
        "http://192.168.0.9",
        "http://localhost:9000",
        "http://parser:9000/parse",
        "http://parser.internal",
    ],
)
def test_https_and_ones_own_network_will_do(url: str) -> None:
    assert service_url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://parser.example.org/parse", "must begin with https://"),
        ("http://8.8.8.8/", "must begin with https://"),
        ("http://0.0.0.0/", "must begin with https://"),
        ("http://2130706433/", "must begin with https://"),
        ("ftp://parser/", "must be http(s)://host"),
        ("parser:9000", "must be http(s)://host"),
        ("http://", "must be http(s)://host"),
        ("http://[::1", "it is no URL"),
        ("http://parser:99999/", "it is no URL"),
        ("https://me:pass@parser.example.org/", "a user name"),
        ("https://parser.example.org/a b", "a blank"),
        ("https://parser.example.org/#x", "a fragment"),
    ],
)
def test_other_urls_are_refused_with_the_reason(url: str, problem: str) -> None:
    assert problem in (service_url_problem(url) or "")


def test_what_hangs_together_is_taken() -> None:
    check_self_hosted(settings_of())
    check_self_hosted(settings_of(mode="local"))
    check_self_hosted(Settings())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"callback_parser_secret": None}, "CALLBACK_PARSER_SECRET must have 16 letters"),
        ({"callback_parser_secret": SecretStr("short")}, "CALLBACK_PARSER_SECRET must have"),
        ({"webhook_url": ""}, "CALLBACK_PARSER_URL needs PARSEWIRE_WEBHOOK_URL"),
        ({"callback_parser_url": "http://example.org"}, "CALLBACK_PARSER_URL='http://example"),
        ({"mode": "local", "webhook_url": ""}, "results come by webhook alone"),
    ],
)
def test_what_keeps_results_from_arriving_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_self_hosted(settings_of(**changes))
    assert says in str(caught.value)
    assert "short" not in str(caught.value)


def test_every_mistake_has_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        check_self_hosted(settings_of(callback_parser_secret=None, webhook_url=""))
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("mode", ["real", "hybrid"])
def test_the_modes_need_the_parser_that_they_mean(
    mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARSEWIRE_MODE", mode)
    monkeypatch.setenv("PARSEWIRE_REMOTE_PARSER", "callback")
    monkeypatch.setenv("PARSEWIRE_LLAMAPARSE_API_KEY", "llx-1")
    with pytest.raises(ConfigError, match="needs PARSEWIRE_CALLBACK_PARSER_URL, or use 'local'"):
        load_settings()
    monkeypatch.setenv("PARSEWIRE_CALLBACK_PARSER_URL", "http://parser/")
    assert load_settings().remote_parser == "callback"


async def test_the_doctor_looks_at_settings_and_at_whoever_listens() -> None:
    async def findings(**changes: Any) -> list[tuple[str, str]]:
        found = await examine(self_hosted_checks(settings_of(**changes)))
        return [(finding.level.value, finding.what) for finding in found]

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{server.getsockname()[1]}"
        url = f"http://{place}/parse"
        closed = await findings(callback_parser_url=url)
        server.listen()
        listening = await findings(callback_parser_url=url)
    assert closed == [("fail", f"nobody answers at {place}")]
    assert listening == [("ok", f"somebody listens at {place}")]
    ((level, what),) = await findings(webhook_url="")
    assert (level, "PARSEWIRE_WEBHOOK_URL" in what) == ("fail", True)
    assert await findings(callback_parser_url="", mode="local") == []


def test_each_configured_parser_has_an_account() -> None:
    hosted = defaults_of(settings_of())
    assert (hosted.remote_parser, hosted.rates) == ("callback", {"callback": Rate(600.0, 20)})
    assert hosted.elsewhere
    both = defaults_of(settings_of(llamaparse_api_key=SecretStr("llx-1")))
    assert list(both.rates) == ["llamaparse", "callback"]
    assert not defaults_of(settings_of(callback_parser_url="", mode="local")).elsewhere


def test_the_shared_secret_verifies_its_webhooks_unless_others_are_listed(tmp_path: Path) -> None:
    given = settings_of(data_dir=tmp_path)
    (credential,) = load_sources(given)[ARTIFACTS.name].credentials
    assert (credential.label, credential.key) == (
        "the self-hosted parser's secret",
        SECRET.encode(),
    )
    path = tmp_path / "webhooks.toml"
    path.write_text('[sources.artifacts]\nsecrets = [{secret = "another secret"}]\n')
    listed = load_sources(given.model_copy(update={"webhook_file": path}))
    assert [c.key for c in listed[ARTIFACTS.name].credentials] == [b"another secret"]
    without = settings_of(data_dir=tmp_path, callback_parser_secret=None)
    assert load_sources(without)[ARTIFACTS.name].credentials == ()
