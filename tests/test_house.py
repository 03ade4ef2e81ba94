"""The law of the house: directions of imports, sizes of rooms, one reader of the environment."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

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
every_room = pytest.mark.parametrize("path", rooms(), ids=name_of)


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


@every_room
def test_imports_run_down(path: Path) -> None:
    floor = FLOORS.index(path.relative_to(ROOT).parts[0])
    above = {name for name in imports(path) if FLOORS.index(name.split(".")[0]) > floor}
    assert not above


def test_no_circles() -> None:
    arrows = {name: imports(path) for name, path in NAMES.items()}
    while True:
        leaves = {name for name, targets in arrows.items() if not targets & arrows.keys()}
        if not leaves:
            break
        arrows = {name: targets for name, targets in arrows.items() if name not in leaves}
    assert not arrows


@pytest.mark.parametrize("name", sorted(PROCESSORS))
def test_a_processor_never_imports_the_bus(name: str) -> None:
    assert not {other for other in imports(NAMES[name]) if other.startswith("streams.bus")}


@pytest.mark.parametrize("name", sorted(n for n in NAMES if n.startswith("services.gateway")))
def test_the_gateway_never_reaches_a_processor(name: str) -> None:
    reached: set[str] = set()
    waiting = {name}
    while waiting:
        room = waiting.pop()
        reached.add(room)
        waiting |= {n for n in imports(NAMES[room]) - reached if n != "services.wiring"}
    assert not reached & (PROCESSORS | GROUNDS)


@every_room
def test_only_the_wiring_names_an_implementation(path: Path) -> None:
    name = name_of(path)
    if name == "services.wiring":
        return
    seam = name.rpartition(".")[0]
    foreign = {n for n in imports(path) & implementations() if n.rpartition(".")[0] != seam}
    assert not foreign


@every_room
def test_a_room_has_a_caption(path: Path) -> None:
    caption = ast.get_docstring(tree_of(path))
    assert caption
    assert len(caption.splitlines()[0]) <= 100


@every_room
def test_a_room_is_not_too_large(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@every_room
def test_a_function_is_not_too_long(path: Path) -> None:
    long = {
        node.name: lines
        for node in functions(tree_of(path))
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > MOST_FUNCTION_LINES
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


@every_room
def test_the_environment_is_read_in_one_room(path: Path) -> None:
    if name_of(path) == "services.config":
        return
    read = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]
    assert not read


def test_names_of_rooms_are_their_own() -> None:
    stems = [path.stem for path in rooms() if path.name not in {"__init__.py", "base.py"}]
    assert len(stems) == len(set(stems))


def test_an_init_says_one_line() -> None:
    for path in rooms():
        if path.name == "__init__.py":
            body = tree_of(path).body
            assert len(body) == 1
            assert ast.get_docstring(tree_of(path))
