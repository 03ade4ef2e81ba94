"""The bench's ground: its folder, its broker, and the cores that it has."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tests.brokers import open_kafka

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build"


@dataclass(frozen=True, slots=True)
class Ground:
    """What every measurement is given."""

    folder: Path
    servers: str
    """The broker's bootstrap servers; empty where no measurement asked for a broker."""
    console: Console
    repeat: int

    @property
    def cores(self) -> int:
        """Tell how many documents are parsed at once, on either side."""
        return os.cpu_count() or 1

    def folder_of(self, name: str) -> Path:
        """Make a folder for one measurement."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        return folder

    def say(self, text: str) -> None:
        """Tell what is under way."""
        self.console.print(f"[dim]{text}[/]", highlight=False)


@asynccontextmanager
async def open_ground(console: Console, *, repeat: int, broker: bool) -> AsyncIterator[Ground]:
    """Lend a folder under build/, and a real Kafka as a process of its own."""
    BUILD.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=BUILD))
    try:
        if not broker:
            yield Ground(folder, "", console, repeat)
            return
        async with open_kafka(folder / "kafka") as servers:
            yield Ground(folder, servers, console, repeat)
    except BaseException:
        console.print(f"[red]what the processes said is in {folder}[/]")
        raise
    shutil.rmtree(folder)
