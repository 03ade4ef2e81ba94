"""Named queries: the statements of the `.sql` files, by name."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from operator import itemgetter
from typing import Any

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
_VALUE = re.compile(r"(?<!:):(\w+)")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with `?` in its places, and how values by name get there.

    Given by name, SQLite looks each of them up again for every row.
    """

    sql: str
    bind: Callable[[Mapping[str, Any]], tuple[Any, ...]]


@cache
def load_statements() -> dict[str, Statement]:
    """Read every statement of `sql/`, ready for values by place."""
    return {
        name: Statement(_VALUE.sub("?", text), _binder(_VALUE.findall(text)))
        for name, text in load_queries().items()
    }


@cache
def load_queries() -> dict[str, str]:
    """Read every statement of `sql/`: `{"jobs.find": "SELECT ..."}`."""
    found: dict[str, str] = {}
    for file in (resources.files("streams.tables") / "sql").iterdir():
        stem, _, ending = file.name.partition(".")
        if ending != "sql" or stem == "schema":
            continue
        parts = _NAME.split(file.read_text(encoding="utf-8"))
        for name, statement in zip(parts[1::2], parts[2::2], strict=True):
            found[f"{stem}.{name}"] = statement.strip().removesuffix(";")
    return found


@cache
def load_migrations() -> tuple[str, ...]:
    """Read the schema's versions, oldest first (`-- version: N` parts of `schema.sql`)."""
    text = (resources.files("streams.tables") / "sql" / "schema.sql").read_text(encoding="utf-8")
    return tuple(re.split(r"^-- version: \d+\s*$", text, flags=re.MULTILINE)[1:])


def _binder(names: list[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: tuple(values[name] for name in names)
