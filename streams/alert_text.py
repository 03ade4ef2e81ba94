"""What an alert says to a person: sentences with figures."""

from datetime import datetime

from schemas.alert_events import BudgetThresholdCrossed, SpendRateUnusual
from schemas.events import Alert
from schemas.money import dollars

_CAVEAT = "For a while after a crash of the usage windows, this may be more than the ledger says."


def text_of(alert: Alert) -> str:
    """Say what happened; the windows may count above the ledger for a while."""
    match alert:
        case BudgetThresholdCrossed():
            said = _threshold(alert)
        case SpendRateUnusual():
            said = _spend_rate(alert)
    return f"{said} {_CAVEAT}"


def _threshold(alert: BudgetThresholdCrossed) -> str:
    whose = f" of tenant {alert.tenant}" if alert.tenant else ""
    return (
        f"The budget {alert.budget}{whose} has reached {alert.percent} %: {_share(alert)} are "
        f"spent or held, from {_moment(alert.window_start)} to {_moment(alert.window_end)}."
    )


def _spend_rate(alert: SpendRateUnusual) -> str:
    return (
        f"Tenant {alert.tenant} spends unusually much at {alert.service}: "
        f"{dollars(alert.micro_usd)} in the hour from {_moment(alert.window_start)}, where its "
        f"hours before had {dollars(alert.usual_micro_usd)} on average."
    )


def _share(alert: BudgetThresholdCrossed) -> str:
    if alert.measure == "micro_usd":
        return f"{dollars(alert.used)} of {dollars(alert.limit)}"
    return f"{alert.used:,} of {alert.limit:,} {alert.measure}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M %Z}"
