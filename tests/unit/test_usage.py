"""Usage windows: what they hold, whatever comes twice, late, or after a crash."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from schemas.events import Event, JobMoved, ServiceCalled, StageTimed
from schemas.periods import unix_ms
from streams.usage import Change, Place, Usage
from streams.usage_windows import DAY_MS, HOUR_MS, Name, Slot, Step, Window, is_over
from tests.cost_stories import Payer

NOON = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)
NOON_MS = unix_ms(NOON)
COSTS, METRICS = "costs.events", "metrics.events"
ACME = Name("acme", "llamaparse", "")


class Clock:
    def __init__(self, now_ms: int = NOON_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def usage_at(clock: Clock | None = None, zone: tzinfo = UTC) -> Usage:
    return Usage(zone, clock or Clock())


def count(usage: Usage, events: Iterable[Event], topic: str = COSTS, start: int = 0) -> list[str]:
    return [usage.apply(e, Place(topic, 0, n)) for n, e in enumerate(events, start)]


def measured(body: StageTimed | ServiceCalled, at: datetime = NOON, number: int = 0) -> Event:
    return Event(f"measured-{number}", "/test", at, body)


def hour(usage: Usage, at: datetime = NOON, name: Name = ACME) -> Window | None:
    start = unix_ms(at.replace(minute=0, second=0, microsecond=0))
    return usage.at(Slot(Step.HOUR, start)).get(name)


def money(window: Window | None) -> tuple[int, ...]:
    assert window is not None
    held = window.held_micro_usd, window.held_pages, window.held_requests
    return window.spent_micro_usd, window.spent_pages, window.spent_requests, *held


def test_money_is_held_then_spent_then_corrected() -> None:
    usage, payer = usage_at(), Payer("job-1", NOON)
    count(usage, [payer.reserved(9_000, pages=3)])
    assert money(hour(usage)) == (0, 0, 0, 9_000, 3, 1)
    count(usage, [payer.settled(7_500, pages=2)], start=1)
    assert money(hour(usage)) == (7_500, 2, 1, 0, 0, 0)
    count(usage, [payer.corrected(-500)], start=2)
    assert money(hour(usage)) == (7_000, 2, 1, 0, 0, 0)


def test_an_estimate_that_is_taken_back_takes_its_request_with_it() -> None:
    usage, payer = usage_at(), Payer("job-1", NOON)
    count(usage, [payer.given_up(9_000, pages=3), payer.settled(7_500, pages=3)])
    count(usage, [payer.taken_back(9_000, pages=3)], start=2)
    assert money(hour(usage)) == (7_500, 3, 1, 0, 0, 0)


def test_a_release_gives_everything_back() -> None:
    usage, payer = usage_at(), Payer("job-1", NOON)
    count(usage, [payer.reserved(9_000, pages=3), payer.released()])
    assert money(hour(usage)) == (0, 0, 0, 0, 0, 0)


def test_money_counts_in_the_window_of_its_reservation() -> None:
    usage = usage_at()
    before = NOON - timedelta(hours=3)
    assert count(usage, [Payer("job-1", before).settled(100)]) == ["counted"]
    assert hour(usage) is None
    assert money(hour(usage, before)) == (100, 1, 1, 0, 0, 0)
    # Its minute is kept no longer.
    assert {slot.step for slot in usage.slots()} == {Step.HOUR, Step.DAY}


def test_tenants_and_services_are_kept_apart() -> None:
    usage = usage_at()
    count(
        usage,
        [
            Payer("job-1", NOON).settled(100),
            Payer("job-2", NOON, tenant="other").settled(10),
            Payer("job-3", NOON, service="callback").settled(1),
        ],
    )
    assert money(hour(usage))[0] == 100
    assert money(hour(usage, name=Name("other", "llamaparse", "")))[0] == 10
    assert money(hour(usage, name=Name("acme", "callback", "")))[0] == 1


def test_a_change_names_the_partition_of_its_events() -> None:
    usage = usage_at()
    usage.apply(Payer("job-1", NOON).reserved(1), Place(COSTS, 3, 7))
    assert {change.partition for change in usage.take_changes()} == {3}
    assert usage.take_changes() == []


def test_stages_and_calls_are_measured() -> None:
    usage = usage_at()
    seconds = [0.1] * 18 + [3.0] * 2
    bodies: list[StageTimed | ServiceCalled] = [
        StageTimed("acme", "liteparse", "parse", "ok" if s < 1 else "parse_timeout", s)
        for s in seconds
    ]
    bodies.append(ServiceCalled("acme", "llamaparse", "submit", "ok", 0.5, pages=4))
    count(usage, [measured(body, number=n) for n, body in enumerate(bodies)], METRICS)
    stage = hour(usage, name=Name("acme", "liteparse", "parse"))
    call = hour(usage, name=Name("acme", "llamaparse", "call.submit"))
    assert stage is not None
    assert call is not None
    assert (stage.count, stage.errors, stage.error_share()) == (20, 2, 0.1)
    assert sum(stage.seconds.values()) == 20
    assert (call.count, call.errors, call.pages) == (1, 0, 4)


def test_a_measurement_that_is_read_again_is_counted_once() -> None:
    usage = usage_at()
    event = measured(StageTimed("acme", "liteparse", "parse", "ok", 0.1))
    assert count(usage, [event], METRICS) == ["counted"]
    assert count(usage, [event], METRICS) == ["double"]
    # The same offset of another log is another event.
    assert usage.apply(event, Place(METRICS, 1, 0)) == "counted"


def test_what_is_too_old_or_of_the_far_future_makes_no_window() -> None:
    usage = usage_at()
    old, far = NOON - timedelta(days=64), NOON + timedelta(days=300)
    events = [Payer("job-1", old).settled(1), Payer("job-2", far).settled(1)]
    assert count(usage, events) == ["late", "late"]
    assert usage.slots() == []


def test_an_event_of_another_kind_is_ignored() -> None:
    usage = usage_at()
    event = Event("moved", "/test", NOON, JobMoved("job-1", "acme", 1, "document", None, "parsed"))
    assert count(usage, [event]) == ["ignored"]
    assert usage.take_changes() == []


def test_days_are_those_of_the_zone_and_an_hour_of_a_half_hour_zone_is_its_own() -> None:
    usage = usage_at(zone=ZoneInfo("Asia/Kolkata"))
    count(usage, [Payer("job-1", NOON).settled(1)])
    starts = {slot.step: slot.start_ms for slot in usage.slots()}
    assert starts == {
        Step.MINUTE: unix_ms(datetime(2026, 11, 24, 12, 0, tzinfo=UTC)),
        Step.HOUR: unix_ms(datetime(2026, 11, 24, 11, 30, tzinfo=UTC)),
        Step.DAY: unix_ms(datetime(2026, 11, 23, 18, 30, tzinfo=UTC)),
    }


def test_what_is_old_is_forgotten_and_removed_from_what_is_kept() -> None:
    clock = Clock()
    usage, table = usage_at(clock), dict[bytes, bytes]()
    count(usage, [Payer("job-1", NOON).reserved(1), Payer("job-1", NOON).settled(1)])
    count(usage, [Payer("job-2", NOON).reserved(1)], start=2)
    usage.note_said("an-alert", NOON_MS + HOUR_MS)
    keep(table, usage.take_changes())
    assert len(table) == 3 + 2 + 1
    clock.now_ms += 3 * DAY_MS
    usage.forget_old()
    keep(table, usage.take_changes())
    # The hour, the day and the open attempt are left.
    assert len(table) == 3
    clock.now_ms += 70 * DAY_MS
    usage.forget_old()
    keep(table, usage.take_changes())
    assert table == {}
    assert usage.slots() == []


def test_what_begins_again_outlives_its_removal() -> None:
    clock = Clock()
    usage, table = usage_at(clock), dict[bytes, bytes]()
    payer = Payer("job-1", NOON)
    count(usage, [payer.reserved(5), payer.settled(5)])
    keep(table, usage.take_changes())
    clock.now_ms += 2 * DAY_MS
    usage.forget_old()
    count(usage, [payer.corrected(-1)], start=2)
    keep(table, usage.take_changes())
    again = usage_at(clock)
    again.restore(table.items())
    assert count(again, [payer.corrected(-1)], start=3) == ["double"]


def test_restoring_leaves_out_what_cannot_be_read() -> None:
    usage, table = usage_at(), dict[bytes, bytes]()
    count(usage, [Payer("job-1", NOON).reserved(5)])
    keep(table, usage.take_changes())
    garbage = {
        b"\xff": b"1",
        b'["w","century",1,"a","b",""]': b"{}",
        b'["a","x",1]': b"no",
        b"3": b"",
    }
    again = usage_at()
    assert again.restore([*table.items(), *garbage.items()]) == 4
    assert money(hour(again)) == (0, 0, 0, 5, 1, 1)


def test_a_slot_is_over_when_its_time_is() -> None:
    slot = Slot(Step.MINUTE, NOON_MS)
    assert not is_over(slot, NOON_MS + 2 * HOUR_MS - 1)
    assert is_over(slot, NOON_MS + 2 * HOUR_MS)


def keep(table: dict[bytes, bytes], changes: list[Change]) -> None:
    for change in changes:
        if change.value is None:
            table.pop(change.key, None)
        else:
            table[change.key] = change.value


def restored(table: dict[bytes, bytes]) -> Usage:
    usage = usage_at()
    assert usage.restore(table.items()) == 0
    return usage
