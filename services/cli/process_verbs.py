"""The verbs that are processes: `gateway`, `worker` and `windows`."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import structlog
import typer
import uvloop

from schemas.errors import ParsewireError
from services.cli.terminal import FAILED
from services.config import Settings, load_settings
from services.gateway.serve import run_gateway
from services.logs import configure_logs
from services.roles import ROLES
from services.worker import run_worker

log = structlog.get_logger(__name__)

_PR_SET_PDEATHSIG = 1

Parent = Annotated[
    int | None, typer.Option("--parent", hidden=True, help="Die with this parent process.")
]
Name = Annotated[str, typer.Option("--name", hidden=True, help="The process's name in logs.")]


def roles(text: str) -> frozenset[str]:
    """Read a comma-separated list of roles."""
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    unknown = sorted(names - set(ROLES))
    if unknown or not names:
        raise typer.BadParameter(f"{', '.join(unknown) or 'nothing'}; known: {', '.join(ROLES)}")
    return names


def gateway(parent: Parent = None, name: Name = "gateway") -> None:
    """Run one gateway process until SIGTERM or Ctrl-C."""
    _run(run_gateway, parent, name)


def worker(
    only: Annotated[
        str, typer.Option(help=f"Roles to run, comma-separated: {', '.join(ROLES)}.")
    ] = ",".join(ROLES),
    parent: Parent = None,
    name: Name = "worker",
) -> None:
    """Run one worker process until SIGTERM or Ctrl-C."""
    wanted = roles(only)
    _run(
        lambda settings: run_worker(settings, wanted, metrics_port=settings.metrics_port),
        parent,
        name,
    )


def windows(parent: Parent = None, name: Name = "windows") -> None:
    """Run the usage windows until SIGTERM or Ctrl-C; one process for a deployment."""
    # Faust is heavy, and no other process has a use for it.
    from services.windows import run_windows  # noqa: PLC0415

    async def run_and_leave(settings: Settings) -> int:
        code = await _say_trouble(run_windows(settings))
        sys.stderr.flush()
        # Faust's tasks and its consumer's thread may wait for their broker for a minute, cancelled
        # or not, with nothing to keep.
        os._exit(code)

    _code_of(run_and_leave, parent, name)


def _run(
    run: Callable[[Settings], Coroutine[Any, Any, int]], parent: int | None, name: str
) -> None:
    raise typer.Exit(_code_of(run, parent, name))


def _code_of(
    run: Callable[[Settings], Coroutine[Any, Any, int]], parent: int | None, name: str
) -> int:
    if parent is not None:
        die_with(parent)
    settings = load_settings()
    configure_logs(settings, process=name)
    return uvloop.run(_say_trouble(run(settings)))


async def _say_trouble(running: Coroutine[Any, Any, int]) -> int:
    try:
        return await running
    except ParsewireError as error:
        log.error("process_failed", code=error.code.value, error=error.message)
    except OSError as error:
        log.error("process_failed", error=str(error) or type(error).__name__)
    return FAILED


def die_with(parent: int) -> None:
    """End this process when `parent` does: by the kernel on Linux, elsewhere by looking."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        raise typer.Exit(FAILED)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
