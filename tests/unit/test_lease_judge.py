"""The judge of leases: nobody is called dead who had no chance to say otherwise."""

import pytest

from streams.lease_judge import LeaseJudge


def judge_from(now_ms: int, lease_ms: int = 15_000) -> LeaseJudge:
    """Give a judge whose first tick committed then."""
    judge = LeaseJudge(lease_ms)
    judge.may_judge(now_ms)
    judge.ticked(now_ms)
    return judge


def test_it_waits_at_its_start() -> None:
    judge = LeaseJudge(15_000)
    assert not judge.may_judge(100_000)
    judge.ticked(100_000)
    assert not judge.may_judge(102_999)
    judge.ticked(102_999)
    assert judge.may_judge(103_000)


def test_it_waits_no_longer_at_its_start_than_a_lease_lasts() -> None:
    judge = judge_from(100_000, lease_ms=1_000)
    assert not judge.may_judge(100_999)
    assert judge.may_judge(101_000)


def test_a_tick_that_did_not_commit_is_no_start() -> None:
    judge = LeaseJudge(15_000)
    assert not judge.may_judge(100_000)
    assert not judge.may_judge(110_000)
    judge.ticked(110_000)
    assert judge.may_judge(113_000)


@pytest.mark.parametrize("now_ms", [108_001, 97_999])
def test_after_a_silence_or_a_jump_of_the_clock_it_waits_a_whole_lease(now_ms: int) -> None:
    judge = judge_from(100_000)
    judge.may_judge(103_000)
    judge.ticked(103_000)
    assert not judge.may_judge(now_ms)
    for passed_ms in range(5_000, 15_000, 5_000):
        judge.ticked(now_ms + passed_ms - 5_000)
        assert not judge.may_judge(now_ms + passed_ms)
    judge.ticked(now_ms + 14_998)
    assert not judge.may_judge(now_ms + 14_999)
    assert judge.may_judge(now_ms + 15_000)


def test_five_seconds_are_no_silence() -> None:
    judge = judge_from(100_000)
    assert judge.may_judge(105_000)
