"""The double for people who develop without a key: `python -m tests.doubles.llamacloud`."""

import argparse
import asyncio
import contextlib

from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.faults import ANY, CALL_FAULTS, OPERATIONS, WEBHOOK, Fault
from tests.doubles.llamacloud.server import open_llama_cloud

DEFAULT_PORT = 8765


def injection(written: str) -> tuple[str, Fault, float]:
    """Read `FAULT`, `FAULT:PROBABILITY` or `OPERATION=FAULT:PROBABILITY`."""
    operation, _, rest = written.rpartition("=")
    name, _, probability = rest.partition(":")
    fault = Fault(name)
    where = operation or (ANY if fault in CALL_FAULTS else WEBHOOK)
    if where not in OPERATIONS or (where == WEBHOOK) == (fault in CALL_FAULTS):
        raise ValueError(written)
    return where, fault, float(probability or 1.0)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.doubles.llamacloud",
        description="A LlamaCloud in memory: API v2, files, webhooks, and faults on request.",
        epilog=f"faults: {', '.join(Fault)}",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0: any free port")
    parser.add_argument("--queue-seconds", type=float, default=0.5, help="how long PENDING")
    parser.add_argument("--run-seconds", type=float, default=1.0, help="how long RUNNING")
    parser.add_argument(
        "--billing-seconds", type=float, default=2.0, help="until the bill is known"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the chances of faults")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        type=injection,
        metavar="[OPERATION=]FAULT[:PROBABILITY]",
        help="for example rate_limited:0.1, create=cut_after:0.05, webhook=lost:0.2",
    )
    return parser.parse_args()


async def serve(options: argparse.Namespace) -> None:
    """Serve until stopped."""
    behaviour = Behaviour(
        queue_seconds=options.queue_seconds,
        run_seconds=options.run_seconds,
        billing_seconds=options.billing_seconds,
        seed=options.seed,
    )
    async with open_llama_cloud(behaviour, host=options.host, port=options.port) as cloud:
        for operation, fault, probability in options.fault:
            cloud.inject(operation, fault, times=None, probability=probability, seconds=5.0)
        print(f"url: {cloud.url}\nkey: {cloud.api_key}", flush=True)  # noqa: T201 - for its user
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments()))
