"""The roles of a worker: what each is made of, and what runs beside the processors."""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from schemas.webhook_source import ARTIFACTS
from services import wiring
from services.alert_webhook import alert_key
from services.config import Settings
from services.defaults import CALLBACK, defaults_of
from services.wiring import ParserRoom
from streams.alert_sender import AlertHook, AlertSender
from streams.alerts import Alerts
from streams.artifacts import Artifacts
from streams.bus.base import Bus
from streams.callbacks import Callbacks
from streams.dead_letters import DeadLetterLimit
from streams.fold import FoldGround
from streams.gauges import Gauges
from streams.janitor import Janitor
from streams.job_state import JobState
from streams.leases import Leases
from streams.listener import ListenerGround
from streams.metrics import Recorder
from streams.parse import Parse
from streams.processor import Ground
from streams.reactor import ReactorGround
from streams.settings import CurrentSettings
from streams.sweeper import Sweeper
from streams.tables.base import Tables
from streams.telemetry import Telemetry
from streams.vendor_intents import VendorIntents
from streams.vendor_look import VendorLook
from streams.vendor_settle import VendorSettle
from streams.vendor_sweep import VendorSweep
from streams.watchdog import Progress, watch_cluster, watch_loop, watch_progress

ROLES = ("parse", "callbacks", "job_state", "alerts", "sweeper", "janitor", "gauges")
"""What a worker can be told to run with `--only`; the relay runs in every process."""

PROCESSORS = ("parse", "callbacks", "job_state", "alerts")
"""The roles that read topics, and can be stopped by their dead letters."""

_PARSING_ROLES = frozenset({"parse", "callbacks", "sweeper"})
_SUBMISSIONS = 16
_LOOKS = 16
_LOOK_SECONDS = 90.0
_ALERT_SECONDS = 1.0

Run = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Process:
    """What the parts of a worker share."""

    settings: Settings
    name: str
    recorder: Recorder
    tables: Tables
    bus: Bus
    cluster_id: str
    telemetry: Telemetry
    leases: Leases


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
        background = _watches(process, progresses)
        room = ParserRoom()
        if only & _PARSING_ROLES:
            await current.refresh()
            background["settings"] = current.run
            opened = wiring.open_parsers(
                process.settings, process.tables, process.recorder, current
            )
            room = await stack.enter_async_context(opened)
        background |= _loops(process, only, room)
        if "alerts" in only and process.settings.alert_webhook_url:
            hook = await stack.enter_async_context(wiring.open_alerts(process.settings))
            background["alert_sender"] = _alert_sender(process, hook).run
        limits = {
            name: DeadLetterLimit(name, version("parsewire"), process.tables, process.recorder)
            for name in PROCESSORS
        }
        yield Roles(
            [
                (_ground(name, process, limits[name], room), limits[name])
                for name in PROCESSORS
                if name in only
            ],
            background,
        )


def _ground(name: str, process: Process, limit: DeadLetterLimit, room: ParserRoom) -> Ground:
    tables, cluster_id, recorder = process.tables, process.cluster_id, process.recorder
    if name == "job_state":
        fold = JobState(process.settings.timings())
        return FoldGround(fold, tables, cluster_id, limit, recorder)
    if name == "alerts":
        alerts = Alerts(recorder, send=bool(process.settings.alert_webhook_url))
        return FoldGround(alerts, tables, cluster_id, limit, recorder)
    if name == "callbacks":
        listener = _callbacks(process, room)
        return ListenerGround(listener, tables, cluster_id, limit, recorder, slots=_LOOKS)
    slots = wiring.slots(process.settings)
    blobs = wiring.build_blobs(process.settings)
    parse = Parse(room.routes, blobs, process.telemetry, recorder, slots=slots)
    # While one document is verified or its result made durable, another is parsed; a submission
    # mostly waits.
    at_once = max(2 * slots, _SUBMISSIONS) if room.remote else 2 * slots
    return ReactorGround(parse, tables, process.leases, cluster_id, limit, recorder, slots=at_once)


def _callbacks(process: Process, room: ParserRoom) -> Callbacks:
    blobs = wiring.build_blobs(process.settings)
    looks = {
        name: VendorLook(
            parser,
            process.tables,
            blobs,
            process.telemetry,
            process.recorder,
            seconds=_LOOK_SECONDS,
        )
        for name, parser in room.remote.items()
    }
    artifacts = Artifacts(CALLBACK, process.tables, blobs, max_pages=process.settings.max_pages)
    return Callbacks(looks, blobs, {ARTIFACTS.name: artifacts.read})


def _alert_sender(process: Process, hook: AlertHook) -> AlertSender:
    return AlertSender(
        process.tables,
        hook,
        alert_key(process.settings),
        process.recorder,
        every_seconds=_ALERT_SECONDS,
    )


def _watches(process: Process, progresses: list[Progress]) -> dict[str, Run]:
    return {
        "cluster": lambda: watch_cluster(process.bus, process.cluster_id),
        "loop": lambda: watch_loop(process.recorder),
        "progress": lambda: watch_progress(progresses),
    }


def _loops(process: Process, only: frozenset[str], room: ParserRoom) -> dict[str, Run]:
    tables, settings, recorder = process.tables, process.settings, process.recorder
    timings, every_seconds = settings.timings(), settings.sweep_seconds
    found: dict[str, Run] = {}
    if "sweeper" in only:
        found["sweeper"] = Sweeper(tables, timings, recorder, every_seconds=every_seconds).run
        found["vendor_sweep"] = VendorSweep(
            tables,
            room.remote,
            recorder,
            timings,
            job_ms=int(settings.llamaparse_job_seconds * 1000),
            every_seconds=every_seconds,
        ).run
        found["vendor_intents"] = VendorIntents(
            tables,
            room.remote,
            recorder,
            timings,
            job_ms=int(settings.llamaparse_job_seconds * 1000),
            every_seconds=every_seconds,
        ).run
        found["vendor_settle"] = VendorSettle(
            tables,
            room.remote,
            recorder,
            forget=settings.llamaparse_delete,
            every_seconds=every_seconds,
            free=(CALLBACK,),
        ).run
    if "janitor" in only:
        found["janitor"] = Janitor(tables, wiring.build_blobs(settings)).run
    if "gauges" in only:
        found["gauges"] = Gauges(tables, recorder).run
    return found
