"""Option values: the text of each option read, or refused with what would be right."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from schemas.errors import Code, PermanentError
from schemas.events import Mode, ParseOptions, Tier
from schemas.languages import LANGUAGES
from schemas.page_ranges import read_ranges, write_ranges

LONGEST_PROMPT = 4_000
"""Characters."""

_MOST_PAGES = 1_000_000
_MOST_LANGUAGES = 10
_LONGEST_TARGET = 500
_SWITCH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

T = TypeVar("T", bound=str)


def read_parse_options(texts: Mapping[str, str]) -> ParseOptions:
    """Read the options of a parse among these; raise PermanentError for a value that cannot be."""
    values = {name: read(texts[name]) for name, read in READERS.items() if name in texts}
    options = ParseOptions(**values)
    if options.prompt is not None and options.tier == "fast":
        raise refused_value("the tier fast takes no prompt: choose another tier, or leave it out")
    return options


def read_switch(name: str, text: str) -> bool:
    """Read true or false."""
    value = _SWITCH.get(text.strip().lower())
    if value is None:
        raise refused_value(f"{name} must be true or false")
    return value


def refused_value(message: str) -> PermanentError:
    """Refuse a document for what is asked of it."""
    return PermanentError(Code.INVALID_REQUEST, message)


def _max_pages(text: str) -> int:
    digits = text.strip()
    if digits.isascii() and digits.isdigit() and len(digits) <= 7:
        pages = int(digits)
        if 1 <= pages <= _MOST_PAGES:
            return pages
    raise refused_value("max_pages must be a whole number from 1 to 1000000")


def _one_of(name: str, known: tuple[T, ...], text: str) -> T:
    for value in known:
        if text.strip() == value:
            return value
    raise refused_value(f"{name} must be one of: {', '.join(known)}")


def _languages(text: str) -> tuple[str, ...]:
    codes = tuple(dict.fromkeys(code.strip() for code in text.split(",")))
    for code in codes:
        if code not in LANGUAGES:
            known = ", ".join(sorted(LANGUAGES))
            raise refused_value(f"languages has {code[:20]!r}; known are: {known}")
    if len(codes) > _MOST_LANGUAGES:
        raise refused_value(f"languages may name {_MOST_LANGUAGES} at most")
    return codes


def _target_pages(text: str) -> str:
    try:
        target = write_ranges(read_ranges(text))
    except ValueError as error:
        raise refused_value(
            f"target_pages must be pages from 1 and ranges, as in 1,3-5: {error}"
        ) from None
    if len(target) > _LONGEST_TARGET:
        raise refused_value(f"target_pages may have {_LONGEST_TARGET} characters at most")
    return target


def _prompt(text: str) -> str:
    prompt = text.strip()
    if not 1 <= len(prompt) <= LONGEST_PROMPT:
        raise refused_value(f"prompt must have 1 to {LONGEST_PROMPT} characters")
    return prompt


READERS: dict[str, Callable[[str], Any]] = {
    "max_pages": _max_pages,
    "target_pages": _target_pages,
    "mode": lambda text: _one_of("mode", get_args(Mode), text),
    "tier": lambda text: _one_of("tier", get_args(Tier), text),
    "languages": _languages,
    "prompt": _prompt,
    "disable_cache": lambda text: read_switch("disable_cache", text),
}
"""The options of a parse, each with what reads it."""
