"""What is seen of the windows from outside: the vigil, the gauges and the report."""

import re
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest

from schemas.events import Event, StageTimed
from schemas.periods import unix_ms
from streams.metrics import Recorder
from streams.usage import Place, Usage
from streams.usage_report import UsageGauges, describe_windows
from streams.usage_vigil import Vigil
from tests.cost_stories import Payer

NOON = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def vigil(clock: Clock) -> Vigil:
    return Vigil(start_seconds=120, stall_seconds=60, clock=clock)


def test_a_start_may_last_two_minutes() -> None:
    clock = Clock()
    watched = vigil(clock)
    clock.now = 120
    assert watched.trouble() is None
    clock.now = 121
    assert watched.trouble() == "not ready after 120 s"
    watched.look(recovered=True, handled=0, lag=3)
    assert watched.trouble() is None


def test_lag_without_progress_is_trouble() -> None:
    clock = Clock()
    watched = vigil(clock)
    watched.look(recovered=True, handled=5, lag=3)
    clock.now = 61
    watched.look(recovered=True, handled=5, lag=3)
    assert watched.trouble() == "3 events wait, none was counted for 60 s"
    watched.look(recovered=True, handled=6, lag=2)
    assert watched.trouble() is None


def test_nothing_to_do_and_an_absent_broker_are_no_trouble() -> None:
    clock = Clock()
    watched = vigil(clock)
    for lag in (0, None):
        for _ in range(5):
            clock.now += 50
            watched.look(recovered=True, handled=5, lag=lag)
            assert watched.trouble() is None


def counted(now: list[datetime]) -> Usage:
    usage = Usage(UTC, lambda: unix_ms(now[0]))
    events = [
        Payer("job-1", NOON).settled(700, pages=3),
        Payer("job-2", NOON, tenant="other").settled(50),
        Event("s1", "/test", NOON, StageTimed("acme", "liteparse", "parse", "ok", 0.1)),
        Event("s2", "/test", NOON, StageTimed("other", "liteparse", "parse", "shutdown", 0.1)),
    ]
    for offset, event in enumerate(events):
        usage.apply(event, Place("any", 0, offset))
    return usage


def test_gauges_add_tenants_up_and_fall_to_nothing() -> None:
    now = [NOON]
    recorder = Recorder(CollectorRegistry())
    gauges = UsageGauges(counted(now), recorder)
    gauges.show()
    first = generate_latest(recorder.registry).decode()
    assert 'parsewire_usage_spend_micro_usd_per_hour{service="llamaparse"} 750.0' in first
    assert 'parsewire_usage_error_ratio{service="liteparse",stage="parse"} 0.5' in first
    for share in ("0.5", "0.95"):
        line = rf'quantile="{share}",service="liteparse",stage="parse"}} (\S+)'
        found = re.search(line, first)
        assert found is not None
        assert 0.09 < float(found[1]) < 0.11
    now[0] = datetime(2026, 11, 24, 15, tzinfo=UTC)
    gauges.show()
    later = generate_latest(recorder.registry).decode()
    assert 'parsewire_usage_spend_micro_usd_per_hour{service="llamaparse"} 0.0' in later
    assert 'parsewire_usage_error_ratio{service="liteparse",stage="parse"} 0.0' in later


def test_the_report_shows_the_windows_of_a_moment() -> None:
    usage = counted([datetime(2026, 11, 24, 13, 30, tzinfo=UTC)])
    present = describe_windows(usage)
    assert {line["step"] for line in present} == {"day"}
    assert len(present) == 4
    (spent,) = (
        line
        for line in describe_windows(usage, unix_ms(NOON))
        if (line["step"], line["tenant"], line["service"]) == ("hour", "acme", "llamaparse")
    )
    assert spent == {
        "step": "hour",
        "start": datetime(2026, 11, 24, 12, tzinfo=UTC),
        "end": datetime(2026, 11, 24, 13, tzinfo=UTC),
        "tenant": "acme",
        "service": "llamaparse",
        "spent_micro_usd": 700,
        "spent_pages": 3,
        "spent_requests": 1,
        "held_micro_usd": 0,
        "held_pages": 0,
        "held_requests": 0,
    }
