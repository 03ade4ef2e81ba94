"""What `submit --bus` prints: each file with its answer, and whether all were taken."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from schemas.submission_events import DocumentAccepted, DocumentRefused
from schemas.submission_record import LONGEST_ID, is_submission_id
from services.cli.brokers import find_bus
from services.cli.bus_submission import BusSubmission, BusTerms, submit_over_bus
from services.cli.terminal import FAILED, CommandError, print_json, print_table
from services.config import load_settings


def send_files(
    files: Sequence[Path], terms: BusTerms, submission_id: str | None, *, wait: bool, json: bool
) -> None:
    """Send the files, and tell what became of them; exit with 1 where one was not taken."""
    submissions = [BusSubmission(file) for file in files]
    if submission_id is not None:
        if len(submissions) > 1:
            raise CommandError(f"--id names one submission, and these are {len(submissions)} files")
        if not is_submission_id(submission_id):
            raise CommandError(f"--id has 1 to {LONGEST_ID} printable characters")
        submissions[0].id = submission_id
    settings = load_settings()
    asyncio.run(
        submit_over_bus(lambda: find_bus(settings, "submit"), submissions, terms, wait=wait)
    )
    if json:
        print_json({"submissions": [_as_json(one) for one in submissions]})
    else:
        columns = ("submission", "file", "job", "state", "note")
        print_table(columns, (_row(one) for one in submissions))
    if any(one.error or isinstance(one.answer, DocumentRefused) for one in submissions):
        raise typer.Exit(FAILED)


def _row(one: BusSubmission) -> tuple[str | None, ...]:
    answer = one.answer
    if isinstance(answer, DocumentAccepted):
        note = "known already" if answer.duplicate else None
        return one.id, str(one.file), answer.job_id, answer.state, note
    if isinstance(answer, DocumentRefused):
        return one.id, str(one.file), None, "refused", f"{answer.message} ({answer.code})"
    return one.id, str(one.file), None, "sent" if one.sent else None, one.error


def _as_json(one: BusSubmission) -> dict[str, Any]:
    return {
        "file": str(one.file),
        "submission_id": one.id,
        "sent": one.sent,
        "accepted": one.answer if isinstance(one.answer, DocumentAccepted) else None,
        "refused": one.answer if isinstance(one.answer, DocumentRefused) else None,
        "error": one.error,
    }
