"""The doctor: checks that change nothing, each bounded in time, and what they find as values."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from schemas.errors import ParsewireError
from schemas.meanings import MEANINGS
from services.config import ConfigError


class Level(StrEnum):
    """How bad a finding is; `fail` keeps something from working."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it; empty advice where all is well."""

    name: str
    level: Level
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One look at the deployment; `look` may give several findings."""

    name: str
    look: Callable[[], Awaitable[Sequence[Finding]]]
    seconds: float = 15.0


async def examine(checks: Sequence[Check]) -> list[Finding]:
    """Make all checks at once, and give their findings in the checks' order."""
    found = await asyncio.gather(*(_made(check) for check in checks))
    return [finding for findings in found for finding in findings]


def ok(name: str, what: str) -> Finding:
    """Say that all is well."""
    return Finding(name, Level.OK, what)


def warn(name: str, what: str, advice: str) -> Finding:
    """Say that something works less well than it might."""
    return Finding(name, Level.WARN, what, advice)


def fail(name: str, what: str, advice: str) -> Finding:
    """Say that something does not work."""
    return Finding(name, Level.FAIL, what, advice)


def healthy(findings: Sequence[Finding]) -> bool:
    """Tell whether nothing failed."""
    return not any(finding.level is Level.FAIL for finding in findings)


async def _made(check: Check) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(check.seconds):
            return await check.look()
    except TimeoutError:
        return [fail(check.name, f"no answer in {check.seconds:g} s", "See whether it is there.")]
    except ParsewireError as error:
        return [fail(check.name, error.message, MEANINGS[error.code].advice)]
    except ConfigError as error:
        return [fail(check.name, str(error), "Correct the variable.")]
    except OSError as error:
        return [fail(check.name, str(error), "Look at the path and its permissions.")]
