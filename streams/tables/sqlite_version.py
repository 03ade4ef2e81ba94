"""The version of a SQLite file's tables, read without changing the file."""

import sqlite3
from contextlib import closing
from pathlib import Path

from schemas.errors import Code, TransientError
from streams.tables.queries import load_migrations

_BUSY_SECONDS = 2.0


def read_version(path: Path) -> int:
    """Read the schema's version, 0 for an empty file; raise TransientError(TABLES_UNAVAILABLE).

    It may block for two seconds.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection:
            (present,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        raise TransientError(Code.TABLES_UNAVAILABLE, f"SQLite: {error}") from error
    return int(present)


def known_version() -> int:
    """Tell the version that this program brings tables to."""
    return len(load_migrations())
