"""The deployment's own webhook secret: what it registers with LlamaCloud."""

from pathlib import Path

from services.secret_file import kept_secret

SECRET_FILE = "webhook-secret"  # noqa: S105 - a file's name


def deployment_secret(data_dir: Path) -> str:
    """Give the secret; raise ConfigError for a broken file."""
    return kept_secret(data_dir / SECRET_FILE, "webhook secret")
