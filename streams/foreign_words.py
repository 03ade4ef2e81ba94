"""The words of others, made fit to show: what a parser elsewhere says of a job that failed."""

import re
from collections.abc import Sequence

LONGEST_MESSAGE = 300

_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)


def clean(text: str, secrets: Sequence[str] = (), longest: int = LONGEST_MESSAGE) -> str:
    """Make a vendor's words fit to show: one line, without URLs and what we keep secret."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[...]")
    words = _URL.sub("[url]", text[: 8 * LONGEST_MESSAGE]).split()
    line = "".join(character for character in " ".join(words) if character.isprintable())
    return line if len(line) <= longest else line[: longest - 3] + "..."
