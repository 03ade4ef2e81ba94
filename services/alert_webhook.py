"""The alerts' webhook: whether its URL and its secret can be used, said at the start."""

from collections.abc import Iterator

from schemas.signature_scheme import STANDARD_WEBHOOKS
from services.config import PREFIX, ConfigError, Settings
from services.self_hosted import service_url_problem

_LEAST_KEY_BYTES = 16


def check_alert_webhook(settings: Settings) -> None:
    """Raise ConfigError, a line for each setting that keeps alerts from being sent."""
    lines = list(_problems(settings))
    if lines:
        raise ConfigError("\n".join(lines))


def alert_key(settings: Settings) -> bytes:
    """Give the key that signs alerts: base64 behind `whsec_`, else the secret's own letters.

    Raise ValueError, without the secret, for one that cannot be.
    """
    secret = settings.alert_webhook_secret
    text = "" if secret is None else secret.get_secret_value()
    prefixed = text.startswith(STANDARD_WEBHOOKS.key_prefix)
    key = STANDARD_WEBHOOKS.key_of(text) if prefixed else text.encode()
    if len(key) < _LEAST_KEY_BYTES:
        raise ValueError(f"a key has {_LEAST_KEY_BYTES} bytes at least")
    return key


def _problems(settings: Settings) -> Iterator[str]:
    if not settings.alert_webhook_url:
        return
    # Neither is shown: the path of a webhook's URL is often a secret, too.
    problem = service_url_problem(settings.alert_webhook_url)
    if problem is not None:
        yield f"{PREFIX}ALERT_WEBHOOK_URL: {problem}"
    try:
        alert_key(settings)
    except ValueError as error:
        yield (
            f"{PREFIX}ALERT_WEBHOOK_URL needs {PREFIX}ALERT_WEBHOOK_SECRET, which signs what is "
            f"sent there: whsec_ and base64, or any text: {error}"
        )
