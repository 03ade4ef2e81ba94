"""The alerts' webhook: which URLs and secrets are taken, and what is said of the others."""

import pytest
from pydantic import SecretStr

from services.alert_webhook import alert_key, check_alert_webhook
from services.config import ConfigError, Settings

GOOD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEEDS = "PARSEWIRE_ALERT_WEBHOOK_URL needs PARSEWIRE_ALERT_WEBHOOK_SECRET"


def settings_of(url: str, secret: str | None) -> Settings:
    key = None if secret is None else SecretStr(secret)
    return Settings(_env_file=None, alert_webhook_url=url, alert_webhook_secret=key)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org/services/T0/B0/token?x=1",
        "https://10.1.2.3/alerts",
        "http://127.0.0.1:9000/alerts",
        "http://localhost:9000",
        "http://[::1]:9000",
        "http://192.168.1.4/alerts",
        "http://alertmanager:9093/hook",
        "http://alerts.internal/hook",
        "",
    ],
)
def test_a_url_of_the_operators_choice_is_taken(url: str) -> None:
    check_alert_webhook(settings_of(url, GOOD))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://hooks.example.org/token", "plain http is for one's own network"),
        ("http://93.184.215.14/token", "plain http is for one's own network"),
        ("ftp://127.0.0.1/token", "it must be http(s)://host[:port]/path"),
        ("hooks.example.org/token", "it must be http(s)://host[:port]/path"),
        ("https://", "it must be http(s)://host[:port]/path"),
        ("https://me:token@example.org", "it holds a user name, a fragment or a blank"),
        ("https://[::1/token", "it is no URL"),
    ],
)
def test_another_url_is_refused_and_not_shown(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_alert_webhook(settings_of(url, GOOD))
    assert str(caught.value).startswith("PARSEWIRE_ALERT_WEBHOOK_URL: ")
    assert says in str(caught.value)
    assert "token" not in str(caught.value)


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        (None, "a key has 16 bytes at least"),
        ("", "a key has 16 bytes at least"),
        ("zebra, fifteen.", "a key has 16 bytes at least"),
        ("whsec_", "the secret is empty"),
        ("whsec_emVicmE=", "a key has 16 bytes at least"),
        ("whsec_zebra is no base64 at all", "the secret is not base64"),
    ],
)
def test_another_secret_is_refused_and_not_shown(secret: str | None, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_alert_webhook(settings_of("https://example.org/alerts", secret))
    assert str(caught.value).startswith(NEEDS)
    assert str(caught.value).endswith(says)
    assert "zebra" not in str(caught.value)


def test_without_a_url_the_secret_does_not_matter() -> None:
    check_alert_webhook(settings_of("", None))


def test_a_secret_is_read_as_base64_behind_its_prefix_else_as_letters() -> None:
    assert alert_key(settings_of("", "whsec_c2l4dGVlbiBsZXR0ZXJzLg==")) == b"sixteen letters."
    assert alert_key(settings_of("", "sixteen letters.")) == b"sixteen letters."
