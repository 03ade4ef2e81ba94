"""The forecast: how fast money goes, and what a window will have cost by its end."""

from dataclasses import dataclass

from schemas.periods import Span

HOUR_MS = 3_600_000

RECENT_MS = HOUR_MS
"""How far back a rate is looked for: long enough for a pause, short enough to see a change."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is spent of a window, the present rate, and the sum at its end; micro-dollars."""

    spent_micro_usd: int
    micro_usd_per_hour: int
    at_end_micro_usd: int


def forecast(
    spent_micro_usd: int, window: Span, now_ms: int, *, recent_micro_usd: int | None = None
) -> Forecast:
    """Say what the window will have cost if all goes on as lately.

    `recent_micro_usd` is what was spent in the last RECENT_MS, whichever windows that lies in; None
    means that only the window's own sum is known, and its mean rate is taken. A correction may
    make the recent sum negative: money does not flow back, so the rate is then nothing.
    """
    if recent_micro_usd is None:
        recent_micro_usd, over_ms = spent_micro_usd, max(now_ms - window.start_ms, 1)
    else:
        over_ms = RECENT_MS
    recent = max(recent_micro_usd, 0)
    left_ms = min(max(window.end_ms - now_ms, 0), window.end_ms - window.start_ms)
    return Forecast(
        spent_micro_usd,
        recent * HOUR_MS // over_ms,
        spent_micro_usd + recent * left_ms // over_ms,
    )
