"""Named queries: the statements of the `.sql` files, by name."""

import re
from functools import cache
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


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


def load_migrations() -> list[str]:
    """Read the schema's versions, oldest first (`-- version: N` parts of `schema.sql`)."""
    text = (resources.files("streams.tables") / "sql" / "schema.sql").read_text(encoding="utf-8")
    return re.split(r"^-- version: \d+\s*$", text, flags=re.MULTILINE)[1:]
