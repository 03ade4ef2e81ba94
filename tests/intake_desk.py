"""A bench for the intake: tables and blobs in a folder, an elsewhere in memory, records put in."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from schemas.errors import Code, PermanentError
from schemas.events import DocumentUploaded, Event
from schemas.submission_events import DocumentAccepted, DocumentRefused
from schemas.submission_record import Submitted, Unfit
from services.intake_role import read_record
from streams.admission import Terms
from streams.admission_rules import AdmissionRules
from streams.blobs.disk import DiskBlobs
from streams.bus.base import Partition, Record
from streams.intake import Intake
from streams.named_sources import NamedSources
from streams.processor import Parked
from streams.settings import Defaults
from streams.source_fetch import Write
from streams.speakers import read_speakers
from tests.harness import NOW, TIMINGS, Desk, decode_row, open_memory_desk

SPEAKERS = "documents.submitted:acme|globex,theirs:team-a,ours:*"
MAX_BYTES = 500_000
NAMES_ONE: dict[str, str | bytes] = {"ce_type": "com.parsewire.DocumentSubmitted"}

Answer = DocumentAccepted | DocumentRefused


class FakeFetch:
    """Addresses with what is there: bytes and their declared type, or what is raised."""

    def __init__(self) -> None:
        self.there: dict[str, tuple[bytes, str | None]] = {}
        self.asked: list[tuple[str, int, str]] = []
        self.failures: dict[str, Exception] = {}
        self.holds: dict[str, asyncio.Event] = {}
        """What an address waits for before it says anything."""

    async def fetch(self, url: str, write: Write, *, size_bytes: int, sha256: str) -> str | None:
        self.asked.append((url, size_bytes, sha256))
        if url in self.holds:
            await self.holds[url].wait()
        if url in self.failures:
            await write(b"the first bytes")
            raise self.failures[url]
        content, media_type = self.there[url]
        for start in range(0, len(content), 1000):
            await write(content[start : start + 1000])
        if sha_of(content) != sha256:
            raise PermanentError(Code.SOURCE_MISMATCH, "the address has other bytes")
        return media_type


class IntakeDesk:
    """An intake that is handed records, and short ways to look at what came of them."""

    def __init__(self, desk: Desk, folder: Path, **rules: Any) -> None:
        self.desk = desk
        self.folder = folder
        self.blobs = DiskBlobs(folder)
        self.fetch = FakeFetch()
        self._rules = rules
        self._offset = 0
        self.intake = self.new_intake()

    def new_intake(self, **changes: Any) -> Intake:
        """Make an intake, as another process would; some collaborators changed."""
        values: dict[str, Any] = {"max_bytes": MAX_BYTES, "tenant_modes": frozenset()}
        values |= {"defaults": Defaults(), "tables": self.desk.tables, "blobs": self.blobs}
        values |= self._rules | changes
        terms = Terms(TIMINGS, values["defaults"])
        rules = AdmissionRules(values["tables"], terms, values["tenant_modes"], values["max_bytes"])
        sources = NamedSources(values["blobs"], self.fetch, max_bytes=values["max_bytes"])
        speakers = read_speakers(SPEAKERS)
        return Intake(speakers, rules, sources, self.desk.recorder, cluster_id="c")

    def record(
        self,
        value: bytes | None = b"some text",
        headers: dict[str, str | bytes] | None = None,
        *,
        topic: str = "documents.submitted",
        key: bytes | None = b"\xffk",
    ) -> Record:
        """Make a record at the next offset: the submission s-1 of acme where nothing else is said.

        An empty header is left out.
        """
        said: dict[str, str | bytes] = {"ce_id": "s-1", "pw-tenant": "acme"}
        said |= headers or {}
        pairs = tuple((n, v.encode() if isinstance(v, str) else v) for n, v in said.items() if v)
        self._offset += 1
        return Record(Partition(topic, 0), self._offset, key, value, pairs, NOW)

    async def submit(self, record: Record, intake: Intake | None = None) -> Answer:
        """Hand out a record, and give the one answer to it."""
        await (intake or self.intake).handle(submitted_by(record))
        (event,) = self.answers()
        assert isinstance(event.body, Answer)
        return event.body

    async def send(
        self, value: bytes | None = b"some text", headers: Any = None, **more: Any
    ) -> Answer:
        """Make a record, hand it out, and give the answer."""
        return await self.submit(self.record(value, headers, **more))

    async def name(self, headers: Any = None, **body: Any) -> Answer:
        """Submit a document by its name."""
        value = orjson.dumps({"size_bytes": 9, "sha256": sha_of(b"some text")} | body)
        return await self.send(value, NAMES_ONE | (headers or {}))

    def answers(self) -> list[Event]:
        """Give the answers announced since the last time."""
        rows = [row for row in self.desk.announced if row.topic == "documents.answered"]
        for row in rows:
            self.desk.announced.remove(row)
        return [decode_row(row) for row in rows]

    def uploaded(self) -> list[DocumentUploaded]:
        """Give the offers of documents announced since the last time."""
        return [e.body for e in self.desk.said() if isinstance(e.body, DocumentUploaded)]

    def files(self) -> list[str]:
        """Give every blob's file, the unfinished ones too."""
        return files_below(self.folder)

    async def jobs(self) -> int:
        """Count the jobs."""
        return sum(row["jobs"] for row in await self.desk.rows("jobs.counts"))


def submitted_by(record: Record) -> Submitted | Unfit:
    """Read a record as the intake's ground does."""
    found = read_record(record)
    assert not isinstance(found, Parked)
    return found


def sha_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files_below(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in found)


@asynccontextmanager
async def open_intake_desk(folder: Path, **rules: Any) -> AsyncIterator[IntakeDesk]:
    """Open tables, and blobs in a folder; producers on three topics."""
    async with open_memory_desk() as desk:
        yield IntakeDesk(desk, folder / "blobs", **rules)


def failing(real: Any, **replaced: Callable[..., Any]) -> Any:
    """Stand in front of a collaborator whose named calls do something else."""

    class Front:
        def __getattr__(self, name: str) -> Any:
            return replaced.get(name) or getattr(real, name)

    return Front()
