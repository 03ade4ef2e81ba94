"""Documents a second, from upload to `complete`, against LiteParse alone on the same cores."""

import statistics
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from bench.alone import Alone, parse_alone
from bench.children import Child, open_child
from bench.deployment import UPLOAD, Deployment, open_deployment
from bench.figures import BenchError, Figure, median_ratio
from bench.ground import Ground
from bench.load import Order
from bench.stamps import ONE_PAGE, TEN_PAGES

_CONNECTIONS = 32
_RUN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of document: how many are uploaded, how many parsed alone, and the goal."""

    name: str
    document: Path
    uploads: int
    alone: int
    goal: float


KINDS = (
    Kind("one-page", ONE_PAGE, uploads=800, alone=2_000, goal=0.25),
    Kind("ten-page", TEN_PAGES, uploads=250, alone=250, goal=0.70),
)


async def measure_documents(ground: Ground) -> list[Figure]:
    """Parse alone and through everything in turn, again and again."""
    folder = ground.folder_of("documents")
    alone: dict[str, list[Alone]] = {kind.name: [] for kind in KINDS}
    ours: dict[str, list[float]] = {kind.name: [] for kind in KINDS}
    async with (
        open_deployment(ground, folder, worker=True) as deployment,
        open_child("load", "bench.load", folder=folder) as load,
    ):
        for kind in KINDS:
            await upload_all(deployment, load, kind.document, uuid.uuid4().hex, 50)
        for number in range(1, ground.repeat + 1):
            for kind in KINDS:
                stamp = uuid.uuid4().hex
                alone[kind.name].append(
                    await parse_alone(folder, kind.document, stamp, kind.alone, ground.cores)
                )
                ours[kind.name].append(
                    await upload_all(deployment, load, kind.document, stamp, kind.uploads)
                )
                ground.say(
                    f"{kind.name} {number}: {ours[kind.name][-1]:,.0f}/s, LiteParse alone "
                    f"{alone[kind.name][-1].per_second:,.0f}/s"
                )
    return [
        figure for kind in KINDS for figure in _figures(kind, alone[kind.name], ours[kind.name])
    ]


async def upload_all(
    deployment: Deployment, load: Child, document: Path, stamp: str, count: int
) -> float:
    """Upload stamped copies, wait until all are complete, and give documents per second."""
    before = deployment.complete()
    order = Order(
        port=deployment.port,
        path=UPLOAD,
        token=deployment.token,
        document=str(document),
        stamp=stamp,
        connections=_CONNECTIONS,
        uploads=count,
        seconds=_RUN_SECONDS,
    )
    started = time.perf_counter()
    load.tell(order)
    answer = await load.answer(2 * _RUN_SECONDS)
    if answer["statuses"] != {"202": count} or answer["broken"]:
        raise BenchError(f"{count} uploads should be answered 202, and were {answer}")
    return count / (await deployment.wait_complete(before + count, _RUN_SECONDS) - started)


def _figures(kind: Kind, alone: list[Alone], ours: list[float]) -> list[Figure]:
    own_ms = statistics.median(run.median_seconds for run in alone) * 1e3
    speeds = [run.per_second for run in alone]
    name = f"{kind.name} documents"
    size = kind.document.stat().st_size
    return [
        Figure(f"{name}: size", size, "bytes"),
        Figure(f"{name}: LiteParse's own time, all cores busy", own_ms, "ms"),
        Figure(f"{name}: LiteParse alone", statistics.median(speeds), "documents/s"),
        Figure(f"{name}: upload to complete", statistics.median(ours), "documents/s"),
        Figure(f"{name}: ours / LiteParse alone", median_ratio(ours, speeds), "ratio", kind.goal),
    ]
