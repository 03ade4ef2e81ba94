"""Named queries: the statements of the `.sql` files, by name."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    names: tuple[str, ...]
    bind: Callable[[Mapping[str, Any]], tuple[Any, ...]]

    def bind_many(
        self, rows: Iterable[Mapping[str, Any]], shared: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        """Bind each row together with the values that all share, and copy none for that."""
        own = [name for name in dict.fromkeys(self.names) if name not in shared]
        places = {name: place for place, name in enumerate([*own, *shared])}
        pick, order = _picker(own), _picker([places[name] for name in self.names])
        rest = tuple(shared.values())
        return [order(pick(row) + rest) for row in rows]


@cache
def load_statements() -> dict[str, Statement]:
    """Read every statement of `sql/`, ready for values by place."""
    return {name: _statement(text) for name, text in load_queries().items()}


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


def _statement(text: str) -> Statement:
    names = tuple(_VALUE.findall(text))
    return Statement(_VALUE.sub("?", text), names, _picker(names))


def _picker(keys: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Give what takes the values at these keys or places, as a tuple however few they are."""
    if len(keys) > 1:
        return itemgetter(*keys)
    return lambda values: tuple(values[key] for key in keys)
