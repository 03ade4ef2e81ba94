"""The verb `watch`: which moves it shows, and how."""

import json

import pytest

from schemas.events import BlobRef, Event, JobMoved
from services.cli.watch import Wanted, as_json, as_line, shower
from streams.bus.base import Partition, Record
from tests.harness import event_of, record_of

JOB = "01890000-0000-7000-8000-00000000000a"
OTHER = "01890000-0000-7000-8000-00000000000b"
EVENT_ID = "01890000-0000-7000-8000-0000000000ee"
LINK = "https://docs.example.com/api/v1/results/a.b"


def moved(job_id: str = JOB, tenant: str = "acme", reference: str | None = "inv-7") -> Event:
    result = BlobRef("acme/j/1/result", "b" * 64, 5)
    body = JobMoved(
        *(job_id, tenant, 1, "d", "parsed", "complete", None),
        *("liteparse", 3, result, reference, LINK),
    )
    return event_of(body, EVENT_ID)


def lines_of(capsys: pytest.CaptureFixture[str], wanted: Wanted, *events: Event) -> list[str]:
    show = shower(wanted, as_line)
    for event in events:
        show(record_of(event, "jobs.moved"))
    return capsys.readouterr().out.splitlines()


def test_a_line_says_what_a_person_wants_and_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of(capsys, Wanted(), moved()) == [
        f"2027-01-15 08:00:00.000Z  {JOB}  acme  inv-7  parsed -> complete  liteparse  3 pages"
    ]


def test_what_a_producer_wrote_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = lines_of(capsys, Wanted(), moved(reference="a\x1b[2J\nb"))
    assert "  a [2J b  " in line


def test_a_failure_says_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    failed = JobMoved(JOB, "acme", 2, "d", None, "failed_parse", "document_broken", None, 1)
    (line,) = lines_of(capsys, Wanted(), event_of(failed))
    assert line.endswith("  acme  - -> failed_parse  1 page  document_broken")


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (Wanted(), [0, 1, 2]),
        (Wanted(tenant="acme"), [0, 2]),
        (Wanted(job_id=OTHER), [1]),
        (Wanted(reference="inv-7"), [0, 1]),
        (Wanted("acme", JOB, "inv-7"), [0]),
        (Wanted("globex", JOB), []),
    ],
)
def test_only_what_is_wanted_is_shown(
    wanted: Wanted, shown: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    events = (moved(), moved(OTHER, "globex"), moved(reference=None))
    expected = [as_line(events[at], events[at].body) for at in shown]  # type: ignore[arg-type]  # a move
    assert lines_of(capsys, wanted, *events) == expected


def test_a_scripts_line_is_the_whole_event() -> None:
    event = moved()
    assert isinstance(event.body, JobMoved)
    assert json.loads(as_json(event, event.body)) == {
        "id": EVENT_ID,
        "time": "2027-01-15T08:00:00Z",
        "job_id": JOB,
        "tenant": "acme",
        "attempt": 1,
        "document_id": "d",
        "from_state": "parsed",
        "to_state": "complete",
        "code": None,
        "parser": "liteparse",
        "pages": 3,
        "result": {"key": "acme/j/1/result", "sha256": "b" * 64, "size_bytes": 5},
        "reference": "inv-7",
        "result_url": LINK,
    }


def test_what_is_no_event_is_said_and_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    show = shower(Wanted(), as_line)
    show(Record(Partition("jobs.moved", 3), 41, b"k", b"{", (("ce_type", b"x"),), 0))
    show(record_of(moved(), "jobs.moved"))
    captured = capsys.readouterr()
    assert captured.err.startswith("jobs.moved 3 41: ce_type 'x' is no event's")
    assert len(captured.out.splitlines()) == 1
