"""A worker's loops: what it does again and again beside its processors."""

from collections.abc import Callable, Coroutine
from typing import Any

from services import wiring
from services.defaults import CALLBACK
from services.wiring import ParserRoom
from services.worker_parts import Process
from streams.cost_gauges import CostGauges
from streams.gauges import Gauges
from streams.janitor import Janitor
from streams.reservation_sweep import ReservationSweep
from streams.sweeper import Sweeper
from streams.vendor_intents import VendorIntents
from streams.vendor_settle import VendorSettle
from streams.vendor_sweep import VendorSweep
from streams.watchdog import Progress, watch_cluster, watch_loop, watch_progress

Run = Callable[[], Coroutine[Any, Any, None]]


def build_watches(process: Process, progresses: list[Progress]) -> dict[str, Run]:
    """Give what watches over the process itself, by name."""
    return {
        "cluster": lambda: watch_cluster(process.bus, process.cluster_id),
        "loop": lambda: watch_loop(process.recorder),
        "progress": lambda: watch_progress(progresses),
    }


def build_loops(process: Process, only: frozenset[str], room: ParserRoom) -> dict[str, Run]:
    """Give the loops of these roles, by name."""
    tables, recorder = process.tables, process.recorder
    found: dict[str, Run] = {}
    if "sweeper" in only:
        found |= _sweeps(process, room)
    if "janitor" in only:
        found["janitor"] = Janitor(tables, wiring.build_blobs(process.settings)).run
    if "gauges" in only:
        found["gauges"] = Gauges(tables, recorder).run
        found["cost_gauges"] = CostGauges(tables, recorder, process.money.zone).run
    return found


def _sweeps(process: Process, room: ParserRoom) -> dict[str, Run]:
    tables, settings, recorder = process.tables, process.settings, process.recorder
    timings, every_seconds = settings.timings(), settings.sweep_seconds
    vendor: dict[str, Any] = {
        "job_ms": int(settings.llamaparse_job_seconds * 1000),
        "every_seconds": every_seconds,
    }
    settle = VendorSettle(
        tables,
        room.remote,
        recorder,
        process.billing,
        forget=settings.llamaparse_delete,
        every_seconds=every_seconds,
        unmetered=(CALLBACK,),
    )
    intents = VendorIntents(tables, room.remote, recorder, timings, process.billing, **vendor)
    return {
        "sweeper": Sweeper(tables, timings, recorder, every_seconds=every_seconds).run,
        "vendor_sweep": VendorSweep(tables, room.remote, recorder, timings, **vendor).run,
        "vendor_intents": intents.run,
        "vendor_settle": settle.run,
        "reservation_sweep": ReservationSweep(tables, process.billing).run,
    }
