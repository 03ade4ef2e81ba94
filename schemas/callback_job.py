"""A job at a self-hosted parser: the name that it has here, whatever it is called there."""

import re
from typing import Any

import orjson

_THEIR_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}")


def vendor_job_id(job_id: str, attempt: int, theirs: str | None = None) -> str:
    """Name the job by ours and its attempt, with their own name for it behind that.

    A service that counts from 1 again after each start would make two of our jobs one by its own.
    """
    return ".".join((job_id, str(attempt), *([theirs] if theirs else [])))


def their_id(value: Any) -> str | None:
    """Give what they call their job; None for what no path and no log should hold."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    found = isinstance(value, str) and _THEIR_ID.fullmatch(value) is not None
    return value if found else None


def their_id_in(answer: bytes) -> str | None:
    """Read what a submission was answered: `{"parse_job_id": ...}`, or anything else."""
    try:
        content = orjson.loads(answer)
    except ValueError:
        return None
    return their_id(content.get("parse_job_id")) if isinstance(content, dict) else None
