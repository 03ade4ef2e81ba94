"""The command line's failures: one line that says what to do, and an exit code."""

import sys
from pathlib import Path

import pytest

from services.cli import main as command_line


def failure(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr(sys, "argv", ["parsewire", *words])
    # They would be every later test's too, on a stderr that is closed by then.
    monkeypatch.setattr(command_line, "configure_logs", lambda _settings, process: process)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    return ended.value.code


def test_a_data_directory_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "data"
    monkeypatch.setenv("PARSEWIRE_DATA_DIR", str(folder))
    assert failure(monkeypatch, "keys", "list") == 1
    assert capsys.readouterr().err == f"{folder}: Not a directory\n"


def test_a_folder_for_results_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("text")
    folder = tmp_path / "file" / "out"
    assert failure(monkeypatch, "submit", str(tmp_path / "file"), "--to", str(folder)) == 1
    assert capsys.readouterr().err == f"{folder}: Not a directory\n"


def test_tables_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tables.db").write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("PARSEWIRE_DATA_DIR", str(tmp_path))
    assert failure(monkeypatch, "dead-letters", "list") == 1
    why = f"SQLite: {tmp_path}/tables.db: file is not a database (tables_unavailable)\n"
    assert capsys.readouterr().err == why
