"""A table full of finished jobs: each with its row, its attempt and the four lines of its history.

Filled by SQL without syncs; what follows from a number is written as a real run would write it, and
what is random in a real one (document ids, hashes, derived event ids) is random here.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

TENANT = "bench"
FIRST_MS = 1_700_000_000_000

_JOBS_AT_ONCE = 100_000

_PRAGMAS = ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000", "temp_store=MEMORY")

_NUMBERS = """
CREATE TEMP TABLE made AS
WITH RECURSIVE numbers (n) AS (
    SELECT :low UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :high)
SELECT n, job_id(n) AS id, :first_ms + n AS born_ms FROM numbers
"""

_JOBS = """
INSERT INTO jobs (
    id, tenant, document_id, options, generation, state, attempt, tries, losses, name, media_type,
    source_blob, source_sha256, source_bytes, parser, parser_version, result_blob, result_sha256,
    result_bytes, pages, traceparent, created_ms, updated_ms)
SELECT
    id, :tenant, lower(hex(randomblob(18))), '{}', 1, 'complete', 1, 0, 0, n || '.pdf',
    'application/pdf', :tenant || '/' || id || '/source', lower(hex(randomblob(32))), 20000,
    'liteparse', '2.18.0', :tenant || '/' || id || '/1/result', lower(hex(randomblob(32))), 9000, 1,
    '00-' || lower(hex(randomblob(16))) || '-' || lower(hex(randomblob(8))) || '-01',
    born_ms, born_ms + 90
FROM made
"""

_EVENTS = """
WITH lines (step, type, from_state, to_state) AS (VALUES
    (0, 'DocumentUploaded', NULL, 'uploaded'),
    (1, 'ParseStarted', 'uploaded', 'parsing'),
    (2, 'ParseSucceeded', 'parsing', 'parsed'),
    (3, 'ParseSucceeded', 'parsed', 'complete'))
INSERT INTO job_events (
    event_id, job_id, type, attempt, from_state, to_state, event_ms, recorded_ms)
SELECT
    CASE step WHEN 3 THEN lower(hex(randomblob(18))) ELSE event_id(n, step) END,
    id, type, 1, from_state, to_state, born_ms + 30 * step, born_ms + 30 * step + 5
FROM made CROSS JOIN lines
"""

_ATTEMPTS = """
INSERT INTO attempts (job_id, attempt, stage, owner, claimed_ms, deadline_ms, ended_ms)
SELECT id, 1, 'parse', 'worker-bench-1', born_ms + 20, born_ms + 15020, born_ms + 80 FROM made
"""

_COUNT = "INSERT INTO job_counts (state, jobs) VALUES ('complete', :jobs)"


def job_id(number: int) -> str:
    """Give the id of the job with this number: a UUIDv7 of its own millisecond."""
    return _uuid7(FIRST_MS + number, number)


def fill(path: Path, jobs: int) -> None:
    """Fill the tables at `path`, made before and closed, with so many finished jobs."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function("job_id", 1, job_id, deterministic=True)
        connection.create_function("event_id", 2, _event_id, deterministic=True)
        for low in range(0, jobs, _JOBS_AT_ONCE):
            values = {"low": low, "high": min(jobs, low + _JOBS_AT_ONCE)}
            connection.execute("BEGIN")
            connection.execute(_NUMBERS, {**values, "first_ms": FIRST_MS})
            connection.execute(_JOBS, {"tenant": TENANT})
            for statement in (_EVENTS, _ATTEMPTS, "DROP TABLE made"):
                connection.execute(statement)
            connection.execute("COMMIT")
        connection.execute(_COUNT, {"jobs": jobs})
        connection.execute("PRAGMA journal_mode=WAL")


def _event_id(number: int, step: int) -> str:
    return _uuid7(FIRST_MS + number + 30 * step, 4 * number + step + (1 << 40))


def _uuid7(unix_ms: int, low: int) -> str:
    return f"{unix_ms >> 16:08x}-{unix_ms & 0xFFFF:04x}-7{low % 4093:03x}-8000-{low:012x}"
