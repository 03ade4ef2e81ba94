"""The roles of a worker: what each is made of, and what runs beside the processors."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

from schemas.webhook_source import ARTIFACTS
from services import wiring
from services.alert_webhook import alert_key
from services.defaults import CALLBACK, defaults_of
from services.intake_role import open_intake
from services.result_links import link_of_moved
from services.wiring import ParserRoom
from services.worker_loops import Run, build_loops, build_watches
from services.worker_parts import Process
from streams.alert_sender import AlertHook, AlertSender
from streams.alerts import Alerts
from streams.artifacts import Artifacts
from streams.callbacks import Callbacks
from streams.costs import Costs
from streams.dead_letters import DeadLetterLimit
from streams.estimates import Estimates
from streams.fold import FoldGround
from streams.job_state import JobState
from streams.listener import ListenerGround
from streams.parse import Parse
from streams.processor import Ground
from streams.purse import TablesPurse
from streams.reactor import ReactorGround
from streams.settings import CurrentSettings
from streams.vendor_look import VendorLook
from streams.watchdog import Progress

PROCESSORS = ("parse", "callbacks", "job_state", "costs", "alerts", "intake")
"""The roles that read topics, and can be stopped by their dead letters."""

GAUGES = "gauges"
"""What the tables hold, shown by one worker: sums over several would be too high."""

ROLES = (*PROCESSORS, "sweeper", "janitor", GAUGES)
"""What a worker can be told to run with `--only`; the relay runs in every process."""

_ALWAYS_AT_WORK = frozenset(PROCESSORS) - {"intake"}
_PARSING_ROLES = frozenset({"parse", "callbacks", "sweeper"})
_SUBMISSIONS = 16
_LOOKS = 16
_LOOK_SECONDS = 90.0
_ALERT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Roles:
    """The processors on their grounds, and the loops beside them by name."""

    grounds: Sequence[tuple[Ground, DeadLetterLimit]]
    background: Mapping[str, Run]


@asynccontextmanager
async def open_roles(
    process: Process, only: frozenset[str], progresses: list[Progress]
) -> AsyncIterator[Roles]:
    """Make the roles, and lend them while what they stand on is open."""
    current = CurrentSettings(process.tables, defaults_of(process.settings), process.recorder)
    async with AsyncExitStack() as stack:
        background = build_watches(process, progresses)
        room = ParserRoom()
        if only & _PARSING_ROLES:
            await current.refresh()
            background["settings"] = current.run
            opened = wiring.open_parsers(
                process.settings, process.tables, process.recorder, current
            )
            room = await stack.enter_async_context(opened)
        background |= build_loops(process, only, room)
        if "alerts" in only and process.settings.alert_webhook_url:
            hook = await stack.enter_async_context(wiring.open_alerts(process.settings))
            background["alert_sender"] = _alert_sender(process, hook).run
        limits = {
            name: DeadLetterLimit(name, version("parsewire"), process.tables, process.recorder)
            for name in PROCESSORS
        }
        grounds = {
            name: _ground(name, process, limits[name], room) for name in only & _ALWAYS_AT_WORK
        }
        if "intake" in only and process.settings.intake:
            intake = open_intake(process, limits["intake"])
            grounds["intake"] = await stack.enter_async_context(intake)
        yield Roles(
            [(grounds[name], limits[name]) for name in PROCESSORS if name in grounds], background
        )


def _ground(name: str, process: Process, limit: DeadLetterLimit, room: ParserRoom) -> Ground:
    tables, cluster_id, recorder = process.tables, process.cluster_id, process.recorder
    if name == "job_state":
        settings = process.settings
        fold = JobState(settings.timings(), link=link_of_moved(settings))
        return FoldGround(fold, tables, cluster_id, limit, recorder)
    if name == "costs":
        return FoldGround(Costs(process.money.zone), tables, cluster_id, limit, recorder)
    if name == "alerts":
        alerts = Alerts(recorder, send=bool(process.settings.alert_webhook_url))
        return FoldGround(alerts, tables, cluster_id, limit, recorder)
    if name == "callbacks":
        listener = _callbacks(process, room)
        return ListenerGround(listener, tables, cluster_id, limit, recorder, slots=_LOOKS)
    return _parse(process, limit, room)


def _parse(process: Process, limit: DeadLetterLimit, room: ParserRoom) -> Ground:
    settings, money, recorder = process.settings, process.money, process.recorder
    slots = wiring.slots(settings)
    estimates = Estimates(money.prices, room.count_pages, max_pages=settings.max_pages)
    purse = TablesPurse(estimates, process.tables, money.zone)
    blobs = wiring.build_blobs(settings)
    parse = Parse(room.routes, blobs, purse, process.telemetry, recorder, slots=slots)
    # While one document is verified or its result made durable, another is parsed; a submission
    # mostly waits.
    at_once = max(2 * slots, _SUBMISSIONS) if room.remote else 2 * slots
    return ReactorGround(
        parse,
        process.tables,
        process.leases,
        process.cluster_id,
        limit,
        recorder,
        slots=at_once,
        zone=money.zone,
    )


def _callbacks(process: Process, room: ParserRoom) -> Callbacks:
    blobs = wiring.build_blobs(process.settings)
    looks = {
        name: VendorLook(
            parser,
            process.tables,
            blobs,
            process.telemetry,
            process.recorder,
            process.billing,
            seconds=_LOOK_SECONDS,
        )
        for name, parser in room.remote.items()
    }
    most_pages = process.settings.max_pages
    artifacts = Artifacts(CALLBACK, process.tables, blobs, process.billing, max_pages=most_pages)
    return Callbacks(looks, blobs, {ARTIFACTS.name: artifacts.read})


def _alert_sender(process: Process, hook: AlertHook) -> AlertSender:
    return AlertSender(
        process.tables,
        hook,
        alert_key(process.settings),
        process.recorder,
        every_seconds=_ALERT_SECONDS,
    )
