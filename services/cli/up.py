"""The verb `up`: a whole deployment on this machine."""

import asyncio
from typing import Annotated

import typer

from services.cli.deployment import BROKER_LOG, Deployment, open_deployment
from services.cli.run_file import KEY_FILE, RUN_FILE
from services.cli.terminal import say
from services.config import PREFIX, Settings, load_settings
from services.logs import configure_logs

_READY_SECONDS = 30.0

FORGETS = (
    "This embedded broker forgets its topics at exit (jobs, documents and results are kept); "
    f"for a real one: {PREFIX}KAFKA_BOOTSTRAP_SERVERS=host:port parsewire up"
)

Workers = Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")]


def up(workers: Workers = 1) -> None:
    """Start broker, gateway and workers, and keep them running until Ctrl-C."""
    settings = load_settings()
    configure_logs(settings, process="up")
    asyncio.run(_up(settings, workers))


async def _up(settings: Settings, workers: int) -> None:
    async with open_deployment(settings, workers=workers) as deployment:
        while not await deployment.wait_until_ready(_READY_SECONDS):
            say(f"not ready after another {_READY_SECONDS:g} s: see the log above; still trying")
        for line in where(deployment):
            say(line)
        await deployment.wait_for_end()
    say("stopped")


def where(deployment: Deployment) -> list[str]:
    """Tell where everything is found, a line for each thing."""
    running = deployment.running()
    data_dir = deployment.settings.data_dir
    lines = [f"gateway   {running.gateway_url}"]
    lines += [f"metrics   {process.metrics_url}  ({process.name})" for process in running.processes]
    lines += [
        f"broker    {running.bootstrap_servers}  ({running.cluster})",
        f"data      {data_dir}",
        f"key       {data_dir / KEY_FILE}",
        f"processes {data_dir / RUN_FILE}",
    ]
    if deployment.embedded:
        lines += [f"broker's  {data_dir / BROKER_LOG}", FORGETS]
    return lines
