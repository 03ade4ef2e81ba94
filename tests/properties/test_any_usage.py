"""Usage windows from events in any order, doubled, and read again after any kill."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Event
from tests.cost_stories import Payer
from tests.unit.test_usage import NOON, count, hour, keep, money, restored, usage_at

EVENTS = [
    *(Payer("job-1", NOON).reserved(900), Payer("job-1", NOON).settled(700)),
    Payer("job-1", NOON).corrected(-50),
    *(Payer("job-2", NOON).reserved(400), Payer("job-2", NOON).released()),
    Payer("job-3", NOON).reserved(60, pages=2),
    *(Payer("job-4", NOON).reserved(8), Payer("job-4", NOON, attempt=2).reserved(5)),
    Payer("job-4", NOON).released(),
]
IN_THE_END = (650, 1, 1, 65, 3, 2)


@given(st.permutations(EVENTS), st.lists(st.sampled_from(EVENTS), max_size=8))
def test_any_order_and_any_doubles_give_the_same_sums(
    events: list[Event], doubles: list[Event]
) -> None:
    usage = usage_at()
    outcomes = count(usage, [*events, *doubles])
    assert outcomes == ["counted"] * len(events) + ["double"] * len(doubles)
    assert money(hour(usage)) == IN_THE_END


@given(
    st.permutations([*EVENTS, *EVENTS[:4]]),
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
    st.data(),
)
def test_what_is_read_again_after_a_kill_is_counted_once(
    events: list[Event], kept_after: list[int], data: st.DataObject
) -> None:
    """Keep a prefix of what was to be kept, commit only what was kept whole, and go on."""
    table: dict[bytes, bytes] = {}
    usage, committed, position = usage_at(), 0, 0
    for upto in sorted(kept_after):
        count(usage, events[position:upto], start=position)
        position = max(position, upto)
        changes = usage.take_changes()
        written = data.draw(st.integers(0, len(changes)))
        keep(table, changes[:written])
        if written == len(changes):
            committed = position
        else:
            usage, position = restored(table), committed
    count(usage, events[position:], start=position)
    assert money(hour(usage)) == IN_THE_END
