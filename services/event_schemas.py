"""JSON Schemas of the events, made from their classes, and what may not change about them.

Source: JSON Schema 2020-12. Each is a file below schemas/json/, by the event's name.
"""

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any

import msgspec
import orjson

from schemas import codec
from schemas.events import Body, WebhookReceived

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ID_PREFIX = "urn:parsewire:" + codec.TYPE_PREFIX

_NOTES = {
    WebhookReceived: "On the wire the record's value is `content` itself, and the rest is headers."
}
_ASIDE = frozenset({"title", "description"})
"""What a schema says to people alone: it may change."""

_NULL = {"type": "null"}

Schema = dict[str, Any]


def event_schema(kind: type[Body]) -> Schema:
    """Write an event's schema whole: with what it refers to, and every docstring."""
    _, parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    own: Schema = parts.pop(kind.__name__)
    _describe(own, kind)
    if kind in _NOTES:
        own["description"] += "\n\n" + _NOTES[kind]
    for part in parts.values():
        part["description"] = inspect.cleandoc(part["description"])
    head: Schema = {"$schema": DIALECT, "$id": ID_PREFIX + kind.__name__}
    whole = head | own | ({"$defs": parts} if parts else {})
    return dict(orjson.loads(orjson.dumps(whole)))


def breaks(old: Schema, new: Schema) -> list[str]:
    """Tell how records or readers of the old schema are let down by the new one.

    A field may come with a default, a choice may gain a value and a field null; all else breaks
    somebody.
    """
    found = _object_breaks("", old, new)
    for name, part in old.get("$defs", {}).items():
        found += _object_breaks(f"{name}.", part, new.get("$defs", {}).get(name, {}))
    return found


def summary(kind: type[Body]) -> str:
    """Give the first sentence of an event's docstring."""
    return inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]


def _object_breaks(prefix: str, old: Schema, new: Schema) -> list[str]:
    was, has = old.get("properties", {}), new.get("properties", {})
    needed = sorted(set(new.get("required", ())) - set(old.get("required", ())))
    return [
        *(f"{prefix}{name} is required, and was not" for name in needed),
        *(f"{prefix}{name} is gone" for name in was if name not in has),
        *(f"{prefix}{n} is another kind" for n in was if n in has and not _holds(was[n], has[n])),
    ]


def _holds(old: Any, new: Any) -> bool:
    """Tell whether a field's new schema takes what the old one took, and little else."""
    if isinstance(old, dict) and isinstance(new, dict):
        bare, kinds = {k: v for k, v in old.items() if k not in _ASIDE}, new.get("anyOf", ())
        if bare in kinds and all(kind in (bare, _NULL) for kind in kinds):
            return True
        aside = _ASIDE if "default" in old.keys() & new.keys() else _ASIDE | {"default"}
        keys = (old.keys() | new.keys()) - aside
        return all(_holds(old.get(k), new.get(k)) or _grew(k, old, new) for k in keys)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_holds, old, new))
    return bool(old == new)


def _grew(key: str, old: Schema, new: Schema) -> bool:
    return key == "enum" and set(old.get(key, ())) < set(new.get(key, ()))


def _describe(schema: Schema, kind: type) -> None:
    """Put the docstrings into the schema: the class's, and those below its fields."""
    schema["description"] = inspect.cleandoc(schema["description"])
    for cls in reversed(kind.__mro__[:-1]):
        for name, text in _field_docs(cls).items():
            schema["properties"][name]["description"] = text


def _field_docs(cls: type) -> dict[str, str]:
    """Read the strings that stand below a class's fields; Python itself forgets them."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = next(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    docs: dict[str, str] = {}
    for field, below in pairwise(body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            docs[field.target.id] = inspect.cleandoc(str(below.value.value))
    return docs
