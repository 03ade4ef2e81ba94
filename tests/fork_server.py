"""A process that has imported what every verb needs, and forks: `python -m tests.fork_server FD`.

A process of Parsewire spends a second of processor time on its imports, and the tests start some
hundreds. Each child is what `python -P -m MODULE ...` makes, with a session, an environment, a
folder and output of its own; only the seed of its hashes is that of its siblings.
"""

import ctypes
import gc
import importlib
import os
import runpy
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

MAIN = "services.cli.main"
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until nobody is left to ask; in a child, be what was asked for."""
    importlib.import_module(MAIN)
    # It is to be run, as by the command line, and not only imported.
    del sys.modules[MAIN]
    gc.collect()
    gc.freeze()
    server = os.getpid()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        received = _serve(control)
    if received is not None:
        module = _become(server, *received)
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _serve(control: socket.socket) -> list[int] | None:
    """Fork a child for each byte that comes, and say its exit code on the first of its files.

    Give those files in the child, None once nobody can ask any more.
    """
    reports: dict[int, socket.socket] = {}
    ended, ends = socket.socketpair()
    ends.setblocking(False)
    with ended, ends:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(ends.fileno())
        while True:
            for ready in select.select([control, ended], [], [])[0]:
                if ready is ended:
                    ended.recv(4096)
                    _report_ends(reports)
                    continue
                asked, files, _, _ = socket.recv_fds(control, 1, 3)
                if not asked:
                    return None
                assert _threads() == 1, "a fork would lose the others"
                if (pid := os.fork()) == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for report in reports.values():
                        report.close()
                    return files
                reports[pid] = socket.socket(fileno=files[0])
                for file in files[1:]:
                    os.close(file)


def _report_ends(reports: dict[int, socket.socket]) -> None:
    while reports:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        # Whoever asked may have gone since.
        with reports.pop(pid) as report, suppress(OSError):
            report.sendall(b"code %d\n" % os.waitstatus_to_exitcode(status))


def _threads() -> int:
    tasks = Path("/proc/self/task")
    return sum(1 for _ in tasks.iterdir()) if tasks.exists() else threading.active_count()


def _become(server: int, report: int, output: int, errors: int) -> str:
    """Take on what the order says, and give the module to run."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        sys.exit("the server is gone")
    for file, number in ((output, 1), (errors, 2)):
        os.dup2(file, number)
        os.close(file)
    with socket.socket(fileno=report) as asker:
        order: Any = orjson.loads(asker.makefile("rb").readline())
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["folder"])
        sys.argv[1:] = order["arguments"]
        asker.sendall(b"pid %d\n" % os.getpid())
    return str(order["module"])


if __name__ == "__main__":
    main()
