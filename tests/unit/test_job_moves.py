"""The moves of a job: the table, its guards, and no way into an illegal state."""

import re

import pytest

from schemas import events as ev
from schemas.job import OPEN, RULES, UNFINISHED, Ignored, Job, Moved, State, move
from schemas.timings import Clock, Timings
from streams.tables.queries import load_migrations, load_queries

NOW = 1_800_000_000_000
SHA = "a" * 64
TIMINGS = Timings(offer_again_ms=30_000, lease_ms=15_000, poll_ms=30_000)
SOURCE = ev.BlobRef("acme/job/source", SHA, 10)
RESULT = ev.BlobRef("acme/job/1/result", SHA, 20)

LEGAL = {
    ("uploaded", "parsing"),
    ("uploaded", "parse_queued"),
    ("uploaded", "parsed"),
    ("uploaded", "retry_wait"),
    ("uploaded", "failed_parse"),
    ("uploaded", "cancelled"),
    ("parsing", "parse_queued"),
    ("parsing", "parsed"),
    ("parsing", "retry_wait"),
    ("parsing", "failed_parse"),
    ("parsing", "cancelled"),
    ("parse_queued", "parsed"),
    ("parse_queued", "retry_wait"),
    ("parse_queued", "failed_parse"),
    ("parse_queued", "cancelled"),
    ("retry_wait", "uploaded"),
    ("retry_wait", "cancelled"),
    ("parsed", "complete"),
    ("parsed", "cancelled"),
    ("failed_parse", "uploaded"),
    ("failed_parse", "deleted"),
    ("cancelled", "uploaded"),
    ("cancelled", "deleted"),
    ("complete", "deleted"),
}


def job(state: State = State.UPLOADED, **changes: object) -> Job:
    values: dict[str, object] = {
        "id": "job",
        "tenant": "acme",
        "document_id": "doc",
        "options": ev.ParseOptions(),
        "generation": 1,
        "state": state,
        "attempt": 1,
        "tries": 0,
        "losses": 0,
        "name": "a.pdf",
        "media_type": "application/pdf",
        "source": SOURCE,
        "created_ms": NOW,
        "updated_ms": NOW,
    }
    return Job(**(values | changes))  # type: ignore[arg-type]  # the values are typed above


def clock(chance: float = 0.5) -> Clock:
    return Clock(NOW, lambda: chance, TIMINGS)


def failed(
    *, transient: bool, code: str = "parser_unavailable", after: float | None = None
) -> ev.ParseFailed:
    return ev.ParseFailed(
        "job", "acme", 1, code, "why", transient=transient, retry_after_seconds=after
    )


def succeeded(attempt: int = 1) -> ev.ParseSucceeded:
    return ev.ParseSucceeded("job", "acme", attempt, RESULT, "liteparse", "2", 3, ("w",))


def moved(outcome: Moved | Ignored) -> Moved:
    assert isinstance(outcome, Moved), outcome
    return outcome


def test_success_goes_through_parsed_to_complete() -> None:
    outcome = moved(move(job(State.PARSING), succeeded(), clock()))
    assert outcome.through == (State.PARSED, State.COMPLETE)
    assert outcome.step_due_ms is None
    assert outcome.job.result == RESULT
    assert (outcome.job.pages, outcome.job.warnings) == (3, ("w",))


def test_success_does_not_need_the_start_to_arrive_first() -> None:
    assert moved(move(job(State.UPLOADED), succeeded(), clock())).job.state is State.COMPLETE


def test_late_success_of_an_older_attempt_is_ignored() -> None:
    outcome = move(job(State.PARSING, attempt=2), succeeded(1), clock())
    assert outcome == Ignored("attempt 1, the job is at 2")


@pytest.mark.parametrize("state", sorted(set(State) - OPEN))
def test_success_changes_nothing_that_is_not_open(state: State) -> None:
    assert move(job(state), succeeded(), clock()) == Ignored(f"not from {state}")


def test_transient_failure_waits_with_full_jitter() -> None:
    outcome = moved(move(job(State.PARSING), failed(transient=True), clock(0.5)))
    assert outcome.job.state is State.RETRY_WAIT
    assert outcome.step_due_ms == NOW + 1_000
    third = moved(move(job(State.PARSING, tries=2), failed(transient=True), clock(0.5)))
    assert third.step_due_ms == NOW + 4_000


def test_retry_after_is_honoured() -> None:
    outcome = moved(move(job(State.PARSING), failed(transient=True, after=7.5), clock(0.0)))
    assert outcome.step_due_ms == NOW + 7_500


@pytest.mark.parametrize("after", [3_601.0, 31_536_000.0, 1e308])
def test_nobody_makes_a_job_wait_longer_than_an_hour(after: float) -> None:
    outcome = moved(move(job(State.PARSING), failed(transient=True, after=after), clock(0.9)))
    assert outcome.step_due_ms == NOW + 3_600_000
    for seconds, due_ms in ((after, NOW + 3_600_000), (-after, NOW)):
        body = ev.ParseDeferred("job", "acme", 1, "rate_limited", seconds)
        assert moved(move(job(State.PARSING), body, clock())).step_due_ms == due_ms


def test_a_negative_retry_after_is_none() -> None:
    outcome = moved(move(job(State.PARSING), failed(transient=True, after=-5.0), clock(0.5)))
    assert outcome.step_due_ms == NOW + 1_000


@pytest.mark.parametrize("state", sorted(UNFINISHED))
def test_a_cancelled_job_names_no_result(state: State) -> None:
    before = job(
        state, result=RESULT, pages=3, warnings=("w",), parser="liteparse", vendor_job_id="v"
    )
    after = moved(move(before, ev.CancelRequested("job", "acme", 1), clock()))
    assert (after.job.state, after.step_due_ms) == (State.CANCELLED, None)
    assert (after.job.result, after.job.pages, after.job.warnings) == (None, None, ())


def test_fifth_transient_failure_is_final() -> None:
    assert (
        moved(move(job(State.PARSING, tries=3), failed(transient=True), clock())).job.state
        is State.RETRY_WAIT
    )
    last = moved(move(job(State.PARSING, tries=4), failed(transient=True), clock()))
    assert (last.job.state, last.job.tries, last.step_due_ms) == (State.FAILED_PARSE, 5, None)


def test_permanent_failure_is_final_at_once() -> None:
    outcome = moved(move(job(State.PARSING), failed(transient=False), clock()))
    assert (outcome.job.state, outcome.job.error_code) == (State.FAILED_PARSE, "parser_unavailable")


def test_lost_workers_count_apart_from_tries_and_the_eleventh_is_final() -> None:
    lost = failed(transient=True, code="worker_lost")
    tenth = moved(move(job(State.PARSING, losses=9), lost, clock()))
    assert (tenth.job.state, tenth.job.losses, tenth.job.tries) == (State.RETRY_WAIT, 10, 0)
    eleventh = moved(move(job(State.PARSING, losses=10), lost, clock()))
    assert eleventh.job.state is State.FAILED_PARSE


def test_deferral_counts_nothing_and_waits_until_its_time() -> None:
    body = ev.ParseDeferred("job", "acme", 1, "shutdown", 90.0)
    outcome = moved(move(job(State.PARSING, tries=2, losses=1), body, clock()))
    assert (outcome.job.state, outcome.job.tries, outcome.job.losses) == (State.RETRY_WAIT, 2, 1)
    assert outcome.step_due_ms == NOW + 90_000
    at_once = moved(move(job(), ev.ParseDeferred("job", "acme", 1, "shutdown"), clock()))
    assert at_once.step_due_ms == NOW


def test_only_a_budget_is_waited_for_longer_than_an_hour() -> None:
    day, year = 86_400.0, 31_536_000.0
    for code, seconds, wait_ms in (
        ("budget_spent", 30 * day, 30 * 86_400_000),
        ("budget_spent", year, 32 * 86_400_000),
        ("spending_frozen", day, 3_600_000),
        ("circuit_open", day, 3_600_000),
    ):
        deferred = ev.ParseDeferred("j", "t", 1, code, seconds)
        outcome = moved(move(job(State.PARSING), deferred, clock()))
        assert outcome.step_due_ms == NOW + wait_ms


def test_a_deferral_leaves_no_word_of_an_earlier_failure() -> None:
    before = job(State.PARSING, error_code="vendor_stuck", error_message="pending for 600 s")
    after = moved(move(before, ev.ParseDeferred("job", "acme", 1, "circuit_open"), clock())).job
    assert (after.error_code, after.error_message) == ("circuit_open", None)


def test_retry_due_begins_the_next_attempt() -> None:
    outcome = moved(move(job(State.RETRY_WAIT, tries=2), ev.RetryDue("job", "acme", 1), clock()))
    assert (outcome.job.state, outcome.job.attempt, outcome.job.tries) == (State.UPLOADED, 2, 2)
    assert outcome.step_due_ms == NOW + 30_000


def test_a_person_asking_for_a_retry_starts_the_counts_again() -> None:
    before = job(State.FAILED_PARSE, attempt=5, tries=5, losses=3, error_code="x")
    outcome = moved(move(before, ev.RetryRequested("job", "acme", 5), clock()))
    assert (outcome.job.state, outcome.job.attempt) == (State.UPLOADED, 6)
    assert (outcome.job.tries, outcome.job.losses, outcome.job.error_code) == (0, 0, None)


def test_doubled_retry_request_is_ignored() -> None:
    after = job(State.FAILED_PARSE, attempt=6)
    assert isinstance(move(after, ev.RetryRequested("job", "acme", 5), clock()), Ignored)


@pytest.mark.parametrize("state", sorted(UNFINISHED))
def test_cancel_ends_whatever_is_unfinished(state: State) -> None:
    outcome = moved(move(job(state), ev.CancelRequested("job", "acme", 9), clock()))
    assert (outcome.job.state, outcome.step_due_ms) == (State.CANCELLED, None)


def test_delete_cancels_first_and_leaves_a_tombstone() -> None:
    outcome = moved(move(job(State.PARSING), ev.DeleteRequested("job", "acme", 1), clock()))
    assert outcome.through == (State.CANCELLED, State.DELETED)
    assert (outcome.step_due_ms, outcome.erase_due_ms) == (None, NOW)
    complete = job(State.COMPLETE, result=RESULT, parser="p")
    done = moved(move(complete, ev.DeleteRequested("job", "acme", 1), clock()))
    assert (done.through, done.job.result) == ((State.DELETED,), None)


def test_an_event_of_no_job_is_ignored() -> None:
    assert move(None, ev.RetryDue("job", "acme", 1), clock()) == Ignored("no such job")


def test_every_input_event_has_a_rule() -> None:
    assert set(RULES) == {
        ev.ParseStarted,
        ev.ParseQueued,
        ev.ParseSucceeded,
        ev.ParseFailed,
        ev.ParseDeferred,
        ev.RetryDue,
        ev.CancelRequested,
        ev.RetryRequested,
        ev.DeleteRequested,
    }


def test_sql_check_names_the_same_states() -> None:
    checks = re.findall(r"CHECK \(\s*state = .*?'\),", "".join(load_migrations()), re.DOTALL)
    assert set(re.findall(r"state = '(\w+)'", checks[-1])) == {state.value for state in State}


@pytest.mark.parametrize("query", ["jobs.oldest_unfinished", "jobs.unfinished_without_timer"])
def test_sql_names_the_same_unfinished_states(query: str) -> None:
    finished = set(re.findall(r"state != '(\w+)'", load_queries()[query]))
    assert finished == {state.value for state in State if state not in UNFINISHED}


@pytest.mark.parametrize("query", ["attempts.renew", "attempts.end"])
def test_sql_names_the_same_open_states(query: str) -> None:
    match = re.search(r"state IN \((.*?)\)", load_queries()[query], re.DOTALL)
    assert match is not None
    assert set(re.findall(r"'(\w+)'", match[1])) == {state.value for state in OPEN}
