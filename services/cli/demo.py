"""The verb `demo`: real documents through a real deployment, and what is to be seen of it."""

import asyncio
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from schemas.http import JobBody
from schemas.job import State
from schemas.topics import DOCUMENTS_UPLOADED, JOBS_EVENTS, JOBS_MOVED, WEBHOOKS_RECEIVED
from services.cli.client import GatewayClient, UploadOptions, open_client
from services.cli.demo_cloud import cloud_story
from services.cli.demo_story import Story, tell
from services.cli.deployment import Deployment, open_deployment
from services.cli.follow import follow
from services.cli.tail import open_tail
from services.cli.terminal import FAILED, OUT, CommandError
from services.cli.up import where
from services.config import Settings, load_settings
from services.logs import configure_logs
from services.wiring import build_bus

FIRST = "report.pdf"
"""The sample that must complete; others show how a bad document ends."""

_INTERRUPTED = 130
_READY_SECONDS = 60.0
_JOBS_SECONDS = 60.0
_TAIL_SECONDS = 10.0
_EMBEDDED_SESSION_SECONDS = 4.0
"""The embedded broker lets a group's first join wait half of it, and a demo is waited for."""


def demo(
    *, stay: Annotated[bool, typer.Option("--stay", help="Keep it running afterwards.")] = False
) -> None:
    """Send the sample documents through a deployment of their own, and show each step."""
    settings = load_settings()
    with _data_dir(settings, stay=stay) as data_dir:
        settings = _demo_settings(settings, Path(data_dir), stay=stay)
        configure_logs(settings, process="demo")
        code = asyncio.run(_demo(settings, samples(), stay=stay))
    if code:
        raise typer.Exit(code)


def samples() -> list[Path]:
    """Find the sample PDFs: in this directory, or in the clone that this file belongs to."""
    for root in (Path.cwd(), Path(__file__).resolve().parents[2]):
        found = sorted((root / "samples").glob("*.pdf"))
        if any(path.name == FIRST for path in found):
            return found
    raise CommandError(f"samples/{FIRST} is not here: run the demo in a clone of the project")


def _data_dir(settings: Settings, *, stay: bool) -> AbstractContextManager[str]:
    if stay or "data_dir" in settings.model_fields_set:
        return nullcontext(str(settings.data_dir))
    return tempfile.TemporaryDirectory(prefix="parsewire-demo-")


def _demo_settings(settings: Settings, data_dir: Path, *, stay: bool) -> Settings:
    changes: dict[str, object] = {"data_dir": data_dir}
    if "log_level" not in settings.model_fields_set:
        changes["log_level"] = "WARNING"
    embedded = not settings.kafka_bootstrap_servers
    if embedded and "kafka_session_timeout_seconds" not in settings.model_fields_set:
        changes["kafka_session_timeout_seconds"] = _EMBEDDED_SESSION_SECONDS
    if not (embedded or stay or "topic_prefix" in settings.model_fields_set):
        # Topics that other runs left on a real broker belong to other tables.
        changes["topic_prefix"] = f"parsewire-demo-{uuid.uuid4().hex[:8]}."
    return settings.model_copy(update=changes)


async def _demo(settings: Settings, files: Sequence[Path], *, stay: bool) -> int:
    code = _INTERRUPTED
    began = time.monotonic()
    async with open_deployment(settings, workers=1) as deployment:
        if not await deployment.wait_until_ready(_READY_SECONDS):
            raise CommandError(f"not ready after {_READY_SECONDS:g} s: see the log above")
        running = deployment.running()
        OUT.print(
            f"Ready after {time.monotonic() - began:.1f} s: gateway {running.gateway_url}, "
            f"broker {running.bootstrap_servers} ({running.cluster}), parser mode {settings.mode}",
            highlight=False,
        )
        story = await _send_through(deployment, files)
        tell(story)
        code = 0 if story.first.state == State.COMPLETE else FAILED
        OUT.print(f"\nAll told after {time.monotonic() - began:.1f} s.", highlight=False)
        if stay:
            for line in where(deployment):
                OUT.print(line, markup=False, highlight=False, soft_wrap=True)
            OUT.print("Ctrl-C ends it.")
            await deployment.wait_for_end()
    return 0 if stay and deployment.interrupted else code


async def _send_through(deployment: Deployment, files: Sequence[Path]) -> Story:
    running = deployment.running()
    settings = deployment.settings.model_copy(
        update={"kafka_bootstrap_servers": running.bootstrap_servers}
    )
    topics = (DOCUMENTS_UPLOADED, JOBS_EVENTS, JOBS_MOVED, WEBHOOKS_RECEIVED)
    async with (
        open_client(deployment.target, attempts=5) as client,
        open_tail(build_bus(settings, "demo"), topics) as tail,
    ):
        jobs = await _upload_and_follow(client, files)
        first = next(job for file, job in jobs.items() if file.name == FIRST)
        markdown = b""
        if first.state == State.COMPLETE:
            markdown = await client.result(first.job_id, "md")
        history = await client.history(first.job_id)
        events = await tail.of_jobs([first.job_id], within_seconds=_TAIL_SECONDS)
        cloud = await cloud_story(settings, jobs, first, tail)
        jobs = {file: await client.job(job.job_id) for file, job in jobs.items()}
    prefix = settings.topic_prefix
    return Story(jobs, first, markdown.decode(), history, events, prefix, cloud)


async def _upload_and_follow(
    client: GatewayClient, files: Sequence[Path]
) -> Mapping[Path, JobBody]:
    options = UploadOptions(force=True)
    kept = await asyncio.gather(*(client.upload(file, options) for file in files))
    try:
        async with asyncio.timeout(_JOBS_SECONDS):
            ends = await follow(client, (one.job_id for one in kept))
    except TimeoutError:
        raise CommandError(f"not every job ended within {_JOBS_SECONDS:g} s") from None
    return {file: ends[one.job_id] for file, one in zip(files, kept, strict=True)}
