"""Submitting files: bounded uploads beside the following of their jobs."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from schemas.http import JobBody
from schemas.job import RETRYABLE, State
from services.cli.client import GatewayClient, GatewayError, UploadOptions
from services.cli.follow import Following

_UPLOADS_AT_ONCE = 8


@dataclass(slots=True)
class Submission:
    """A file and what became of it; `result` is where its Markdown is to be written."""

    file: Path
    result: Path | None = None
    job_id: str | None = None
    state: str | None = None
    duplicate: bool | None = None
    pages: int | None = None
    error: str | None = None


class Bars:
    """The progress bars: bytes and files sent, jobs ended."""

    def __init__(self, progress: Progress, files: int, size_bytes: int, *, wait: bool) -> None:
        self._progress = progress
        self._files = files
        self._uploaded = 0
        self._ended = 0
        self._uploads = progress.add_task("uploads", total=size_bytes, note="")
        self._jobs = progress.add_task("jobs", total=files, note="", visible=wait)
        self.sent(0)

    def sent(self, size_bytes: int) -> None:
        """Count bytes; fewer than none when a file begins anew."""
        self._progress.advance(self._uploads, size_bytes)
        done = decimal(int(self._progress.tasks[self._uploads].completed))
        note = f"{self._uploaded}/{self._files} files, {done}"
        self._progress.update(self._uploads, note=note)

    def uploaded(self) -> None:
        """Count a file."""
        self._uploaded += 1
        self.sent(0)

    def ended(self) -> None:
        """Count a job, or a file that became none."""
        self._ended += 1
        note = f"{self._ended}/{self._files} ended"
        self._progress.update(self._jobs, advance=1, note=note)


@contextmanager
def open_bars(console: Console, files: Sequence[Path], *, wait: bool) -> Iterator[Bars]:
    """Show progress bars on the console, where it is a terminal."""
    columns = (TextColumn("{task.description:<8}"), BarColumn(), TextColumn("{task.fields[note]}"))
    size_bytes = sum(file.stat().st_size for file in files)
    with Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        yield Bars(progress, len(files), size_bytes, wait=wait)


class Submitter:
    """Uploads files, and, where asked, follows their jobs and fetches their results."""

    def __init__(self, client: GatewayClient, options: UploadOptions, bars: Bars) -> None:
        self._client = client
        self._options = options
        self._bars = bars
        self._pending: dict[str, list[Submission]] = {}
        self._following = Following(client)

    async def run(self, submissions: Sequence[Submission], *, wait: bool) -> None:
        """Fill in what became of each; a file's failure is its own and stops no other."""
        async with asyncio.TaskGroup() as group:
            if wait:
                group.create_task(self._follow(submissions))
            await self._upload_all(submissions)
            self._following.close()

    async def _upload_all(self, submissions: Iterable[Submission]) -> None:
        waiting = iter(submissions)

        async def upload_by_turns() -> None:
            for submission in waiting:
                try:
                    await self._upload(submission)
                except (GatewayError, OSError) as error:
                    submission.error = str(error)
                    self._bars.ended()
                self._bars.uploaded()

        async with asyncio.TaskGroup() as group:
            for _ in range(_UPLOADS_AT_ONCE):
                group.create_task(upload_by_turns())

    async def _upload(self, submission: Submission) -> None:
        kept = await self._client.upload(submission.file, self._options, self._bars.sent)
        submission.job_id = kept.job_id
        submission.state = kept.state
        submission.duplicate = kept.duplicate
        past_attempt = 0
        if kept.duplicate and kept.state in RETRYABLE:
            # The upload has asked for it too; this answer names the attempt that is over.
            asked = await self._client.retry(kept.job_id)
            past_attempt = asked.attempt if asked else 0
        # Files of the same bytes are one job.
        self._pending.setdefault(kept.job_id, []).append(submission)
        self._following.add(kept.job_id, past_attempt=past_attempt)

    async def _follow(self, submissions: Sequence[Submission]) -> None:
        try:
            async for job in self._following.ends():
                for submission in self._pending.pop(job.job_id, []):
                    await self._finish(submission, job)
                    self._bars.ended()
        except GatewayError as error:
            for submission in submissions:
                if submission.error is None and submission.state != State.COMPLETE:
                    submission.error = str(error)

    async def _finish(self, submission: Submission, job: JobBody) -> None:
        submission.state = job.state
        submission.pages = job.pages
        if job.state != State.COMPLETE:
            error = job.error
            submission.error = (
                f"{error.message or error.title} ({error.code})" if error else job.state
            )
        elif submission.result is not None:
            try:
                content = await self._client.result(job.job_id, "md")
                await asyncio.to_thread(submission.result.write_bytes, content)
            except (GatewayError, OSError) as trouble:
                submission.error = str(trouble)
