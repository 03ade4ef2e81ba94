"""Moves of a job by any sequence of events: none leads into an illegal state."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from schemas import events as ev
from schemas.job import UNFINISHED, Ignored, State, move
from tests.unit.test_job_moves import LEGAL, clock, job, succeeded

attempts = st.integers(1, 4)
bodies: st.SearchStrategy[ev.JobInput] = st.one_of(
    attempts.map(lambda a: ev.ParseStarted("job", "acme", a, "w")),
    attempts.map(lambda a: ev.ParseQueued("job", "acme", a, "llamaparse", "v")),
    attempts.map(succeeded),
    st.builds(
        lambda a, transient, code: ev.ParseFailed("job", "acme", a, code, "m", transient),
        attempts,
        st.booleans(),
        st.sampled_from(["worker_lost", "parse_timeout"]),
    ),
    attempts.map(lambda a: ev.ParseDeferred("job", "acme", a, "shutdown")),
    attempts.map(lambda a: ev.RetryDue("job", "acme", a)),
    attempts.map(lambda a: ev.CancelRequested("job", "acme", a)),
    attempts.map(lambda a: ev.RetryRequested("job", "acme", a)),
    attempts.map(lambda a: ev.DeleteRequested("job", "acme", a)),
)


@given(st.lists(bodies, max_size=40), st.floats(0, 0.999))
def test_no_sequence_of_events_reaches_an_illegal_state(
    sequence: list[ev.JobInput], chance: float
) -> None:
    current = job()
    for body in sequence:
        outcome = move(current, body, clock(chance))
        if isinstance(outcome, Ignored):
            continue
        states = [current.state, *outcome.through]
        assert {(a.value, b.value) for a, b in itertools.pairwise(states)} <= LEGAL
        after = outcome.job
        assert after.state is outcome.through[-1]
        assert after.attempt - current.attempt == (after.state is State.UPLOADED)
        assert (outcome.step_due_ms is not None) == (after.state in UNFINISHED)
        assert (after.result is not None) == (after.state is State.COMPLETE)
        assert after.tries <= 5
        assert after.losses <= 11
        current = after
