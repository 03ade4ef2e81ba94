"""How many records a reactor claims ahead."""

from streams.pace import Pace


def test_slow_work_claims_as_many_ahead_as_there_are_slots() -> None:
    pace = Pace(2)
    for _ in range(50):
        pace.worked(30.0)
    assert [pace.room(held) for held in range(6)] == [4, 3, 2, 1, 0, 0]


def test_quick_work_claims_a_quarter_of_a_second_ahead() -> None:
    pace = Pace(2)
    for _ in range(100):
        pace.worked(0.049)
    assert pace.room(0) == 12


def test_it_never_claims_more_than_thirty_two_ahead() -> None:
    pace = Pace(4)
    for _ in range(100):
        pace.worked(0.0001)
    assert pace.room(0) == 36


def test_it_waits_until_a_batch_fits() -> None:
    pace = Pace(2)
    for _ in range(100):
        pace.worked(0.049)
    assert [pace.room(held) for held in (12, 9, 8, 7)] == [0, 0, 4, 5]
