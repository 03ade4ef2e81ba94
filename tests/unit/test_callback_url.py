"""The callback URL: what LlamaCloud would refuse, and when a start is refused for it."""

from typing import Any

import pytest
from pydantic import SecretStr

from services.callback_url import callback_url_problem, check_callback_url
from services.config import ConfigError, Settings


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org",
        "https://hooks.example.org:8443/behind/a/path",
        "https://HOOKS.Example.Org.",
        "https://93.184.215.14",
        "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]",
        "https://bücher.de",
    ],
)
def test_a_public_https_address_is_fine(url: str) -> None:
    assert callback_url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://hooks.example.org", "must begin with https://"),
        ("hooks.example.org", "names no host"),
        ("ftp://hooks.example.org", "must begin with https://"),
        ("https://", "names no host"),
        ("https:///path", "names no host"),
        ("https://[::1", "is no URL"),
        ("https://a.org:99999", "is no URL"),
        ("https://a.org:0", "port 0"),
        ("https://user:pass@a.org", "user name or password"),
        ("https://a.org/?x=1", "query or a fragment"),
        ("https://a.org/#x", "query or a fragment"),
        ("https://a.org/a b", "a blank"),
        ("https://localhost", "this machine"),
        ("https://app.localhost:8080", "this machine"),
        ("https://127.0.0.1", "loopback address"),
        ("https://127.8.9.1", "loopback address"),
        ("https://[::1]:8080", "loopback address"),
        ("https://[::ffff:127.0.0.1]", "loopback address"),
        ("https://10.1.2.3", "private or reserved"),
        ("https://192.168.0.1", "private or reserved"),
        ("https://172.16.0.1", "private or reserved"),
        ("https://100.64.0.1", "private or reserved"),
        ("https://169.254.169.254", "private or reserved"),
        ("https://0.0.0.0", "private or reserved"),
        ("https://224.0.0.1", "private or reserved"),
        ("https://[fe80::1%25eth0]", "private or reserved"),
        ("https://[fd00::1]", "private or reserved"),
        ("https://[::ffff:10.0.0.1]", "private or reserved"),
        ("https://2130706433", "odd notation"),
        ("https://0x7f.1", "odd notation"),
        ("https://127.1", "odd notation"),
        ("https://gateway", "private name"),
        ("https://gateway.internal", "private name"),
        ("https://printer.local", "private name"),
    ],
)
def test_what_would_not_be_called_is_named(url: str, problem: str) -> None:
    assert problem in (callback_url_problem(url) or "")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost", "https://[::1]"])
def test_a_double_on_this_machine_may_call_it(url: str) -> None:
    assert callback_url_problem(url, loopback_allowed=True) is None
    assert callback_url_problem(url) is not None
    assert callback_url_problem("http://10.0.0.1", loopback_allowed=True) is not None


def settings_of(**values: Any) -> Settings:
    return Settings(llamaparse_api_key=SecretStr("llx-test"), **values)


def test_the_start_is_refused_only_where_the_url_is_used() -> None:
    wrong = "http://127.0.0.1:8080"
    check_callback_url(settings_of(mode="real"))
    check_callback_url(settings_of(mode="local", webhook_url=wrong))
    check_callback_url(settings_of(mode="hybrid", webhook_url="https://hooks.example.org"))
    check_callback_url(
        settings_of(mode="real", webhook_url=wrong, llamaparse_url="http://127.0.0.1:9000")
    )
    for mode in ("real", "hybrid"):
        with pytest.raises(ConfigError, match=r"PARSEWIRE_WEBHOOK_URL='http://127.*must begin"):
            check_callback_url(settings_of(mode=mode, webhook_url=wrong))
