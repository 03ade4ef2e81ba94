"""The deployment's result links: the secret that signs them, and the addresses made with it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from schemas.job import Job
from schemas.result_link import Grant, LinkKeys
from services.config import ConfigError, Settings
from services.secret_file import LEAST_LETTERS, kept_secret

PATH = "/api/v1/results"
SECRET_FILE = "result-link-secret"  # noqa: S105 - a file's name

_NAME = "secret of result links"
_USUAL_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class ResultLinks:
    """What makes links and reads them; `public_url` empty: a link is a path."""

    keys: LinkKeys
    public_url: str = ""
    seconds: int = _USUAL_SECONDS
    """How long a link lives where nobody says another time."""

    def link(self, job: Job, expires_unix: int) -> str:
        """Write the address that opens the job's result until then."""
        grant = Grant(job.id, job.attempt, job.tenant, expires_unix)
        return f"{self.public_url}{PATH}/{self.keys.sign(grant)}"


def result_links(settings: Settings) -> ResultLinks:
    """Give this deployment's links; raise ConfigError for a broken secret."""
    seconds = settings.result_link_seconds or _USUAL_SECONDS
    return ResultLinks(link_keys(settings.data_dir), settings.public_url, seconds)


def link_of_moved(settings: Settings) -> Callable[[Job, int], str] | None:
    """Give what links a job that is complete at a unix millisecond; None where none is wanted."""
    if not settings.result_link_seconds:
        return None
    links = result_links(settings)
    return lambda job, now_ms: links.link(job, now_ms // 1000 + links.seconds)


def link_keys(data_dir: Path) -> LinkKeys:
    """Give the keys: a line of the file each, the newest first."""
    path = data_dir / SECRET_FILE
    secrets = kept_secret(path, _NAME).split()
    if any(len(secret) < LEAST_LETTERS for secret in secrets):
        raise ConfigError(f"the {_NAME} {path} has a line of fewer than {LEAST_LETTERS} letters")
    return LinkKeys(secrets)
