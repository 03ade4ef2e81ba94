"""The verb `submit`: many files at once, followed to their end when asked."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.topics import DOCUMENTS_SUBMITTED
from services.cli.bus_submission import BusTerms
from services.cli.bus_submit import send_files
from services.cli.client import UploadOptions, open_client
from services.cli.job_verbs import Json
from services.cli.run_file import Target, find_target
from services.cli.submission import Submission, Submitter, open_bars
from services.cli.terminal import ERR, FAILED, CommandError, print_json, print_table
from services.config import load_settings

_ATTEMPTS = 8


Files = Annotated[list[Path], typer.Argument(metavar="FILE...", exists=True)]
To = Annotated[
    Path | None, typer.Option(help="Write results here as <name>.md; waits.", file_okay=False)
]
MaxPages = Annotated[int | None, typer.Option(min=1, help="Refuse longer documents.")]
Pages = Annotated[str | None, typer.Option(help="Parse these alone, as in 1,3-5.")]
Mode = Annotated[str | None, typer.Option(help="local, real, hybrid or mock.")]
Tier = Annotated[str | None, typer.Option(help="LlamaParse: its tier, as agentic.")]
Languages = Annotated[
    str | None, typer.Option(help="LlamaParse: of the OCR, the main one first: en,de.")
]
Prompt = Annotated[str | None, typer.Option(help="LlamaParse: what to heed.")]
NoCache = Annotated[
    bool, typer.Option("--disable-cache", help="LlamaParse: take no earlier result.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the jobs to their end.")]
Force = Annotated[bool, typer.Option("--force", help="Parse known documents anew.")]
OverBus = Annotated[bool, typer.Option("--bus", help="Send records, and read their answers.")]
Tenant = Annotated[str | None, typer.Option(help="--bus: whose documents they are.")]
Reference = Annotated[str | None, typer.Option(help="--bus: what you call their jobs.")]
OnTopic = Annotated[str | None, typer.Option(help="--bus: the topic they are sent to.")]
SubmissionId = Annotated[
    str | None, typer.Option("--id", help="--bus: of a single file; the same twice is one.")
]
Within = Annotated[float, typer.Option(min=1, help="--bus: seconds until it gives up.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="--bus: wait for no answer.")]


def submit(
    files: Files,
    to: To = None,
    max_pages: MaxPages = None,
    pages: Pages = None,
    mode: Mode = None,
    tier: Tier = None,
    languages: Languages = None,
    prompt: Prompt = None,
    tenant: Tenant = None,
    reference: Reference = None,
    topic: OnTopic = None,
    submission_id: SubmissionId = None,
    within: Within = 60.0,
    *,
    disable_cache: NoCache = False,
    wait: Wait = False,
    force: Force = False,
    bus: OverBus = False,
    no_wait: NoWait = False,
    json: Json = False,
) -> None:
    """Upload documents, or send them over the bus; a folder stands for the files in it."""
    options = UploadOptions(
        max_pages=max_pages,
        target_pages=pages,
        mode=mode,
        tier=tier,
        languages=languages,
        prompt=prompt,
        disable_cache=disable_cache,
        force=force,
    )
    found = documents(files)
    if not bus:
        if no_wait or any((tenant, reference, topic, submission_id)):
            raise CommandError("--tenant, --reference, --topic, --id and --no-wait are for --bus")
        _upload(found, options, to, wait=wait, json=json)
        return
    if wait or to is not None:
        raise CommandError("--wait and --to go over HTTP; see `parsewire watch` beside --bus")
    fields, target = options.fields(), topic or DOCUMENTS_SUBMITTED.name
    terms = BusTerms(target, tenant, reference, fields, within)
    send_files(found, terms, submission_id, wait=not no_wait, json=json)


def _upload(
    files: Sequence[Path], options: UploadOptions, to: Path | None, *, wait: bool, json: bool
) -> None:
    submissions = [Submission(file) for file in files]
    if to is not None:
        to.mkdir(parents=True, exist_ok=True)
        for submission, name in zip(submissions, result_names(submissions), strict=True):
            submission.result = to / name
    target = find_target(load_settings())
    asyncio.run(_submit(target, submissions, options, wait=wait or to is not None))
    if json:
        print_json({"submissions": [_as_json(one) for one in submissions]})
    else:
        _show(submissions)
    if any(one.error for one in submissions):
        raise typer.Exit(FAILED)


async def _submit(
    target: Target, submissions: Sequence[Submission], options: UploadOptions, *, wait: bool
) -> None:
    async with open_client(target) as client:
        await client.check()
    files = [submission.file for submission in submissions]
    async with open_client(target, attempts=_ATTEMPTS) as client:
        with open_bars(ERR, files, wait=wait) as bars:
            await Submitter(client, options, bars).run(submissions, wait=wait)


def documents(paths: Sequence[Path]) -> list[Path]:
    """Give the files, and those in the folders without the hidden ones; each once."""
    found: dict[Path, None] = {}
    for path in paths:
        found.update(dict.fromkeys(_files_in(path) if path.is_dir() else [path]))
    if not found:
        raise CommandError("there is no file in what was given")
    return list(found)


def _files_in(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def result_names(submissions: Sequence[Submission]) -> list[str]:
    """Name each result after its file, and files of one name by number."""
    names: list[str] = []
    taken: set[str] = set()
    for submission in submissions:
        stem, number = submission.file.stem, 1
        while (name := f"{stem}.md" if number == 1 else f"{stem}-{number}.md") in taken:
            number += 1
        taken.add(name)
        names.append(name)
    return names


def _show(submissions: Sequence[Submission]) -> None:
    print_table(
        ("job", "file", "state", "pages", "note"),
        ((one.job_id, one.file, one.state, one.pages, _note(one)) for one in submissions),
    )


def _note(submission: Submission) -> str | None:
    if submission.error:
        return submission.error
    if submission.result is not None:
        return f"-> {submission.result}"
    return "known already" if submission.duplicate else None


def _as_json(submission: Submission) -> dict[str, Any]:
    return {
        "file": str(submission.file),
        "job_id": submission.job_id,
        "state": submission.state,
        "duplicate": submission.duplicate,
        "pages": submission.pages,
        "error": submission.error,
        "result": None if submission.result is None else str(submission.result),
    }
