"""The local parser's child processes: deadlines, deaths, cancellation, and no orphans."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from schemas.errors import Code, TransientError
from schemas.events import ParseOptions
from streams.parsers.base import Document
from streams.parsers.lite_links import open_links
from streams.parsers.liteparse import LiteParser, open_lite_parser
from tests.pdfs import text_pdf

ROOT = Path(__file__).parents[2]
DOUBLE = (sys.executable, str(ROOT / "tests" / "doubles" / "lite_child_double.py"))

Write = Callable[[str], Document]


@pytest.fixture
def order(tmp_path: Path) -> Write:
    def write(text: str) -> Document:
        path = tmp_path / text
        path.write_text(text)
        return Document("j", "acme", 1, path, "0" * 64, 1, "application/pdf", ParseOptions())

    return write


@asynccontextmanager
async def open_double(slots: int, timeout_seconds: float) -> AsyncIterator[LiteParser]:
    async with open_lite_parser(
        slots=slots, max_pages=10, timeout_seconds=timeout_seconds, command=DOUBLE
    ) as parser:
        yield parser


async def pid_of(parser: LiteParser, given: Document) -> int:
    return int((await parser.parse(given)).pages[0].text.removeprefix("pid "))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def dead(pid: int) -> None:
    async with asyncio.timeout(20):
        while alive(pid):  # noqa: ASYNC110  a foreign process's death gives no event
            await asyncio.sleep(0.01)


async def test_a_child_is_used_again_and_stopped_at_the_end(order: Write) -> None:
    async with open_double(1, 60) as parser:
        first = await pid_of(parser, order("answer"))
        assert await pid_of(parser, order("answer")) == first
        assert alive(first)
    assert not alive(first)


async def test_a_child_that_hangs_is_killed_at_the_deadline(order: Write) -> None:
    async with open_double(1, 0.3) as parser:
        first = await pid_of(parser, order("answer"))
        with pytest.raises(TransientError, match=r"within 0\.3 s") as caught:
            await parser.parse(order("hang"))
        assert caught.value.code == Code.PARSE_TIMEOUT
        await dead(first)
        assert await pid_of(parser, order("answer")) != first


async def test_the_wait_for_a_child_does_not_count(order: Write) -> None:
    async with open_double(1, 0.4) as parser:
        hanging = [asyncio.create_task(parser.parse(order("hang"))) for _ in range(3)]
        await asyncio.sleep(0)
        assert await asyncio.wait_for(pid_of(parser, order("answer")), 30) > 0
        ends = await asyncio.gather(*hanging, return_exceptions=True)
    assert [getattr(end, "code", None) for end in ends] == [Code.PARSE_TIMEOUT] * 3


@pytest.mark.parametrize("how", ["die", "die_midway"])
async def test_a_child_that_dies_is_a_crash_and_is_replaced(order: Write, how: str) -> None:
    async with open_double(1, 60) as parser:
        first = await pid_of(parser, order("answer"))
        with pytest.raises(TransientError, match="died") as caught:
            await parser.parse(order(how))
        assert caught.value.code == Code.PARSER_CRASHED
        assert await pid_of(parser, order("answer")) != first


async def test_a_child_that_died_idle_is_nobodys_failure(order: Write) -> None:
    async with open_double(1, 60) as parser:
        first = await pid_of(parser, order("answer"))
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(20):
            while parser._idle[0].idle:  # noqa: ASYNC110  the notice comes without an event
                await asyncio.sleep(0.01)
        assert await pid_of(parser, order("answer")) != first


async def test_an_error_that_is_not_known_is_not_the_documents_fault(order: Write) -> None:
    async with open_double(1, 60) as parser:
        with pytest.raises(TransientError) as caught:
            await parser.parse(order("unknown_error"))
        assert caught.value.code == Code.PARSER_CRASHED
        assert "moon" not in caught.value.message


async def test_cancelling_kills_the_child_and_frees_the_slot_at_once(order: Write) -> None:
    async with open_double(1, 3600) as parser:
        first = await pid_of(parser, order("answer"))
        task = asyncio.create_task(parser.parse(order("hang")))
        waiting = asyncio.create_task(pid_of(parser, order("answer")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await dead(first)
        assert await asyncio.wait_for(waiting, 30) != first


async def test_closing_ends_the_busy_ones_too(order: Write) -> None:
    async with open_double(2, 3600) as parser:
        pids = await asyncio.gather(*(pid_of(parser, order("answer")) for _ in range(2)))
        tasks = [asyncio.create_task(parser.parse(order("hang"))) for _ in range(3)]
        async with asyncio.timeout(10):
            while len(parser._busy) < 2:  # noqa: ASYNC110  one turn of the loop, or a few
                await asyncio.sleep(0)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    codes = sorted(getattr(end, "code", "") for end in ends)
    assert codes == [Code.PARSER_CRASHED, Code.PARSER_CRASHED, Code.SHUTDOWN]
    for pid in pids:
        assert not alive(pid)


async def test_a_command_that_does_not_start_is_said() -> None:
    with pytest.raises(TransientError, match="died"):
        async with open_lite_parser(
            slots=2, max_pages=10, timeout_seconds=1, command=(sys.executable, "-c", "print()")
        ):
            pytest.fail("it cannot have started")


async def test_the_real_child_is_stopped_in_native_code(tmp_path: Path) -> None:
    line = "many words of many pages that nobody will wait for"
    path = tmp_path / "long"
    path.write_bytes(text_pdf([[line] * 40] * 2000, "slow"))
    given = Document("j", "acme", 1, path, "0" * 64, 1, "application/pdf", ParseOptions())
    async with open_lite_parser(slots=1, max_pages=5000, timeout_seconds=0.2) as parser:
        with pytest.raises(TransientError) as caught:
            await parser.parse(given)
        assert caught.value.code == Code.PARSE_TIMEOUT
        path.write_bytes(text_pdf([["short"]], "fast"))
        assert (await parser.parse(given)).pages[0].text.startswith("short")


async def test_what_native_code_prints_does_not_disturb_the_frames(tmp_path: Path) -> None:
    child = ROOT / "streams" / "parsers" / "lite_child.py"
    noisy = tmp_path / "noisy_child.py"
    noisy.write_text(
        "import os, runpy\n"
        "dup = os.dup\n"
        "import liteparse._liteparse as native\n"
        "class Noisy:\n"
        "    def __init__(self, **kw): self.inner = Real(**kw)\n"
        "    def open_batch_session(self, *args):\n"
        "        os.write(1, b'noise on stdout\\n')\n"
        "        return self.inner.open_batch_session(*args)\n"
        "Real, native.LiteParse = native.LiteParse, Noisy\n"
        f"runpy.run_path({str(child)!r}, run_name='__main__')\n"
    )
    path = tmp_path / "quiet"
    path.write_bytes(text_pdf([["words"]], "noise"))
    given = Document("j", "acme", 1, path, "0" * 64, 1, "application/pdf", ParseOptions())
    async with open_lite_parser(
        slots=1, max_pages=10, timeout_seconds=30, command=(sys.executable, str(noisy))
    ) as parser:
        assert (await parser.parse(given)).pages[0].text.startswith("words")


@pytest.mark.parametrize("pages", [0, 4000])
async def test_children_do_not_outlive_their_parent(tmp_path: Path, pages: int) -> None:
    path = tmp_path / "long"
    path.write_bytes(text_pdf([["many words"] * 40] * pages, "orphan"))
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from schemas.events import ParseOptions\n"
        "from streams.parsers.base import Document\n"
        "from streams.parsers.liteparse import open_lite_parser\n"
        "async def main():\n"
        "    async with open_lite_parser(slots=1, max_pages=9999, timeout_seconds=3600) as p:\n"
        "        child = p._idle[0].pid\n"
        "        given = Document('j', 'acme', 1, Path(sys.argv[1]), '0' * 64, 1,\n"
        "                         'application/pdf', ParseOptions())\n"
        "        if int(sys.argv[2]):\n"
        "            task = asyncio.create_task(p.parse(given))\n"
        "            fds = Path(f'/proc/{child}/fd')\n"
        "            while not any(name.resolve() == Path(sys.argv[1]).resolve()\n"
        "                          for name in (*fds.glob('*'), *p._links.iterdir())):\n"
        "                await asyncio.sleep(0.001)\n"
        "        print(child, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        str(path),
        str(pages),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 30))
    assert alive(pid)
    parent.kill()
    await asyncio.wait_for(parent.wait(), 30)
    await dead(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whom it ends first")
async def test_a_child_is_ended_before_anybody_else_where_memory_runs_out() -> None:
    async with open_lite_parser(slots=1, max_pages=10, timeout_seconds=60) as parser:
        (child,) = parser._idle
        score = await asyncio.to_thread(Path(f"/proc/{child.pid}/oom_score_adj").read_text)
    assert score == "1000\n"


async def test_the_memory_limit_holds_in_the_child() -> None:
    with pytest.raises(TransientError) as caught:
        async with open_lite_parser(
            slots=1, max_pages=10, timeout_seconds=60, memory_limit_bytes=20_000_000
        ):
            pytest.fail("LiteParse does not fit into 20 MB")
    # Its native threads die for want of memory, or leave it waiting for one that never began.
    assert caught.value.code in (Code.PARSER_CRASHED, Code.PARSER_UNAVAILABLE)


def test_the_links_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    with open_links(tmp_path) as living:
        dead = tmp_path / "parsewire-links-dead"
        dead.mkdir()
        (dead / "1.pdf").symlink_to(tmp_path / "nowhere")
        foreign = tmp_path / "another"
        young = tmp_path / "parsewire-links-young"
        foreign.mkdir()
        young.mkdir()
        for folder in (living, dead, foreign):
            os.utime(folder, (1, 1))
        with open_links(tmp_path) as mine:
            assert set(tmp_path.iterdir()) == {living, mine, foreign, young}
    assert set(tmp_path.iterdir()) == {foreign, young}


async def test_a_look_that_hangs_is_killed_and_its_slot_comes_free(order: Write) -> None:
    async with open_double(1, 0.3) as parser:
        first = await pid_of(parser, order("answer"))
        with pytest.raises(TransientError) as caught:
            await parser.looks_scanned(order("hang"))
        assert caught.value.code == Code.PARSE_TIMEOUT
        await dead(first)
        assert await pid_of(parser, order("answer")) != first
