"""The law of the house: directions of imports, sizes of rooms, one reader of the environment."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from services import roles

ROOT = Path(__file__).parent.parent
FLOORS = ("schemas", "streams", "services")
MOST_LINES = 250
MOST_FUNCTION_LINES = 50

PROCESSORS = {f"streams.{name}" for name in roles.PROCESSORS} | {
    "streams.artifacts",
    "streams.named_sources",
    "streams.usage",
    "streams.usage_alerts",
    "streams.vendor_look",
}
"""Those that read topics, and the parts of them that do the work."""

GROUNDS = {
    "streams.fold",
    "streams.reactor",
    "streams.runner",
    "streams.listener",
    "streams.sweeper",
    "streams.reservation_sweep",
    "streams.vendor_intents",
    "streams.vendor_sweep",
    "streams.vendor_settle",
    "streams.janitor",
    "streams.alert_sender",
    "streams.usage_alarm",
}
SEAMS = {
    "streams.bus": "streams.bus.base",
    "streams.tables": "streams.tables.base",
    "streams.blobs": "streams.blobs.base",
    "streams.parsers": "streams.parsers.base",
}


def rooms() -> list[Path]:
    return sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in rooms()}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> frozenset[str]:
    """Give the rooms of this house that a room imports, wherever in the file it does."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(n for n in found if n in NAMES and NAMES[n].name != "__init__.py")


@cache
def implementations() -> frozenset[str]:
    """Give the rooms that are one technology of a seam, and not the seam's own words."""
    shared = {"streams.tables.queries", "streams.parsers.pages", *SEAMS.values()}
    return frozenset(
        name
        for name, path in NAMES.items()
        if name.rpartition(".")[0] in SEAMS and name not in shared and path.name != "__init__.py"
    )


def floor_of(name: str) -> int:
    return FLOORS.index(name.partition(".")[0])


def test_imports_run_down() -> None:
    up = {
        (name, other)
        for name, path in NAMES.items()
        for other in imports(path)
        if floor_of(other) > floor_of(name)
    }
    assert not up


def test_no_circles() -> None:
    arrows = {name: imports(path) for name, path in NAMES.items()}
    while True:
        leaves = {name for name, targets in arrows.items() if not targets & arrows.keys()}
        if not leaves:
            break
        arrows = {name: targets for name, targets in arrows.items() if name not in leaves}
    assert not arrows


def test_a_processor_never_imports_the_bus() -> None:
    importers = {
        name
        for name in PROCESSORS
        if any(other.startswith("streams.bus") for other in imports(NAMES[name]))
    }
    assert not importers


def test_the_gateway_never_reaches_a_processor() -> None:
    reached: set[str] = set()
    waiting = {name for name in NAMES if name.startswith("services.gateway")}
    while waiting:
        room = waiting.pop()
        reached.add(room)
        waiting |= {n for n in imports(NAMES[room]) - reached if n != "services.wiring"}
    assert not reached & (PROCESSORS | GROUNDS)


def test_only_the_wiring_names_an_implementation() -> None:
    foreign = {
        (name, other)
        for name, path in NAMES.items()
        for other in imports(path) & implementations()
        if name != "services.wiring" and name.rpartition(".")[0] != other.rpartition(".")[0]
    }
    assert not foreign


def test_a_room_has_a_caption() -> None:
    captions = {name: ast.get_docstring(tree_of(path)) for name, path in NAMES.items()}
    wrong = {n for n, said in captions.items() if not said or len(said.splitlines()[0]) > 100}
    assert not wrong


def test_a_room_is_not_too_large() -> None:
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in NAMES.items()}
    assert not {name for name, count in lines.items() if count > MOST_LINES}


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_a_function_is_not_too_long() -> None:
    long = {
        (name, node.name)
        for name, path in NAMES.items()
        for node in functions(tree_of(path))
        if (node.end_lineno or 0) - node.lineno >= MOST_FUNCTION_LINES
    }
    assert not long


def outer_imports(path: Path) -> set[str]:
    """Give what a room imports as it is imported itself, by full names, others' too."""
    found: set[str] = set()
    for node in tree_of(path).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_other_process_pays_for_faust() -> None:
    direct = {name: outer_imports(path) for name, path in NAMES.items()}
    importers = {name for name in direct if any(i.startswith("faust") for i in direct[name])}
    assert importers == {"services.usage_app", "services.usage_consumer"}
    reached, waiting = set[str](), {"services.cli.main"}
    while waiting:
        room = waiting.pop()
        reached.add(room)
        waiting |= {name for name in direct[room] if name in NAMES} - reached
    assert "services.gateway.serve" in reached
    assert not reached & importers


def test_the_environment_is_read_in_one_room() -> None:
    readers = {
        name
        for name, path in NAMES.items()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    }
    assert readers == {"services.config"}


def test_names_of_rooms_are_their_own() -> None:
    stems = [path.stem for path in rooms() if path.name not in {"__init__.py", "base.py"}]
    assert len(stems) == len(set(stems))


def test_an_init_says_one_line() -> None:
    for path in rooms():
        if path.name == "__init__.py":
            body = tree_of(path).body
            assert len(body) == 1
            assert ast.get_docstring(tree_of(path))
