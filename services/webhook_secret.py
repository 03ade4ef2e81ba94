"""The deployment's own webhook secret: made once, by whichever process comes first."""

import os
import secrets
from pathlib import Path

from services.config import ConfigError

SECRET_FILE = "webhook-secret"  # noqa: S105 - a file's name

_SECRET_BYTES = 32
_LEAST_LETTERS = 16


def deployment_secret(data_dir: Path) -> str:
    """Give the secret that this deployment registers with LlamaCloud; make it where there is none.

    Two processes that start at once get the same one. Raise ConfigError for a broken file.
    """
    path = data_dir / SECRET_FILE
    try:
        if not path.exists():
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(path)
        secret = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"the webhook secret {path} cannot be read or made: {error}") from None
    if len(secret) < _LEAST_LETTERS:
        raise ConfigError(
            f"the webhook secret {path} is cut short: remove it, and the next start makes another"
        )
    return secret


def _make(path: Path) -> None:
    """Write it beside, durably, and give it its name unless another process was faster."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(_SECRET_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A rename would put a second secret over one that is already registered.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
