"""A process that is forked for the tests is what the command would have made."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.processes import Ended, FleetProcess, environment_of, run_verb

PORTRAIT = "tests.doubles.self_portrait"


async def commanded(*arguments: str, folder: Path) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment_of({"mode": "mock"}),
        cwd=folder,
        start_new_session=True,
    )
    async with asyncio.timeout(30):
        printed, complained = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, printed, complained)


async def forked(module: str, *arguments: str, folder: Path) -> Ended:
    return await run_verb(
        *arguments, environment=environment_of({"mode": "mock"}), folder=folder, module=module
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process its open files")
async def test_a_fork_is_what_the_command_makes(tmp_path: Path) -> None:
    real = await commanded(PORTRAIT, "3", "a b", folder=tmp_path)
    forks = [await forked(PORTRAIT, "3", "a b", folder=tmp_path) for _ in range(2)]
    seen: list[Any] = [orjson.loads(each.printed) for each in (real, *forks)]
    assert len({each.pop("chance") for each in seen}) == 3
    assert seen[0]["name"] == "__main__"
    assert seen[0]["environment"]["PARSEWIRE_MODE"] == "mock"
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]
    assert {each[::2] for each in (real, *forks)} == {(3, b"said\n")}


async def test_a_verb_fails_alike(tmp_path: Path) -> None:
    arguments = ("services.cli.main", "worker", "--only", "reader")
    real = await commanded(*arguments, folder=tmp_path)
    assert real.code == 2
    assert await forked(*arguments, folder=tmp_path) == real


async def test_it_ends_by_a_signal_and_is_told_of_it(tmp_path: Path) -> None:
    process = FleetProcess("worker", "worker", tmp_path, {"data_dir": tmp_path})
    await process.start()
    process.signal(signal.SIGKILL)
    assert await process.wait(10) == -signal.SIGKILL
    assert not process.alive()
    await process.no_children_left()
