"""Secrets of the deployment in files of its own: made once, by whichever process comes first."""

import os
import secrets
from pathlib import Path

from services.config import ConfigError

_SECRET_BYTES = 32
LEAST_LETTERS = 16


def kept_secret(path: Path, name: str) -> str:
    """Give what the file keeps; make it, with a new secret, where there is none.

    Processes that start at once get the same one. Raise ConfigError, which names the file and
    what it is by `name`, for a broken one.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(path)
        secret = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"the {name} {path} cannot be read or made: {error}") from None
    if len(secret) < LEAST_LETTERS:
        raise ConfigError(
            f"the {name} {path} is cut short: remove it, and the next start makes another"
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
        # A rename would put a second secret over one that is already in use.
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
