"""The verbs: what they print, and how they end."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client import CollectorRegistry

from schemas.errors import Code
from services.cli import table_verbs
from services.cli.process_verbs import roles
from services.cli.submission import Submission
from services.cli.submit import documents, result_names
from services.cli.terminal import CommandError
from services.config import load_settings
from services.keys import Role, find_key
from services.wiring import open_tables
from streams.bus.base import Partition, Record
from streams.dead_letters import bury
from streams.metrics import Recorder
from streams.tables.base import Tables


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARSEWIRE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def with_tables(work: Callable[[Tables], Awaitable[Any]]) -> Any:
    async def working() -> Any:
        async with open_tables(load_settings(), Recorder(CollectorRegistry())) as tables:
            return await work(tables)

    return asyncio.run(working())


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("data_dir")
def test_a_key_is_made_listed_and_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    table_verbs.create_key("acme", "laptop", json=True)
    made = printed(capsys)
    found = with_tables(lambda tables: find_key(tables, made["token"]))
    assert (found.tenant, found.name, found.id) == ("acme", "laptop", made["id"])
    table_verbs.list_keys(json=True)
    (listed,) = printed(capsys)["keys"]
    assert (listed["tenant"], listed["revoked_at"]) == ("acme", None)
    assert made["token"] not in json.dumps(listed)
    assert (made["role"], listed["role"]) == ("tenant", "tenant")
    table_verbs.revoke_key(made["id"])
    assert with_tables(lambda tables: find_key(tables, made["token"])) is None
    with pytest.raises(CommandError, match="keys list"):
        table_verbs.revoke_key(made["id"])


@pytest.mark.usefixtures("data_dir")
def test_an_operators_key_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    table_verbs.create_key("ops", "", operator=True, json=True)
    made = printed(capsys)
    assert made["role"] == "operator"
    found = with_tables(lambda tables: find_key(tables, made["token"]))
    assert found.role is Role.OPERATOR


def record(value: bytes) -> Record:
    headers = (("ce_type", b"com.parsewire.Nothing"), ("raw", b"\xff"), ("none", None))
    return Record(Partition("jobs.events", 3), 41, b"the-key", value, headers, 0)


@pytest.mark.usefixtures("data_dir")
def test_a_dead_letter_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    async def bury_two(tables: Tables) -> None:
        for value, processor in ((b'{"a": 1}', "job_state"), (b"\x00\x01", "parse")):
            await tables.write(
                lambda tx, value=value, processor=processor: bury(  # type: ignore[misc]  # defaults
                    tx, processor, "c-1", record(value), Code.POISON_EVENT, "unknown ce_type"
                )
            )

    with_tables(bury_two)
    table_verbs.list_dead_letters(50, json=True)
    newest, oldest = printed(capsys)["dead_letters"]
    assert (newest["processor"], oldest["processor"]) == ("parse", "job_state")
    table_verbs.show_dead_letter(oldest["id"], json=True)
    letter = printed(capsys)
    assert letter["value"] == '{"a": 1}'
    assert letter["key"] == "the-key"
    assert letter["headers"] == [
        ["ce_type", "com.parsewire.Nothing"],
        ["raw", "hex:ff"],
        ["none", None],
    ]
    assert (letter["topic"], letter["partition"], letter["offset"]) == ("jobs.events", 3, 41)
    table_verbs.show_dead_letter(newest["id"])
    lines = capsys.readouterr().out.splitlines()
    assert "value      hex:0001" in lines
    assert "reason     unknown ce_type" in lines
    assert "header     raw: hex:ff" in lines
    with pytest.raises(CommandError, match="dead-letters list"):
        table_verbs.show_dead_letter(99)


@pytest.mark.usefixtures("data_dir")
def test_a_stopped_processor_is_listed_and_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    async def stop(tables: Tables) -> None:
        await tables.write(
            lambda tx: tx.run("positions.stop", processor="parse", version="9", reason="too many")
        )

    with_tables(stop)
    table_verbs.list_processors(json=True)
    found = {row["processor"]: row for row in printed(capsys)["processors"]}
    assert found["job_state"]["state"] == "not stopped"
    assert found["parse"]["state"] == "stopped"
    assert (found["parse"]["reason"], found["parse"]["version"]) == ("too many", "9")
    assert found["parse"]["since"].endswith("Z")
    table_verbs.resume_processor("parse")
    with pytest.raises(CommandError, match="parse is not stopped"):
        table_verbs.resume_processor("parse")


@pytest.mark.usefixtures("data_dir")
def test_tables_are_printed_whole_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    table_verbs.create_key("acme", "a [bold]name[/bold] that is long " + "x" * 60, json=True)
    made = printed(capsys)
    table_verbs.list_keys()
    lines = [line for line in capsys.readouterr().out.splitlines() if made["id"] in line]
    assert len(lines) == 1
    assert "a [bold]name[/bold] that is long " + "x" * 60 in lines[0]


def test_roles_are_read_and_unknown_ones_refused() -> None:
    assert roles("parse, job_state") == frozenset({"parse", "job_state"})
    with pytest.raises(typer.BadParameter, match="reader; known: parse, callbacks, job_state"):
        roles("parse,reader")
    with pytest.raises(typer.BadParameter, match="nothing"):
        roles(" , ")


def test_folders_stand_for_their_files(tmp_path: Path) -> None:
    for name in ("b.pdf", "a.pdf", ".hidden", "inner/c.pdf", ".git/d.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    empty = tmp_path / "empty"
    empty.mkdir()
    found = documents([tmp_path / "b.pdf", tmp_path])
    assert [path.name for path in found] == ["b.pdf", "a.pdf", "c.pdf"]
    with pytest.raises(CommandError, match="no file"):
        documents([empty])


def test_results_of_one_name_do_not_overwrite_each_other() -> None:
    files = ["a/r.pdf", "b/r.pdf", "b/r.md", "b/s.pdf"]
    names = result_names([Submission(Path(file)) for file in files])
    assert names == ["r.md", "r-2.md", "r-3.md", "s.md"]
