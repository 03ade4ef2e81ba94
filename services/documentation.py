"""The documentation's tables: made from the code that they describe, between marks in the files.

The contracts of the bus are written with them.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from schemas.meanings import MEANINGS
from schemas.topics import TOPICS
from services.config import PREFIX, Settings
from services.contracts import write_contracts
from streams.metrics import METRICS


def settings_table() -> str:
    """Write a row for each variable."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{PREFIX}{name.upper()}` | {_default(field)} | {field.description} |")
    return "\n".join(rows)


def metrics_table() -> str:
    """Write a row for each metric."""
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |")
    return "\n".join(rows)


def codes_table() -> str:
    """Write a row for each error code."""
    rows = ["| code | status | meaning | what to do |", "|---|---|---|---|"]
    for code, meaning in MEANINGS.items():
        rows.append(f"| `{code}` | {meaning.status} | {meaning.title} | {meaning.advice} |")
    return "\n".join(rows)


def topics_table() -> str:
    """Write a row for each topic."""
    rows = ["| topic | key | events | partitions | kept |", "|---|---|---|---|---|"]
    for topic in TOPICS:
        events = ", ".join(event.__name__ for event in topic.events)
        rows.append(
            f"| `{topic.name}` | {topic.key} | {events} | {topic.partitions} "
            f"| {topic.retention_hours} h |"
        )
    return "\n".join(rows)


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "settings": ("README.md", settings_table),
    "metrics": ("docs/metrics.md", metrics_table),
    "codes": ("docs/errors.md", codes_table),
    "topics": ("docs/topics.md", topics_table),
}
"""Each table by its mark: the file that holds it, and what makes it."""


def renewed(text: str, mark: str, table: str) -> str:
    """Put `table` between the marks of `text`; raise ValueError where they are not."""
    begin, end = f"<!-- {mark}: made by `make docs` -->\n", f"\n<!-- end of {mark} -->"
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"no marks for the table {mark!r}")
    return f"{head}{begin}{table}{end}{tail}"


def main() -> None:
    """Write every table, and the contracts, into their files below the folder given, or this."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for mark, (name, make) in TABLES.items():
        path = root / name
        path.write_text(renewed(path.read_text(encoding="utf-8"), mark, make()), encoding="utf-8")
    write_contracts(root)


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined or value is None or value == "":
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    main()
