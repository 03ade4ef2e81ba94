"""The demo against a double of LlamaCloud: `make demo-llamaparse`."""

import asyncio
import signal
import sys
from typing import Any

from services.cli.terminal import OUT, head, print_table
from services.config import environment_with
from services.embedded_broker import dying_with_parent, free_port
from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.catalogue import VERSIONS
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.content import Plan
from tests.doubles.llamacloud.server import open_llama_cloud

DEMO_SECONDS = 240
STOP_SECONDS = 30
TIER = "cost_effective"
BEHAVIOUR = Behaviour(queue_seconds=0.3, run_seconds=0.5)


def demo_settings(cloud: LlamaCloud, gateway_port: int) -> dict[str, object]:
    """Give the settings of a deployment whose LlamaParse is the double, whatever .env says."""
    return {
        "mode": "real",
        "llamaparse_api_key": cloud.api_key,
        "llamaparse_url": cloud.url,
        "llamaparse_project_id": "",
        "llamaparse_tier": TIER,
        "llamaparse_version": VERSIONS[TIER][0],
        "llamaparse_requests_per_minute": 6000,
        "llamaparse_burst": 100,
        "gateway_host": "127.0.0.1",
        "gateway_port": gateway_port,
        "webhook_url": f"http://127.0.0.1:{gateway_port}",
    }


def is_encrypted(_name: str, content: bytes, _options: dict[str, Any]) -> bool:
    """Tell whether a PDF needs a password."""
    return b"/Encrypt" in content


def is_cut(_name: str, content: bytes, _options: dict[str, Any]) -> bool:
    """Tell whether a PDF lacks its end."""
    return b"%%EOF" not in content[-1024:]


async def demo(arguments: list[str]) -> int:
    """Run `parsewire demo` with these arguments on the double, and give its exit code."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with open_llama_cloud(BEHAVIOUR) as cloud:
        # As LlamaCloud does, and what the double does not look for.
        cloud.plan(Plan(error="PDF_IS_PROTECTED: needs a password"), times=None, suits=is_encrypted)
        cloud.plan(Plan(error="PDF_IS_BROKEN: it has no end"), times=None, suits=is_cut)
        OUT.print(
            f"A double of LlamaCloud listens at {cloud.url}: it speaks the API and signs its "
            "webhooks; the text of its pages is made up, and costs nothing.",
            highlight=False,
        )
        code = await run_demo(arguments, demo_settings(cloud, free_port()))
        tell(cloud)
    return code


async def run_demo(arguments: list[str], settings: dict[str, object]) -> int:
    """Run the verb within its time (as long as it likes with --stay), and leave nothing behind."""
    command = [sys.executable, "-P", "-m", "services.cli.main", "demo", *arguments]
    process = await asyncio.create_subprocess_exec(
        *dying_with_parent(command),
        env=environment_with(settings),
        # A terminal's Ctrl-C reaches this process alone, which ends the other one once.
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(None if "--stay" in arguments else DEMO_SECONDS):
            return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def tell(cloud: LlamaCloud) -> None:
    """Print what the double saw of it: the calls, and how its webhooks were taken."""
    head("What the double was asked")
    counted: dict[tuple[str, int | None], int] = {}
    for call in cloud.calls:
        counted[call.operation, call.status] = counted.get((call.operation, call.status), 0) + 1
    print_table(("call", "status", "times"), ((*key, n) for key, n in counted.items()))
    head("What it delivered")
    print_table(
        ("event", "job there", "try", "answer", "LC-Signature"),
        (
            (
                *(delivery.event_type, delivery.job_id, delivery.attempt),
                delivery.status or delivery.error,
                delivery.headers.get("LC-Signature", "none")[:15] + "...",
            )
            for delivery in cloud.deliveries
        ),
    )


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(demo(sys.argv[1:])))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
