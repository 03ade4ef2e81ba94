"""YAML text of plain data: blocks for people, every doubtful text quoted as JSON quotes it.

Source: YAML 1.2, of whose double-quoted texts JSON's are a part.
"""

import re
from collections.abc import Iterator
from typing import Any

import orjson

_PLAIN = re.compile(r"[A-Za-z_/$][A-Za-z0-9_/$.-]*( [A-Za-z0-9_/$.(-][A-Za-z0-9_/$.,()'-]*)*")
_WORDS_OF_YAML = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def yaml_text(data: dict[str, Any]) -> str:
    """Write dictionaries, lists, texts, numbers, booleans and None as one YAML document."""
    return "\n".join(_lines(data, "")) + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _entry(f"{indent}{_scalar(str(name))}:", inner, indent + "  ")
    else:
        for inner in value:
            yield from _item(inner, indent)


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        yield head
        yield from _lines(value, indent)
    elif isinstance(value, str) and _is_prose(value):
        yield f"{head} |-"
        for line in value.split("\n"):
            yield f"{indent}{line}" if line else ""
    else:
        yield f"{head} {_scalar(value)}"


def _item(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        first, *rest = _lines(value, indent + "  ")
        yield f"{indent}- {first.lstrip()}"
        yield from rest
    else:
        yield f"{indent}- {_scalar(value)}"


def _is_prose(text: str) -> bool:
    """Tell whether a text may stand as a block: several lines, none of which begins or ends odd."""
    lines = text.split("\n")
    return (
        len(lines) > 1
        and all(lines[end] for end in (0, -1))
        and all(line == line.strip() and (line.isprintable() or not line) for line in lines)
    )


def _scalar(value: Any) -> str:
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) is not None
    if plain and value.lower() not in _WORDS_OF_YAML:
        return str(value)
    return orjson.dumps(value).decode()
