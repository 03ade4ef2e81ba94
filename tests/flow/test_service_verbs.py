"""The verbs about services: what they change, refuse and show."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner, Result

from schemas.errors import Code
from services.cli.service_verbs import SERVICES
from services.config import load_settings
from services.wiring import open_tables
from streams.gate import SharedGate
from streams.metrics import Recorder
from streams.tables.base import Tables
from streams.token_bucket import Rate
from tests.harness import lay_tables

KEY = "llx-secret"


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_tables(tmp_path / "data")
    monkeypatch.setenv("PARSEWIRE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PARSEWIRE_LLAMAPARSE_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)


def with_tables(work: Callable[[Tables], Awaitable[Any]]) -> Any:
    async def working() -> Any:
        async with open_tables(load_settings(), Recorder(CollectorRegistry())) as tables:
            return await work(tables)

    return asyncio.run(working())


def run(*arguments: str) -> Result:
    return CliRunner().invoke(SERVICES, arguments)


def shown(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def changes() -> list[tuple[str, str | None, str | None]]:
    return [(line["name"], line["from"], line["to"]) for line in shown("log")["changes"]]


def fail_once(code: Code) -> None:
    async def work(tables: Tables) -> None:
        recorder = Recorder(CollectorRegistry())
        gate = SharedGate(tables, "llamaparse", lambda: Rate(20.0, 10), recorder)
        await gate.enter("submit")
        await gate.note("submit", code)

    with_tables(work)


def test_what_holds_is_shown() -> None:
    body = shown()
    assert (body["mode"], body["changed"], body["ignored"]) == ("local", [], [])
    assert [(s["name"], s["kind"], s["health"]) for s in body["services"]] == [
        ("liteparse", "local", "ok"),
        ("text", "local", "ok"),
        ("llamaparse", "remote", "unknown"),
    ]
    rate = body["services"][2]["details"]["rate"]
    assert rate == {"requests_per_minute": 20.0, "burst": 10, "left": 10.0, "slowed": 0}
    assert KEY not in json.dumps(body)


def test_mode_and_limits_are_changed_and_taken_back() -> None:
    body = shown("set", "--mode", "hybrid", "--rate", "60", "--burst", "25")
    assert body["mode"] == "hybrid"
    assert body["services"][2]["details"]["rate"]["requests_per_minute"] == 60.0
    assert sorted(changes()) == [
        ("llamaparse.burst", None, "25"),
        ("llamaparse.requests_per_minute", None, "60"),
        ("mode", None, "hybrid"),
    ]
    assert shown("set", "--mode", "default")["mode"] == "local"
    assert changes()[0] == ("mode", "hybrid", None)
    assert all("@" in line["who"] for line in shown("log")["changes"])


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["--mode", "mock"], {"PARSEWIRE_ENV": "production"}, "refused in production"),
        (["--mode", "hybrid"], {"PARSEWIRE_LLAMAPARSE_API_KEY": None}, "none has a key"),
        (["--mode", "real"], {"PARSEWIRE_LLAMAPARSE_API_KEY": ""}, "none has a key"),
        (["--mode", "local", "--rate", "0"], {}, "above 0"),
        (["--burst", "3", "--service", "other"], {}, "no setting 'other.burst'"),
        ([], {}, "nothing to change"),
    ],
)
def test_what_cannot_be_is_refused_whole(
    arguments: list[str],
    environment: dict[str, str | None],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    result = run("set", *arguments)
    assert result.exit_code == 1
    assert says in str(result.exception)
    assert changes() == []


def test_a_circuit_is_shown_and_closed() -> None:
    fail_once(Code.VENDOR_QUOTA_SPENT)
    service = shown()["services"][2]
    assert service["health"] == "down"
    assert service["details"]["circuit"]["reason"] == "vendor_quota_spent"
    assert service["details"]["errors"][0]["code"] == "vendor_quota_spent"
    lines = run().stdout.splitlines()
    assert any("llamaparse" in line and "a person acts" in line for line in lines)
    assert run("close-circuit").exit_code == 0
    assert shown()["services"][2]["details"]["circuit"]["state"] == "closed"
    again = run("close-circuit")
    assert (again.exit_code, "closed already" in str(again.exception)) == (1, True)
    assert changes() == [("llamaparse.circuit", "open: vendor_quota_spent", "closed")]
    unknown = run("close-circuit", "--service", "other")
    assert "no service other" in str(unknown.exception)
