"""The circuit's moves: what opens it, for how long, and what closes it."""

import pytest

from schemas.errors import Code
from streams.circuit import Circuit, Standing, Trouble

NOW = 1_800_000_000_000
CLOSED = Circuit(since_ms=NOW)


def failing(circuit: Circuit, times: int, now_ms: int = NOW) -> Circuit:
    for _ in range(times):
        circuit = circuit.judged(now_ms, circuit.epoch, "submit", Code.PARSER_UNAVAILABLE)
    return circuit


def test_the_fifth_failure_in_a_row_opens() -> None:
    four = failing(CLOSED, 4)
    assert (four.state, four.failures) == (Standing.CLOSED, 4)
    five = failing(CLOSED, 5)
    assert (five.state, five.until_ms, five.reason) == (
        Standing.OPEN,
        NOW + 5_000,
        "parser_unavailable",
    )
    assert five.epoch == 1


def test_an_answer_between_failures_begins_the_count_anew() -> None:
    circuit = failing(CLOSED, 4).judged(NOW, 0, "look", None)
    assert circuit.failures == 0
    assert failing(circuit, 4).state is Standing.CLOSED


@pytest.mark.parametrize("code", [Code.VENDOR_UNAUTHORIZED, Code.VENDOR_QUOTA_SPENT])
def test_what_needs_a_person_opens_at_once_and_for_good(code: Code) -> None:
    opened = CLOSED.judged(NOW, 0, "submit", code)
    assert (opened.state, opened.until_ms, opened.reason) == (Standing.OPEN, None, code.value)
    assert opened.refuses_ms(NOW + 10**10) == 300_000
    closed = opened.closed(NOW + 1)
    assert (closed.state, closed.refuses_ms(NOW + 1), closed.reason) == (
        Standing.CLOSED,
        None,
        None,
    )


@pytest.mark.parametrize(
    "code", [None, Code.VENDOR_RATE_LIMITED, Code.VENDOR_REFUSED, Code.DOCUMENT_TOO_LARGE]
)
def test_any_answer_shows_that_the_service_lives(code: Code | None) -> None:
    circuit = failing(CLOSED, 4).judged(NOW, 0, "submit", code)
    assert (circuit.state, circuit.failures, circuit.last_success_ms) == (Standing.CLOSED, 0, NOW)


def test_one_probe_goes_out_when_the_wait_is_over() -> None:
    opened = failing(CLOSED, 5)
    assert opened.refuses_ms(NOW + 4_999) == 1
    assert opened.refuses_ms(NOW + 5_000) is None
    probing = opened.entered(NOW + 5_000)
    assert (probing.state, probing.epoch) == (Standing.HALF_OPEN, 2)
    assert probing.refuses_ms(NOW + 5_001) == 89_999
    answered = probing.judged(NOW + 6_000, 2, "look", None)
    assert (answered.state, answered.failures, answered.opens) == (Standing.CLOSED, 0, 0)


def test_a_failed_probe_opens_for_twice_as_long_up_to_five_minutes() -> None:
    circuit, now, waits = failing(CLOSED, 5), NOW, []
    for _ in range(8):
        assert circuit.until_ms is not None
        waits.append(circuit.until_ms - now)
        now = circuit.until_ms
        circuit = failing(circuit.entered(now), 1, now)
    assert waits == [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]
    answered = circuit.entered(now).judged(now, circuit.epoch + 1, "look", None)
    assert failing(answered, 5, now).until_ms == now + 5_000


def test_a_probe_whose_process_died_frees_itself() -> None:
    probing = failing(CLOSED, 5).entered(NOW + 5_000)
    assert probing.refuses_ms(NOW + 95_000) is None
    again = probing.entered(NOW + 95_000)
    assert (again.state, again.epoch) == (Standing.HALF_OPEN, 3)
    late = again.judged(NOW + 95_001, 2, "look", None)
    assert late is again


def test_calls_of_an_earlier_epoch_change_nothing() -> None:
    opened = failing(CLOSED, 5)
    assert opened.judged(NOW, 0, "look", None) is opened
    probing = opened.entered(NOW + 5_000)
    assert probing.judged(NOW + 5_001, 0, "look", None) is probing
    assert probing.judged(NOW + 5_001, 0, "look", Code.PARSER_UNAVAILABLE) is probing
    assert opened.judged(NOW, 1, "look", Code.VENDOR_UNAUTHORIZED) is opened


def test_successes_are_noted_every_half_minute() -> None:
    noted = CLOSED.judged(NOW, 0, "look", None)
    assert noted.last_success_ms == NOW
    assert noted.judged(NOW + 29_999, 0, "look", None) is noted
    assert noted.judged(NOW + 30_000, 0, "look", None).last_success_ms == NOW + 30_000


def test_the_last_five_errors_are_kept() -> None:
    circuit = CLOSED
    for n in range(7):
        circuit = circuit.judged(NOW + n, 0, f"op{n}", Code.VENDOR_FAILED)
        circuit = circuit.judged(NOW + n, 0, "look", None)
    assert circuit.errors == tuple(
        Trouble(NOW + n, f"op{n}", "vendor_failed") for n in (6, 5, 4, 3, 2)
    )
    assert circuit.last_failure_ms == NOW + 6
